/*
 * The way to a mail domain (RFC 5321 section 5.1): its SRV hosts if that is
 * wanted (RFC 6186), its MX hosts, or the
 * domain itself if it has none, and their addresses.  "Not found" returns
 * mail to its sender, so it is said only if every answer was clear.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "proxy/lookup_answer.h"
#include "proxy/lookup_request.h"
#include "rules/idn.h"

#define TIMEOUT		30000	/* ms */
#define HOSTS_MAX	30u	/* MX hosts whose addresses are asked for */
#define FOUND_MAX	100u
#define ROUTES_MAX	2000u	/* requests open at once */
#define NATIVE		0x10000u	/* in a question's number */

#define SERVICE_MAX	63u

struct route_host {
	uint16_t preference;
	uint16_t port;			/* 0: that of the next hop */
	char name[ANSWER_NAME_MAX];
};

struct route_found {
	uint32_t host;
	struct netaddr addr;
};

struct route_request {
	struct lookup_request base;
	enum route_status status;	/* if no address is found */
	bool failed;			/* some answer was not clear */
	bool exists;			/* a name was there, without address */
	const char *type;		/* of the question that decided */
	const char *problem;		/* NULL: by the flags above */
	char domain[ANSWER_NAME_MAX];
	uint32_t flags;			/* enum route_flag */
	bool by_mx;			/* the hosts are MX hosts */
	uint32_t n_hosts, n_found;
	struct route_host hosts[HOSTS_MAX];
	struct route_found found[FOUND_MAX];
};

static bool ask_ipv4 = true, ask_ipv6 = true;

void
lookup_route_families(bool ipv4, bool ipv6)
{
	ask_ipv4 = ipv4;
	ask_ipv6 = ipv6;
}

static bool
route_has_address(const struct route_request *r, uint32_t host)
{
	uint32_t i;

	for (i = 0; i < r->n_found; i++)
		if (r->found[i].host == host)
			return true;
	return false;
}

/* An address, and the port if SRV tells one. */
static void
route_put_address(struct buf *b, const struct netaddr *a, uint16_t port)
{
	struct view bytes = netaddr_bytes(a);
	char both[18];

	memcpy(both, bytes.p, bytes.n);
	both[bytes.n] = (char)(port >> 8);
	both[bytes.n + 1] = (char)(port & 255);
	put_view(b, view_make(both, bytes.n + (port != 0 ? 2 : 0)));
}

static void
route_send(struct chan *chan, uint32_t tag, enum route_status status,
    const char *text, const struct route_request *r)
{
	const struct route_found *f;
	struct buf *b;
	uint32_t i, n = status == ROUTE_OK ? r->n_found : 0;
	/* Whoever is an MX behind it must not take that for a loop. */
	bool best = n > 0 && r->by_mx && !route_has_address(r, 0);

	b = chan_begin(chan, MSG_ROUTE_IS);
	put_u32(b, tag);
	put_u8(b, (uint8_t)status);
	put_view(b, view_of(text));
	put_u32(b, n + best);
	for (i = 0; i < n; i++) {
		f = &r->found[i];
		put_u16(b, r->hosts[f->host].preference);
		put_view(b, view_of(r->hosts[f->host].name));
		route_put_address(b, &f->addr, r->hosts[f->host].port);
	}
	if (best) {
		put_u16(b, r->hosts[0].preference);
		put_view(b, view_of(r->hosts[0].name));
		put_view(b, view_of(""));
	}
	chan_end(chan);
}

static void
route_ask_host(struct route_request *r, uint32_t which)
{
	enum dns_source source = (r->flags & ROUTE_NO_DNS) != 0 ?
	    DNS_AND_HOSTS : DNS_ONLY;
	const char *name = r->hosts[which].name;
	struct netaddr a;

	/* Against the rules, but met: the address in place of a name. */
	if (netaddr_parse(view_of(name), &a)) {
		if ((a.family == AF_INET ? ask_ipv4 : ask_ipv6) &&
		    r->n_found < FOUND_MAX)
			r->found[r->n_found++] =
			    (struct route_found){ which, a };
		return;
	}
	if (ask_ipv4)
		request_ask_of(&r->base, name, DNS_A, source, which);
	if (ask_ipv6)
		request_ask_of(&r->base, name, DNS_AAAA, source, which);
}

static void
route_domain_itself(struct route_request *r)
{
	r->n_hosts = 1;
	memcpy(r->hosts[0].name, r->domain, sizeof r->domain);
	route_ask_host(r, 0);
}

static const char malformed[] = "Malformed or unexpected name server reply";

static int
route_compare(const void *a, const void *b)
{
	const struct answer_srv *x = a, *y = b;

	return (x->priority > y->priority) - (x->priority < y->priority);
}

