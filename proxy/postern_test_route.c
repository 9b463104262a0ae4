/* postern test: where mail would go, and whether somebody answers there. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/mem.h"
#include "lib/own_addr.h"
#include "proxy/postern_talk.h"
#include "proxy/postern_test.h"
#include "rules/route.h"

#define SMTP_PORT	25
#define HOPS_MAX	8u
#define ADDRESSES_MAX	4u	/* of a next hop, that are tried */
#define TEXT_MAX	4096u

struct hop {
	char *transport, *nexthop;
};

struct hops {
	struct hop list[HOPS_MAX];
	size_t n;
};

/* -- one next hop ---------------------------------------------------------- */

struct reach {
	const struct hop *hop;
	char *host;
	uint16_t port;
};

static bool
reach_address(struct selftest *s, const struct reach *r,
    const struct netaddr *a)
{
	struct talk *t = mem_alloc(sizeof *t);
	int code = 0;

	if (talk_open(t, a, false, s->limit_ms))
		code = talk_reply(t);
	if (code == 220) {
		(void)talk_say(t, "QUIT");
		selftest_mark(s, MARK_OK, NULL, "the next hop %s answers",
		    r->hop->nexthop);
	} else if (code != 0) {
		selftest_mark(s, MARK_FAILED, NULL, "the next hop %s does "
		    "not want us: %s", r->hop->nexthop,
		    log_safe(view_head(view_of(t->reply), 300)));
	} else {
		printf("    (%s: %s)\n", r->host, t->why);
	}
	talk_close(t);
	free(t);
	return code != 0;
}

static void
reach_run(struct selftest *s, const void *arg)
{
	const struct reach *r = arg;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL, *ai;
	int rc = getaddrinfo(r->host, NULL, &hints, &list);
	struct netaddr a;
	unsigned n = 0;

	if (rc != 0) {
		selftest_mark(s, MARK_FAILED, NULL, "the next hop %s: %s",
		    r->hop->nexthop, gai_strerror(rc));
		return;
	}
	for (ai = list; ai != NULL && n < ADDRESSES_MAX; ai = ai->ai_next) {
		a = netaddr_from_sockaddr(ai->ai_addr, ai->ai_addrlen);
		if (a.family == 0)
			continue;
		a.port = r->port;
		n++;
		if (reach_address(s, r, &a))
			break;
	}
	if (ai == NULL || n == ADDRESSES_MAX)
		selftest_mark(s, MARK_FAILED, NULL, "the next hop %s cannot "
		    "be reached", r->hop->nexthop);
	freeaddrinfo(list);
}

/* "[host]:port" */
static bool
hop_host(const struct hop *h, struct reach *r)
{
	struct view v = view_of(h->nexthop), host;

	r->port = SMTP_PORT;
	if (v.n == 0 || v.p[0] != '[' || !netaddr_split_hostport(v, &host,
	    &r->port, SMTP_PORT))
		return false;
	/* IPv6 as of RFC 5321 section 4.1.3 */
	if (view_starts_nocase(host, "ipv6:"))
		host = view_from(host, 5);
	r->host = mem_copy(host);
	r->hop = h;
	return true;
}

static void
hop_socket(struct selftest *s, const struct hop *h)
{
	const char *name = h->nexthop + strlen("unix:");
	char *path = name[0] == '/' ? mem_strdup(name) : mem_printf("%s/%s",
	    s->cf->queue_directory, name);
	struct stat st;

	if (stat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		selftest_mark(s, MARK_OK, NULL, "the socket %s is there",
		    path);
	else
		selftest_mark(s, MARK_FAILED, NULL, "%s: no socket is there",
		    path);
	free(path);
}

static bool
hop_is_client(const struct selftest *s, const char *transport)
{
	const struct service_table *t = s->c->table;
	size_t i;

	for (i = 0; i < t->n; i++)
		if (strcmp(t->list[i].name, transport) == 0 &&
		    service_is_relay(&t->list[i]))
			return true;
	return false;
}

static void
hop_check(struct selftest *s, const struct hop *h)
{
	struct reach r = { .host = NULL };

	if (!hop_is_client(s, h->transport))
		return;
	if (strncmp(h->nexthop, "unix:", 5) == 0) {
		hop_socket(s, h);
	} else if (hop_host(h, &r)) {
		selftest_apart(s, reach_run, &r);
		free(r.host);
	} else {
		selftest_mark(s, MARK_NOTE, NULL, "%s: its mail exchangers "
		    "are looked up when there is mail", h->nexthop);
	}
}

/* -- all ------------------------------------------------------------------- */

static bool
hops_add(struct hops *l, const char *transport, const char *nexthop)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		if (strcmp(l->list[i].transport, transport) == 0 &&
		    strcmp(l->list[i].nexthop, nexthop) == 0)
			return false;
	if (l->n == HOPS_MAX)
		return false;
	l->list[l->n].transport = mem_strdup(transport);
	l->list[l->n++].nexthop = mem_strdup(nexthop);
	return true;
}

