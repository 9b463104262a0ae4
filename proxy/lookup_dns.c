#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unbound.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/resolvers.h"
#include "proxy/lookup_ad.h"
#include "proxy/lookup_answer.h"
#include "proxy/lookup_dns.h"

#define CLASS_IN	1
#define HOSTS		"/etc/hosts"
#define HOSTS_MAX	(1u << 20)
#define ANCHORS_MAX	100u

/* libunbound's own: with /etc/hosts, and without. */
#define CONTEXTS	2
static struct resolver {
	struct ub_ctx *ctx;
	struct event event;
} resolvers[CONTEXTS];

/* On its way through the resolver. */
struct dns_question {
	dns_done *done;
	void *arg;
	struct ad_question *ad;	/* NULL: libunbound has it */
	struct ub_ctx *ctx;
	int id;			/* of the context's numbers */
};

static bool ad_trusted;
static char unproven[DNSSEC_WHY_MAX];	/* why nothing is */

static const char *const options[][2] = {
	/* Many inside resolvers live here, and on 127.0.0.53. */
	{ "do-not-query-localhost:", "no" },
	/* Addresses of the inside network have names, too. */
	{ "unblock-lan-zones:", "yes" },
	{ "insecure-lan-zones:", "yes" },
	/* The first line of /etc/hosts counts. */
	{ "rrset-roundrobin:", "no" },
	/* A library's defaults are for a few questions at a time. */
	{ "outgoing-range:", "512" },
	{ "num-queries-per-thread:", "4096" },
	{ "msg-cache-size:", "4m" },
	{ "rrset-cache-size:", "8m" },
	/* A name that failed is worth asking again soon. */
	{ "infra-host-ttl:", "60" },
};

static void
dns_must(int rc, const char *what)
{
	if (rc != 0)
		fatal("name resolver: %s: %s", what, ub_strerror(rc));
}

/* A line of /etc/hosts. */
struct dns_host {
	struct netaddr addr;
	struct view name;
};

static int
dns_compare(const void *a, const void *b)
{
	const struct dns_host *x = a, *y = b;
	int order = memcmp(x->addr.b, y->addr.b, sizeof x->addr.b);

	if (order == 0)
		order = (x->addr.family > y->addr.family) -
		    (x->addr.family < y->addr.family);
	/* Equal addresses stay in the order of the file. */
	return order != 0 ? order : (x->name.p > y->name.p) -
	    (x->name.p < y->name.p);
}

/* The first name of each address leads back from it. */
static void
dns_reverse(struct ub_ctx *ctx, struct dns_host *list, size_t n)
{
	char reverse[ANSWER_REVERSE_MAX], *record;
	size_t i;

	qsort(list, n, sizeof *list, dns_compare);
	for (i = 0; i < n; i++) {
		if (i > 0 && netaddr_equal(&list[i].addr, &list[i - 1].addr))
			continue;
		answer_reverse(&list[i].addr, reverse);
		record = mem_printf("%s. 3600 IN PTR %.*s.", reverse,
		    VIEW_ARGS(list[i].name));
		if (ub_ctx_data_add(ctx, record) != 0)
			log_warn("%s: not used: %.*s", HOSTS,
			    VIEW_ARGS(list[i].name));
		free(record);
	}
}

/*
 * libunbound takes names to addresses from /etc/hosts, but not the reverse.
 * Adding to its data closes its settings, so this comes last.
 */
static void
dns_hosts(struct ub_ctx *ctx)
{
	struct dns_host *list;
	struct view rest;
	size_t count = 0, n;
	char *text;
	ssize_t got;
	int fd = open(HOSTS, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		if (errno != ENOENT)
			log_warn("%s: %s", HOSTS, strerror(errno));
		return;
	}
	text = mem_alloc(HOSTS_MAX);
	got = read(fd, text, HOSTS_MAX);
	close(fd);
	rest = view_make(text, got > 0 ? (size_t)got : 0);
	/* An address and a name take four bytes and a line end. */
	list = mem_array(rest.n / 5 + 1, sizeof *list);
	while (rest.n > 0) {
		n = view_find(rest, '\n');
		if (answer_hosts_line(view_head(rest, n), &list[count].addr,
		    &list[count].name))
			count++;
		rest = view_from(rest, n + 1);
	}
	dns_reverse(ctx, list, count);
	free(list);
	free(text);
}

