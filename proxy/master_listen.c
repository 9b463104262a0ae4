#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/conf_choice.h"
#include "lib/mem.h"
#include "proxy/master_listen.h"

#define BACKLOG		4096	/* the kernel lowers it to somaxconn */

struct listen_work {
	struct listen_set *set;
	const struct plan_entry *entry;
	const struct reporter *r;
	bool v4, v6;
	/* "all" means what the machine has: a missing family is no error. */
	bool lenient;
	bool ok;
};

const char *
listen_text(const struct netaddr *a, char buf[LISTEN_TEXT])
{
	char text[NETADDR_TEXT];

	snprintf(buf, LISTEN_TEXT, a->family == AF_INET6 ? "[%s]:%u" : "%s:%u",
	    netaddr_text(a, text), a->port);
	return buf;
}

static void
listen_add(struct listen_work *w, const struct netaddr *a)
{
	struct listen_set *set = w->set;
	char text[LISTEN_TEXT];
	size_t i;

	if (a->family == AF_INET ? !w->v4 : !w->v6)
		return;
	for (i = 0; i < set->n; i++) {
		if (!netaddr_equal(&set->list[i].addr, a) ||
		    set->list[i].addr.port != a->port)
			continue;
		if (set->list[i].service == w->entry->service)
			return;
		report_error(w->r, "master.cf:%u: %s is already taken by "
		    "service %s", w->entry->line, listen_text(a, text),
		    set->list[i].name);
		w->ok = false;
		return;
	}
	if (set->n == LISTEN_MAX) {
		report_error(w->r, "master.cf:%u: more than %u addresses to "
		    "listen on", w->entry->line, LISTEN_MAX);
		w->ok = false;
		return;
	}
	set->list = mem_resize(set->list, set->n + 1, sizeof *set->list);
	set->list[set->n++] = (struct listener){ .addr = *a, .fd = -1,
		.service = w->entry->service,
		.name = mem_strdup(w->entry->name) };
}

static void
listen_host(struct listen_work *w, struct view host, uint16_t port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *ai;
	struct netaddr a;
	size_t before = w->set->n;
	char *name;
	int rc;

	if (netaddr_parse(host, &a)) {
		a.port = port;
		listen_add(w, &a);
		return;
	}
	name = mem_copy(host);
	hints.ai_family = !w->v6 ? AF_INET : !w->v4 ? AF_INET6 : AF_UNSPEC;
	rc = getaddrinfo(name, NULL, &hints, &list);
	if (rc != 0) {
		report_error(w->r, "master.cf:%u: service %s: host %s: %s",
		    w->entry->line, w->entry->name, name, gai_strerror(rc));
		w->ok = false;
		free(name);
		return;
	}
	for (ai = list; ai != NULL; ai = ai->ai_next) {
		a = netaddr_from_sockaddr(ai->ai_addr, ai->ai_addrlen);
		a.port = port;
		if (a.family != 0)
			listen_add(w, &a);
	}
	freeaddrinfo(list);
	if (w->set->n == before && w->ok)
		report_warn(w->r, "master.cf:%u: service %s: host %s gave no "
		    "new address", w->entry->line, w->entry->name, name);
	free(name);
}

static void
listen_interfaces(struct listen_work *w, const char *interfaces, uint16_t port)
{
	struct netaddr any4 = { .family = AF_INET, .port = port };
	struct netaddr any6 = { .family = AF_INET6, .port = port };
	struct view rest = view_of(interfaces), word;

	while ((word = conf_word(&rest)).n > 0) {
		if (view_is_nocase(word, "all")) {
			listen_add(w, &any4);
			listen_add(w, &any6);
		} else if (view_is_nocase(word, "loopback-only")) {
			listen_host(w, view_of("127.0.0.1"), port);
			listen_host(w, view_of("::1"), port);
		} else {
			listen_host(w, word, port);
		}
	}
}

static void
listen_service(struct listen_work *w, const struct conf *cf)
{
	struct view host;
	uint16_t port = 0;

	if (!netaddr_split_hostport(view_of(w->entry->name), &host, &port, 0) ||
	    port == 0) {
		report_error(w->r, "master.cf:%u: bad address or port: %s",
		    w->entry->line, w->entry->name);
		w->ok = false;
		return;
	}
	if (host.n > 0)
		listen_host(w, host, port);
	else
		listen_interfaces(w, cf->inet_interfaces, port);
}

static bool
listen_protocols(struct listen_work *w, const char *protocols)
{
	uint32_t set = conf_choice("inet_protocols", view_of(protocols));

	w->v4 = (set & PROTOCOL_IPV4) != 0;
	w->v6 = (set & PROTOCOL_IPV6) != 0;
	w->lenient = (set & PROTOCOL_PRESENT) != 0;
	if (!w->v4 && !w->v6) {
		report_error(w->r, "main.cf: inet_protocols is empty");
		return false;
	}
	return true;
}

/* A kernel without IPv6 and "inet_protocols = all" is a usual combination. */
static bool
listen_have_ipv6(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno != EAFNOSUPPORT;
	close(fd);
	return true;
}

struct listen_set *
listen_resolve(const struct plan *p, const struct conf *cf,
    const struct reporter *r)
{
	struct listen_work w = { .r = r, .ok = true };
	size_t i;

	w.set = mem_alloc(sizeof *w.set);
	if (!listen_protocols(&w, cf->inet_protocols)) {
		listen_free(&w.set);
		return NULL;
	}
	if (w.lenient && w.v6 && !listen_have_ipv6())
		w.v6 = false;
	for (i = 0; i < p->n; i++)
		if (p->list[i].kind == ROLE_SMTPD) {
			w.entry = &p->list[i];
			listen_service(&w, cf);
		}
	if (!w.ok)
		listen_free(&w.set);
	return w.set;
}

static int
listen_open(const struct netaddr *a)
{
	struct sockaddr_storage ss;
	socklen_t n = netaddr_to_sockaddr(a, &ss);
	int on = 1, fd, saved;

	fd = socket(a->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
	    (a->family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6,
	    IPV6_V6ONLY, &on, sizeof on) == 0) &&
	    bind(fd, (struct sockaddr *)&ss, n) == 0 &&
	    listen(fd, BACKLOG) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

bool
listen_bind(struct listen_set *set, const struct listen_set *have,
    const struct reporter *r)
{
	char text[LISTEN_TEXT];
	struct listener *l;
	bool ok = true;
	size_t i, k;

	for (i = 0; i < set->n; i++) {
		l = &set->list[i];
		for (k = 0; have != NULL && k < have->n && l->fd < 0; k++)
			if (netaddr_equal(&l->addr, &have->list[k].addr) &&
			    l->addr.port == have->list[k].addr.port)
				l->fd = fcntl(have->list[k].fd,
				    F_DUPFD_CLOEXEC, 3);
		if (l->fd < 0)
			l->fd = listen_open(&l->addr);
		if (l->fd < 0) {
			report_error(r, "cannot listen on %s (service %s): %s",
			    listen_text(&l->addr, text), l->name,
			    strerror(errno));
			ok = false;
		}
	}
	return ok;
}

void
listen_free(struct listen_set **setp)
{
	struct listen_set *set = *setp;
	size_t i;

	*setp = NULL;
	if (set == NULL)
		return;
	for (i = 0; i < set->n; i++) {
		if (set->list[i].fd >= 0)
			close(set->list[i].fd);
		free(set->list[i].name);
	}
	free(set->list);
	free(set);
}