/* As an SRV record that tells neither weight nor port. */
static enum answer_name
route_record_mx(struct view data, struct answer_srv *ret)
{
	ret->weight = ret->port = 0;
	return answer_mx(data, &ret->priority, ret->target);
}

/*
 * The first HOSTS_MAX that MX or SRV records name, in their order.
 * ANSWER_ROOT: the only record says that there is none; ANSWER_BAD: no record
 * is of use.
 */
static enum answer_name
route_records(struct route_request *r, enum dns_type type,
    const struct dns_answer *a)
{
	struct answer_srv all[DNS_RECORDS_MAX];
	enum answer_name what;
	size_t n = 0, i;
	unsigned roots = 0;

	for (i = 0; i < a->n; i++) {
		what = type == DNS_MX ? route_record_mx(a->data[i], &all[n]) :
		    answer_srv(a->data[i], &all[n]);
		n += what == ANSWER_HOST;
		roots += what == ANSWER_ROOT;
	}
	if (n == 0)
		return roots == 1 && a->n == 1 ? ANSWER_ROOT : ANSWER_BAD;
	if (type == DNS_MX)
		qsort(all, n, sizeof all[0], route_compare);
	else
		answer_srv_order(all, n, arc4random_uniform);
	r->by_mx = type == DNS_MX;
	r->n_hosts = (uint32_t)(n < HOSTS_MAX ? n : HOSTS_MAX);
	r->type = "A";
	for (i = 0; i < r->n_hosts; i++) {
		/* That of SRV is settled: each is preferred to the next. */
		r->hosts[i].preference = type == DNS_MX ? all[i].priority :
		    (uint16_t)i;
		r->hosts[i].port = all[i].port;
		memcpy(r->hosts[i].name, all[i].target,
		    sizeof all[i].target);
		route_ask_host(r, (uint32_t)i);
	}
	return ANSWER_HOST;
}

static void
route_mx(struct route_request *r, const struct dns_answer *a)
{
	switch (route_records(r, DNS_MX, a)) {
	case ANSWER_HOST:
		break;
	case ANSWER_ROOT:
		r->status = ROUTE_NULL_MX;
		break;
	case ANSWER_BAD:
		if ((r->flags & ROUTE_IGNORE_MX) != 0) {
			r->type = "A";
			route_domain_itself(r);
			break;
		}
		r->failed = true;
		r->problem = malformed;
		break;
	}
}

/* By MX, unless only the hosts of this name are wanted. */
static void
route_domain(struct route_request *r)
{
	r->failed = false;
	r->type = (r->flags & ROUTE_MX) != 0 ? "MX" : "A";
	if ((r->flags & ROUTE_MX) != 0)
		request_ask_of(&r->base, r->domain, DNS_MX, DNS_ONLY, 0);
	else
		route_domain_itself(r);
}

/* There is none: as if it had not been asked for? */
static void
route_no_srv(struct route_request *r, bool failed, const char *problem)
{
	if ((r->flags & ROUTE_SRV_FALLBACK) != 0 ||
	    (failed && (r->flags & ROUTE_IGNORE_SRV) != 0)) {
		route_domain(r);
		return;
	}
	r->failed = failed;
	r->problem = problem;
}

static void
route_srv(struct route_request *r, const struct dns_answer *a)
{
	switch (route_records(r, DNS_SRV, a)) {
	case ANSWER_HOST:
		break;
	case ANSWER_ROOT:
		r->problem = "Service is not available";
		break;
	case ANSWER_BAD:
		route_no_srv(r, true, malformed);
		break;
	}
}

/* The DNS has nothing: this system may know. */
static bool
route_ask_native(struct route_request *r, enum dns_type type, uint32_t which)
{
	if ((r->flags & ROUTE_NATIVE) == 0 ||
	    (r->flags & ROUTE_NO_DNS) != 0 || (which & NATIVE) != 0)
		return false;
	request_ask_of(&r->base, r->hosts[which].name, type, DNS_AND_HOSTS,
	    which | NATIVE);
	return true;
}

static void
route_addresses(struct route_request *r, int family, uint32_t which,
    const struct dns_answer *a)
{
	struct netaddr addr;
	size_t i;

	for (i = 0; i < a->n && r->n_found < FOUND_MAX; i++) {
		if (answer_address(a->data[i], family, &addr))
			r->found[r->n_found++] =
			    (struct route_found){ which, addr };
		else
			r->failed = true;
	}
}