/*
 * The anchors are read here: libunbound would open the file with its first
 * question, which is inside the jail.
 */
static void
dns_anchors(struct ub_ctx *ctx, const char *path)
{
	char *line = NULL, *p;
	size_t room = 0, n = 0;
	FILE *f;

	dns_must(ub_ctx_set_option(ctx, "module-config:",
	    path[0] != '\0' ? "validator iterator" : "iterator"), "modules");
	if (path[0] == '\0')
		return;
	f = fopen(path, "re");
	if (f == NULL)
		fatal("dns_trust_anchor_file: %s: %s", path, strerror(errno));
	while (n < ANCHORS_MAX && getline(&line, &room, f) > 0) {
		line[strcspn(line, ";\r\n")] = '\0';
		for (p = line; *p == ' ' || *p == '\t'; p++)
			;
		if (*p == '\0')
			continue;
		dns_must(ub_ctx_add_ta(ctx, p), path);
		n++;
	}
	if (ferror(f) || n == 0)
		fatal("dns_trust_anchor_file: %s: no anchors", path);
	free(line);
	(void)fclose(f);
}

static struct ub_ctx *
dns_context(const struct conf *cf, bool hosts)
{
	struct ub_ctx *resolver = ub_ctx_create();
	struct view rest = view_of(cf->dns_resolvers), word;
	char *address;
	size_t i;
	int rc;

	if (resolver == NULL)
		fatal("name resolver: cannot be made");
	(void)ub_ctx_debugout(resolver, NULL);
	for (i = 0; i < sizeof options / sizeof options[0]; i++)
		dns_must(ub_ctx_set_option(resolver, options[i][0],
		    options[i][1]), options[i][0]);
	dns_anchors(resolver, cf->dns_trust_anchor_file);
	if (rest.n == 0) {
		rc = ub_ctx_resolvconf(resolver, RESOLV_CONF);
		if (rc != 0 && hosts)
			log_warn("%s: %s", RESOLV_CONF, ub_strerror(rc));
	}
	while ((word = conf_word(&rest)).n > 0) {
		address = mem_copy(word);
		rc = ub_ctx_set_fwd(resolver, address);
		if (rc != 0)
			fatal("dns_resolvers: %s: %s", address,
			    ub_strerror(rc));
		free(address);
	}
	dns_must(ub_ctx_async(resolver, 1), "threads");
	rc = hosts ? ub_ctx_hosts(resolver, HOSTS) : 0;
	if (rc != 0)
		log_warn("%s: %s", HOSTS, ub_strerror(rc));
	/* RFC 6761 section 6.4.  The first data closes the settings, and here
	 * shows whether they are good. */
	rc = ub_ctx_zone_add(resolver, "invalid.", "static");
	if (rc != 0)
		fatal("name resolver: %s%s%s", ub_strerror(rc),
		    cf->dns_trust_anchor_file[0] != '\0' ? ": look at " : "",
		    cf->dns_trust_anchor_file);
	if (hosts)
		dns_hosts(resolver);
	return resolver;
}

void
dns_load(const struct conf *cf)
{
	char why[DNSSEC_WHY_MAX];
	enum dnssec_trust trust;
	struct resolvers r;

	resolvers[DNS_AND_HOSTS].ctx = dns_context(cf, true);
	resolvers[DNS_ONLY].ctx = dns_context(cf, false);
	resolvers_find(cf, &r);
	trust = dnssec_trust(cf, &r, why);
	if (trust != DNSSEC_NONE)
		log_info("DNSSEC: %s", why);
	else
		memcpy(unproven, why, sizeof why);
	ad_trusted = trust == DNSSEC_AD;
	if (ad_trusted)
		ad_load(cf, &r);
}

