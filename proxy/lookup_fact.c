/*
 * What the DNS says about a name, for restrictions: records of one type, or
 * addresses of both families.  "Does not exist" refuses mail, so it is said
 * only if every answer was clear.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "proxy/lookup_answer.h"
#include "proxy/lookup_request.h"

#define TIMEOUT		15000	/* ms */
#define FACTS_OPEN_MAX	8000u
#define TXT_MAX		500u	/* bytes of a record that anybody reads */

struct fact_request {
	struct lookup_request base;
	enum fact_dns type;
	bool failed, bogus, exists;
	uint32_t n;
	struct buf records;		/* n views, as put_view() */
};

static bool ask_ipv4 = true, ask_ipv6 = true;

void
lookup_fact_families(bool ipv4, bool ipv6)
{
	ask_ipv4 = ipv4;
	ask_ipv6 = ipv6;
}

void
lookup_fact_send(struct chan *chan, uint32_t tag, enum fact_status status,
    const struct view *records, uint32_t n)
{
	struct buf answer, *b;

	buf_init(&answer, FACT_BYTES_MAX);
	if (!facts_put_answer(&answer, status, records, n)) {
		buf_clear(&answer);
		ensure(facts_put_answer(&answer, FACT_TEMPORARY, NULL, 0));
	}
	b = chan_begin(chan, MSG_FACT_IS);
	put_u32(b, tag);
	put_view(b, buf_view(&answer));
	chan_end(chan);
	buf_free(&answer);
}

/* A record as rules/facts.h wants it; false: it is broken. */
static bool
fact_record(enum fact_dns type, int family, struct view data, struct buf *out)
{
	char name[ANSWER_NAME_MAX];
	struct netaddr addr;
	uint16_t preference;

	buf_clear(out);
	switch (type) {
	case FACT_A:
	case FACT_HOST:
		return answer_address(data, family, &addr) &&
		    buf_putv(out, data);
	case FACT_NS:
		return answer_name(data, name) == ANSWER_HOST &&
		    buf_puts(out, name);
	case FACT_MX:
		switch (answer_mx(data, &preference, name)) {
		case ANSWER_HOST:
			return put_u16(out, preference) && buf_puts(out, name);
		case ANSWER_ROOT:
			return put_u16(out, preference);
		case ANSWER_BAD:
			break;
		}
		return false;
	case FACT_TXT:
		return answer_txt(data, out);
	}
	return false;
}

static void
fact_answered(struct lookup_request *base, enum dns_type type,
    uint32_t which, const struct dns_answer *a)
{
	struct fact_request *r = (struct fact_request *)base;
	uint32_t before = r->n;
	struct buf record;
	size_t i, mark;

	(void)which;
	r->failed |= a->status == DNS_FAILED;
	r->bogus |= a->bogus;
	r->exists |= a->status == DNS_NO_DATA;
	if (a->status != DNS_FOUND)
		return;
	buf_init(&record, TXT_MAX + ANSWER_NAME_MAX);
	for (i = 0; i < a->n && r->n < FACT_RECORDS_MAX; i++) {
		if (!fact_record(r->type, type == DNS_AAAA ? AF_INET6 :
		    AF_INET, a->data[i], &record))
			continue;
		mark = r->records.n;
		if (!put_view(&r->records, buf_view(&record))) {
			/* The rest is dropped, as what is over the count. */
			r->records.n = mark;
			break;
		}
		r->n++;
	}
	buf_free(&record);
	/* Records, and none of them as it should be. */
	r->failed |= r->n == before;
}

static void
fact_finish(struct lookup_request *base, bool late)
{
	struct fact_request *r = (struct fact_request *)base;
	struct view records[FACT_RECORDS_MAX];
	struct cursor c = cursor_of(buf_view(&r->records));
	enum fact_status status;
	uint32_t i;

	for (i = 0; i < r->n; i++)
		records[i] = cursor_view(&c);
	ensure(cursor_done(&c));
	status = r->n > 0 ? FACT_FOUND : r->bogus ? FACT_BOGUS :
	    late || r->failed ? FACT_TEMPORARY : r->exists ? FACT_NO_DATA :
	    FACT_NO_NAME;
	lookup_fact_send(base->chan, base->tag, status, records, r->n);
	buf_free(&r->records);
}

static void
fact_dropped(struct lookup_request *base)
{
	buf_free(&((struct fact_request *)base)->records);
}

static struct lookup_kind fact_kind = {
	.timeout = TIMEOUT,
	.max = FACTS_OPEN_MAX,
	.size = sizeof(struct fact_request),
	.answered = fact_answered,
	.finish = fact_finish,
	.dropped = fact_dropped,
};

void
lookup_fact(struct chan *chan, uint32_t tag, enum fact_dns type,
    struct view name)
{
	char text[ANSWER_NAME_MAX];
	struct fact_request *r;
	struct netaddr numeric;

	/* A name that is an address, too long, or that the resolver would read
	 * as another one ("\\109ail" is "mail") is nowhere in the DNS. */
	if (name.n == 0 || name.n >= sizeof text ||
	    !answer_plain(name) || netaddr_parse(name, &numeric)) {
		lookup_fact_send(chan, tag, FACT_NO_NAME, NULL, 0);
		return;
	}
	memcpy(text, name.p, name.n);
	text[name.n] = '\0';
	r = (struct fact_request *)request_new(&fact_kind, chan, tag);
	if (r == NULL) {
		lookup_fact_send(chan, tag, FACT_TEMPORARY, NULL, 0);
		return;
	}
	r->type = type;
	/* So that the answer fits with its status and count. */
	buf_init(&r->records, FACT_BYTES_MAX - 16);
	if (type != FACT_HOST) {
		request_ask(&r->base, text, (enum dns_type)type, 0);
	} else {
		if (ask_ipv4)
			request_ask(&r->base, text, DNS_A, 0);
		if (ask_ipv6)
			request_ask(&r->base, text, DNS_AAAA, 0);
	}
	request_begun(&r->base);
}
