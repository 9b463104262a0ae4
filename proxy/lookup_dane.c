/*
 * The certificates that a mail server shows (RFC 7672): TLSA records count if
 * they, and the server's address, are proven by DNSSEC; whether the way from
 * the domain to the server is proven too is told beside.  Of an alias that is
 * proven, and leads to what is not, the records of the alias count (section
 * 2.1.3).  /etc/hosts proves nothing, and hides nothing.
 */
#include <stdio.h>

#include "lib/address.h"
#include "proxy/lookup_answer.h"
#include "proxy/lookup_request.h"
#include "rules/idn.h"

#define TIMEOUT		30000	/* ms */
#define REQUESTS_MAX	2000u	/* open at once */
#define RECORD_MAX	1024u	/* bytes of one that is of use */

struct dane_record {
	uint16_t n;
	char data[RECORD_MAX];
};

struct dane_request {
	struct lookup_request base;
	bool failed;		/* some answer was not clear */
	bool secure;		/* the address is */
	bool mx_secure;
	bool alias;		/* the name that was given is one */
	bool asked_again;	/* for those of the name that was given */
	uint16_t port;
	unsigned open;		/* addresses */
	char domain[ANSWER_NAME_MAX], host[ANSWER_NAME_MAX];
	char at[ANSWER_NAME_MAX];	/* where the records are */
	uint32_t n;
	struct dane_record records[DANE_RECORDS_MAX];
};

static void
dane_send(struct chan *chan, uint32_t tag, enum dane_status status,
    const struct dane_request *r)
{
	struct buf *b = chan_begin(chan, MSG_DANE_IS);
	uint32_t i, n = status == DANE_FOUND ? r->n : 0;

	put_u32(b, tag);
	put_u8(b, (uint8_t)status);
	put_u8(b, n > 0 && r->mx_secure);
	put_view(b, view_of(n > 0 ? r->at : ""));
	put_u32(b, n);
	for (i = 0; i < n; i++)
		put_view(b, view_make(r->records[i].data, r->records[i].n));
	chan_end(chan);
}

static void
dane_ask(struct dane_request *r, const char *name, enum dns_type type)
{
	request_ask_of(&r->base, name, type, DNS_PROVEN, 0);
}

static void
dane_ask_records(struct dane_request *r)
{
	char full[ANSWER_NAME_MAX + 16];

	(void)snprintf(full, sizeof full, "_%u._tcp.%s", (unsigned)r->port,
	    r->at);
	if (strlen(full) < ANSWER_NAME_MAX)
		dane_ask(r, full, DNS_TLSA);
}

/* The host is one of the domain's, by proof? */
static void
dane_mx(struct dane_request *r, const struct dns_answer *a)
{
	char name[ANSWER_NAME_MAX];
	uint16_t preference;
	size_t i;

	r->failed |= a->status == DNS_FAILED;
	if (a->status == DNS_NO_DATA)
		r->mx_secure = a->secure && strcmp(r->domain, r->host) == 0;
	for (i = 0; a->status == DNS_FOUND && i < a->n; i++)
		if (answer_mx(a->data[i], &preference, name) == ANSWER_HOST &&
		    view_eq_nocase(view_of(name), view_of(r->host)))
			r->mx_secure = a->secure;
}

/* Where the host is, or its alias, is proven: what it shows is asked for. */
static void
dane_proven(struct dane_request *r)
{
	if (r->domain[0] != '\0')
		dane_ask(r, r->domain, DNS_MX);
	if (!address_valid_hostname(view_of(r->at)))
		memcpy(r->at, r->host, sizeof r->at);
	dane_ask_records(r);
}

static void
dane_alias(struct dane_request *r, const struct dns_answer *a)
{
	r->failed |= a->status == DNS_FAILED;
	if (a->status == DNS_FOUND && a->secure)
		dane_proven(r);
}

/* A name that is another one's alias: the records of that one come first. */
static void
dane_address(struct dane_request *r, const struct dns_answer *a)
{
	r->open--;
	r->alias |= a->status == DNS_FOUND && !view_eq_nocase(a->name,
	    view_of(r->host));
	if (a->status == DNS_FOUND && a->secure && !r->secure) {
		r->secure = true;
		(void)snprintf(r->at, sizeof r->at, "%.*s",
		    VIEW_ARGS(view_head(a->name, sizeof r->at - 1)));
	}
	r->failed |= a->status == DNS_FAILED;
	if (r->open > 0)
		return;
	if (r->secure) {
		/* One of the two is enough to be connected to. */
		r->failed = false;
		dane_proven(r);
	} else if (r->alias)
		dane_ask(r, r->host, DNS_CNAME);
}

static void
dane_records(struct dane_request *r, const struct dns_answer *a)
{
	size_t i;

	if (a->status == DNS_FAILED) {
		r->failed = true;
		return;
	}
	for (i = 0; a->secure && i < a->n && r->n < DANE_RECORDS_MAX; i++) {
		if (a->data[i].n < 3 || a->data[i].n > RECORD_MAX)
			continue;
		r->records[r->n].n = (uint16_t)a->data[i].n;
		memcpy(r->records[r->n++].data, a->data[i].p, a->data[i].n);
	}
	if (r->n == 0 && !r->asked_again &&
	    !view_eq_nocase(view_of(r->at), view_of(r->host))) {
		r->asked_again = true;
		memcpy(r->at, r->host, sizeof r->at);
		dane_ask_records(r);
	}
}

static void
dane_answered(struct lookup_request *base, enum dns_type type, uint32_t which,
    const struct dns_answer *a)
{
	struct dane_request *r = (struct dane_request *)base;

	(void)which;
	if (type == DNS_MX)
		dane_mx(r, a);
	else if (type == DNS_TLSA)
		dane_records(r, a);
	else if (type == DNS_CNAME)
		dane_alias(r, a);
	else
		dane_address(r, a);
}

static void
dane_finish(struct lookup_request *base, bool late)
{
	const struct dane_request *r = (struct dane_request *)base;

	dane_send(base->chan, base->tag, late || r->failed ? DANE_FAILED :
	    r->n > 0 ? DANE_FOUND : DANE_NONE, r);
}

static struct lookup_kind dane_kind = {
	.timeout = TIMEOUT,
	.max = REQUESTS_MAX,
	.size = sizeof(struct dane_request),
	.answered = dane_answered,
	.finish = dane_finish,
};

static bool
dane_name(struct view name, char ret[ANSWER_NAME_MAX])
{
	if (name.n > 0 && name.p[name.n - 1] == '.')
		name.n--;
	return idn_to_ascii(name, ret, ANSWER_NAME_MAX) &&
	    address_valid_hostname(view_of(ret));
}

void
lookup_dane(struct chan *chan, uint32_t tag, struct view domain,
    struct view host, uint16_t port)
{
	struct dane_request *r;
	char name[ANSWER_NAME_MAX], at[ANSWER_NAME_MAX] = "";

	if (!dane_name(host, name) || (domain.n > 0 &&
	    !dane_name(domain, at))) {
		dane_send(chan, tag, DANE_NONE, NULL);
		return;
	}
	r = (struct dane_request *)request_new(&dane_kind, chan, tag);
	if (r == NULL) {
		dane_send(chan, tag, DANE_FAILED, NULL);
		return;
	}
	memcpy(r->host, name, sizeof name);
	memcpy(r->domain, at, sizeof at);
	r->port = port;
	/* Nothing but the host was asked for. */
	r->mx_secure = at[0] == '\0';
	r->open = 2;
	dane_ask(r, r->host, DNS_A);
	dane_ask(r, r->host, DNS_AAAA);
	request_begun(&r->base);
}