static void
dns_on_answer(evutil_socket_t fd, short what, void *arg)
{
	const struct resolver *r = arg;
	int rc = ub_process(r->ctx);

	(void)fd;
	(void)what;
	if (rc != 0)
		fatal("name resolver: %s", ub_strerror(rc));
}

void
dns_start(void)
{
	struct resolver *r;
	size_t i;

	for (i = 0; i < CONTEXTS; i++) {
		r = &resolvers[i];
		event_assign(&r->event, loop_base(), ub_fd(r->ctx),
		    EV_READ | EV_PERSIST, dns_on_answer, r);
		event_add(&r->event, NULL);
	}
	if (ad_trusted)
		ad_start();
}

/*
 * Only a clear answer may say that something does not exist: all else is a
 * failure, after which mail waits instead of being returned.
 */
static void
dns_read(const struct ub_result *r, struct dns_answer *a)
{
	const int name_error = 3;
	size_t i;

	a->bogus = r->bogus != 0;
	if (r->bogus) {
		log_warn("DNS: %s: not valid: %s",
		    log_safe(view_of(r->qname != NULL ? r->qname : "?")),
		    log_safe(view_of(r->why_bogus != NULL ? r->why_bogus :
		    "no reason given")));
		return;
	}
	a->secure = r->secure != 0;
	if (r->havedata) {
		a->name = view_of(r->canonname != NULL ? r->canonname :
		    r->qname);
		if (a->name.n > 0 && a->name.p[a->name.n - 1] == '.')
			a->name.n--;
		for (i = 0; a->n < DNS_RECORDS_MAX && r->data[i] != NULL; i++)
			if (r->len[i] >= 0)
				a->data[a->n++] = view_make(r->data[i],
				    (size_t)r->len[i]);
		a->status = a->n > 0 ? DNS_FOUND : DNS_FAILED;
	} else if (r->nxdomain || r->rcode == name_error) {
		a->status = DNS_NO_NAME;
	} else if (r->rcode == 0) {
		a->status = DNS_NO_DATA;
	}
}

static void
dns_callback(void *arg, int error, struct ub_result *r)
{
	struct dns_answer a;
	struct dns_question *q = arg;

	a.status = DNS_FAILED;
	a.bogus = a.secure = false;
	a.name = view_of("");
	a.n = 0;
	if (error == 0 && r != NULL)
		dns_read(r, &a);
	q->done(&a, q->arg);
	free(q);
	ub_resolve_free(r);
}

static void
dns_on_ad(const struct dns_answer *a, void *arg)
{
	struct dns_question *q = arg;

	q->done(a, q->arg);
	free(q);
}

struct dns_question *
dns_ask(const char *name, enum dns_type type, enum dns_source source,
    dns_done *done, void *arg)
{
	struct dns_question *q = mem_alloc(sizeof *q);
	int rc;

	q->done = done;
	q->arg = arg;
	if (source == DNS_PROVEN && unproven[0] != '\0') {
		log_warn("DNSSEC: nothing is proven, so that there is no "
		    "DANE: %s", unproven);
		unproven[0] = '\0';	/* once is enough */
	}
	if (source == DNS_PROVEN && ad_trusted) {
		q->ad = ad_ask(name, type, dns_on_ad, q);
		if (q->ad == NULL) {
			free(q);
			return NULL;
		}
		return q;
	}
	q->ctx = resolvers[source == DNS_AND_HOSTS ? source : DNS_ONLY].ctx;
	/* With a thread, no answer can come before the next ub_process(). */
	rc = ub_resolve_async(q->ctx, name, (int)type, CLASS_IN, q,
	    dns_callback, &q->id);
	if (rc != 0) {
		log_warn("name resolver: %s: %s", log_safe(view_of(name)),
		    ub_strerror(rc));
		free(q);
		return NULL;
	}
	return q;
}

void
dns_cancel(struct dns_question **q)
{
	if ((*q)->ad != NULL)
		ad_cancel(&(*q)->ad);
	else
		(void)ub_cancel((*q)->ctx, (*q)->id);
	free(*q);
	*q = NULL;
}
