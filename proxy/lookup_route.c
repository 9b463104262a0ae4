/*
 * The way to a mail domain (RFC 5321 section 5.1): its MX hosts, or the
 * domain itself if it has none, and their addresses.  "Not found" returns
 * mail to its sender, so it is said only if every answer was clear.
 */
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

struct route_host {
	uint16_t preference;
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

static void
route_send(struct chan *chan, uint32_t tag, enum route_status status,
    const char *text, const struct route_request *r)
{
	const struct route_found *f;
	struct buf *b;
	uint32_t i, n = status == ROUTE_OK ? r->n_found : 0;

	b = chan_begin(chan, MSG_ROUTE_IS);
	put_u32(b, tag);
	put_u8(b, (uint8_t)status);
	put_view(b, view_of(text));
	put_u32(b, n);
	for (i = 0; i < n; i++) {
		f = &r->found[i];
		put_u16(b, r->hosts[f->host].preference);
		put_view(b, view_of(r->hosts[f->host].name));
		put_view(b, netaddr_bytes(&f->addr));
	}
	chan_end(chan);
}

static void
route_ask_host(struct route_request *r, uint32_t which)
{
	if (ask_ipv4)
		request_ask(&r->base, r->hosts[which].name, DNS_A, which);
	if (ask_ipv6)
		request_ask(&r->base, r->hosts[which].name, DNS_AAAA, which);
}

static void
route_domain_itself(struct route_request *r)
{
	r->n_hosts = 1;
	memcpy(r->hosts[0].name, r->domain, sizeof r->domain);
	route_ask_host(r, 0);
}

static int
route_compare(const void *a, const void *b)
{
	const struct route_host *x = a, *y = b;

	return (x->preference > y->preference) -
	    (x->preference < y->preference);
}

/* The best HOSTS_MAX of the MX records. */
static void
route_mx(struct route_request *r, const struct dns_answer *a)
{
	struct route_host all[DNS_RECORDS_MAX];
	size_t n = 0, i;
	unsigned roots = 0;

	for (i = 0; i < a->n; i++) {
		switch (answer_mx(a->data[i], &all[n].preference,
		    all[n].name)) {
		case ANSWER_HOST:
			n++;
			break;
		case ANSWER_ROOT:
			roots++;
			break;
		case ANSWER_BAD:
			break;
		}
	}
	if (n == 0 && roots == 1 && a->n == 1) {
		r->status = ROUTE_NULL_MX;
		return;
	}
	if (n == 0) {
		r->failed = true;
		r->problem = "Malformed or unexpected name server reply";
		return;
	}
	qsort(all, n, sizeof all[0], route_compare);
	r->n_hosts = (uint32_t)(n < HOSTS_MAX ? n : HOSTS_MAX);
	memcpy(r->hosts, all, r->n_hosts * sizeof all[0]);
	r->type = "A";
	for (i = 0; i < r->n_hosts; i++)
		route_ask_host(r, (uint32_t)i);
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

	if (a->status == DNS_FAILED) {
		r->failed = true;
		return;
	}
	switch (type) {
	case DNS_MX:
		if (a->status == DNS_FOUND) {
			route_mx(r, a);
		} else {
			r->type = "A";
			route_domain_itself(r);
		}
		break;
	case DNS_A:
	case DNS_AAAA:
		r->exists |= a->status == DNS_NO_DATA;
		route_addresses(r, type == DNS_A ? AF_INET : AF_INET6, which,
		    a);
		break;
	case DNS_PTR:
	case DNS_NS:
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
	if (late || r->failed)
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

void
lookup_route(struct chan *chan, uint32_t tag, bool with_mx,
    struct view domain)
{
	struct route_request *r;
	char name[ANSWER_NAME_MAX];

	if (!route_name(domain, name)) {
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
	r->type = with_mx ? "MX" : "A";
	if (with_mx)
		request_ask(&r->base, r->domain, DNS_MX, 0);
	else
		route_domain_itself(r);
	request_begun(&r->base);
}