static void
hops_find(struct selftest *s, const struct router *r, struct hops *l,
    const char *addr)
{
	struct buf transport, nexthop;
	char *t, *n;

	if (addr == NULL)
		return;
	buf_init(&transport, TEXT_MAX);
	buf_init(&nexthop, TEXT_MAX);
	if (route_find(r, view_of(s->postmaster), view_of(addr), &transport,
	    &nexthop) == TABLE_FAILED) {
		selftest_mark(s, MARK_FAILED, selftest_place(s, s->cf,
		    "transport_maps"), "mail for %s: no route, because a "
		    "table does not answer", addr);
	} else {
		t = mem_copy(buf_view(&transport));
		n = mem_copy(buf_view(&nexthop));
		selftest_mark(s, strcmp(t, "error") == 0 ? MARK_NOTE :
		    MARK_OK, NULL, "mail for %s goes by %s%s%s", addr, t,
		    n[0] != '\0' ? " to " : "", log_safe(view_of(n)));
		if (hops_add(l, t, n))
			hop_check(s, &l->list[l->n - 1]);
		free(t);
		free(n);
	}
	buf_free(&transport);
	buf_free(&nexthop);
}

static void
route_silent(bool error, const char *text, void *arg)
{
	(void)error;
	(void)text;
	(void)arg;
}

void
selftest_next_hops(struct selftest *s)
{
	struct netaddr own[OWN_ADDR_MAX];
	size_t n = own_addresses(s->cf, own, OWN_ADDR_MAX);
	struct router *r = router_open(s->cf, own, n, route_silent, NULL);
	struct hops l = { .n = 0 };

	selftest_title("Next hops");
	if (r == NULL) {
		selftest_mark(s, MARK_FAILED, "`postern check`", "the tables "
		    "of routes cannot be opened");
		return;
	}
	if (s->cf->relayhost[0] == '\0')
		selftest_mark(s, MARK_NOTE, NULL, "there is no relayhost: "
		    "mail to other domains goes to their mail exchangers");
	hops_find(s, r, &l, s->postmaster);
	if (s->cf->relayhost[0] != '\0')
		hops_find(s, r, &l, s->stranger);
	hops_find(s, r, &l, s->to);
	hops_find(s, r, &l, s->remote);
	while (l.n > 0) {
		l.n--;
		free(l.list[l.n].transport);
		free(l.list[l.n].nexthop);
	}
	router_free(&r);
}

/* -- mail that users hand in ----------------------------------------------- */

/* A file without a name, read from its start. */
static int
hand_in_text(const char *text)
{
	int fd = memfd_create("message", MFD_CLOEXEC);
	size_t n = strlen(text);

	if (fd < 0 || write(fd, text, n) != (ssize_t)n ||
	    lseek(fd, 0, SEEK_SET) != 0)
		fatal("no memory for a message: %s", strerror(errno));
	return fd;
}

static int
hand_in_run(const struct selftest *s, const char *program, int fd,
    const char *to)
{
	int status = -1;
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (pid < 0)
		fatal("fork: %s", strerror(errno));
	if (pid == 0) {
		if (dup2(fd, STDIN_FILENO) < 0)
			_exit(127);
		(void)setenv("MAIL_CONFIG", s->config_dir, 1);
		(void)execl(program, "sendmail", "-oi", "-f", s->postmaster,
		    "--", to, (char *)NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void
selftest_hand_in(struct selftest *s, const char *to)
{
	char *program = postern_own_program(s->cf, "sendmail"), *text;
	int fd, status;

	if (s->probe) {
		selftest_mark(s, MARK_NOT_DONE, NULL, "nothing is sent: "
		    "--probe");
		free(program);
		return;
	}
	selftest_new_id(s);
	text = selftest_message(s, to, "Test of the mail gateway");
	fd = hand_in_text(text);
	printf("    $ MAIL_CONFIG=%s %s -oi -f %s %s\n", s->config_dir,
	    program, s->postmaster, to);
	status = hand_in_run(s, program, fd, to);
	close(fd);
	if (status == 0) {
		selftest_mark(s, MARK_OK, NULL, "sendmail has taken it");
		selftest_log_follow(s);
	} else {
		selftest_mark(s, MARK_FAILED, program, "sendmail ended with "
		    "status %d: see sysexits.h", status);
	}
	free(text);
	free(program);
}