static void
route_answered(struct lookup_request *base, enum dns_type type,
    uint32_t which, const struct dns_answer *a)
{
	struct route_request *r = (struct route_request *)base;

	switch (type) {
	case DNS_SRV:
		if (a->status == DNS_FOUND)
			route_srv(r, a);
		else
			route_no_srv(r, a->status == DNS_FAILED, NULL);
		break;
	case DNS_MX:
		if (a->status == DNS_FAILED &&
		    (r->flags & ROUTE_IGNORE_MX) == 0)
			r->failed = true;
		else if (a->status == DNS_FOUND) {
			route_mx(r, a);
		} else {
			r->type = "A";
			route_domain_itself(r);
		}
		break;
	case DNS_A:
	case DNS_AAAA:
		if (a->status != DNS_FOUND &&
		    route_ask_native(r, type, which))
			break;
		r->failed |= a->status == DNS_FAILED;
		r->exists |= a->status == DNS_NO_DATA;
		route_addresses(r, type == DNS_A ? AF_INET : AF_INET6,
		    which & ~NATIVE, a);
		break;
	case DNS_PTR:
	case DNS_NS:
	case DNS_CNAME:
	case DNS_TXT:
	case DNS_TLSA:
		panic("an answer to no question");
	}
}

static void
route_finish(struct lookup_request *base, bool late)
{
	struct route_request *r = (struct route_request *)base;
	const char *name = r->n_hosts > 0 ? r->hosts[0].name : r->domain;
	const char *problem;
	struct buf b;

	if (r->n_found > 0) {
		route_send(base->chan, base->tag, ROUTE_OK, "", r);
		return;
	}
	buf_init(&b, 1024);
	if (late || r->failed || (r->by_mx && r->n_hosts > 0 &&
	    (r->flags & ROUTE_DEFER_MX) != 0))
		r->status = ROUTE_TEMPFAIL;
	problem = r->problem != NULL ? r->problem :
	    r->status == ROUTE_TEMPFAIL ? "Host not found, try again" :
	    r->exists ? "Host found but no data record of requested type" :
	    "Host not found";
	if (r->status == ROUTE_NULL_MX)
		(void)buf_printf(&b, "Domain %s does not accept mail (nullMX)",
		    r->domain);
	else
		(void)buf_printf(&b, "Host or domain name not found. Name "
		    "service error for name=%s type=%s: %s", name, r->type,
		    problem);
	route_send(base->chan, base->tag, r->status, buf_cstr(&b), r);
	buf_free(&b);
}

static struct lookup_kind route_kind = {
	.timeout = TIMEOUT,
	.max = ROUTES_MAX,
	.size = sizeof(struct route_request),
	.answered = route_answered,
	.finish = route_finish,
};

/* False: no name of a host, or one in UTF-8 that has no form in ASCII
 * (RFC 5890). */
static bool
route_name(struct view domain, char ret[ANSWER_NAME_MAX])
{
	if (domain.n > 0 && domain.p[domain.n - 1] == '.')
		domain.n--;
	return idn_to_ascii(domain, ret, ANSWER_NAME_MAX) &&
	    address_valid_hostname(view_of(ret));
}

/* "service:domain": ret is "_service._tcp." */
static bool
route_service(struct view *domain, char ret[SERVICE_MAX + 8])
{
	struct view service = view_head(*domain, view_find(*domain, ':'));
	size_t i;

	if (service.n == 0 || service.n == domain->n ||
	    service.n > SERVICE_MAX)
		return false;
	for (i = 0; i < service.n; i++)
		if (!isalnum((unsigned char)service.p[i]) &&
		    service.p[i] != '-')
			return false;
	*domain = view_from(*domain, service.n + 1);
	(void)snprintf(ret, SERVICE_MAX + 8, "_%.*s._tcp.",
	    VIEW_ARGS(service));
	return true;
}

static void
route_ask_srv(struct route_request *r, const char *service)
{
	char name[ANSWER_NAME_MAX + SERVICE_MAX + 8];

	(void)snprintf(name, sizeof name, "%s%s", service, r->domain);
	r->type = "SRV";
	if (strlen(name) < ANSWER_NAME_MAX)
		request_ask_of(&r->base, name, DNS_SRV, DNS_ONLY, 0);
	else
		route_no_srv(r, false, NULL);
}

void
lookup_route(struct chan *chan, uint32_t tag, uint32_t flags,
    struct view domain)
{
	struct route_request *r;
	char name[ANSWER_NAME_MAX], service[SERVICE_MAX + 8] = "";

	if (((flags & ROUTE_SRV) != 0 && !route_service(&domain, service)) ||
	    !route_name(domain, name)) {
		route_send(chan, tag, ROUTE_NOT_FOUND, "Host or domain name "
		    "not found. Invalid host or domain name", NULL);
		return;
	}
	r = (struct route_request *)request_new(&route_kind, chan, tag);
	if (r == NULL) {
		route_send(chan, tag, ROUTE_TEMPFAIL,
		    "too many name server lookups at once", NULL);
		return;
	}
	r->status = ROUTE_NOT_FOUND;
	memcpy(r->domain, name, sizeof name);
	r->flags = flags;
	if (service[0] != '\0')
		route_ask_srv(r, service);
	else
		route_domain(r);
	request_begun(&r->base);
}
