/*
 * The name of a client: what the reverse zone says, believed only if that
 * name leads back to the address.  Whoever owns the address can write any
 * name there.
 */
#include <stdlib.h>

#include "proxy/lookup_answer.h"
#include "proxy/lookup_request.h"

#define TIMEOUT		10000	/* ms */
#define NAMES_MAX	8000u	/* open at once */

struct name_request {
	struct lookup_request base;
	struct netaddr addr;
	enum name_status status;
	char reverse[ANSWER_NAME_MAX];
};

static void
name_send(struct chan *chan, uint32_t tag, enum name_status status,
    const char *reverse)
{
	const char *unknown = "unknown";
	struct buf *b;

	b = chan_begin(chan, MSG_NAME_IS);
	put_u32(b, tag);
	put_u8(b, (uint8_t)status);
	put_view(b, view_of(status == NAME_OK ? reverse : unknown));
	put_view(b, view_of(*reverse != '\0' ? reverse : unknown));
	chan_end(chan);
}

/* The reverse zone answered: take its first name that can be one. */
static void
name_reverse(struct name_request *r, const struct dns_answer *a)
{
	struct netaddr numeric;
	char name[ANSWER_NAME_MAX];
	size_t i;

	for (i = 0; i < a->n; i++) {
		/* "192.0.2.1" as a name would pass for an address. */
		if (answer_name(a->data[i], name) != ANSWER_HOST ||
		    netaddr_parse(view_of(name), &numeric))
			continue;
		memcpy(r->reverse, name, sizeof name);
		/* until the way back is known */
		r->status = NAME_TEMPFAIL;
		request_ask(&r->base, r->reverse,
		    r->addr.family == AF_INET ? DNS_A : DNS_AAAA, 0);
		return;
	}
	r->status = NAME_NONE;
}

static void
name_answered(struct lookup_request *base, enum dns_type type,
    uint32_t which, const struct dns_answer *a)
{
	struct name_request *r = (struct name_request *)base;
	struct netaddr found;
	size_t i;

	(void)which;
	if (a->status == DNS_FAILED) {
		r->status = NAME_TEMPFAIL;
	} else if (type == DNS_PTR) {
		name_reverse(r, a);
	} else {
		r->status = NAME_UNVERIFIED;
		for (i = 0; i < a->n; i++)
			if (answer_address(a->data[i], r->addr.family,
			    &found) && netaddr_equal(&found, &r->addr))
				r->status = NAME_OK;
	}
}

static void
name_finish(struct lookup_request *base, bool late)
{
	struct name_request *r = (struct name_request *)base;

	name_send(base->chan, base->tag, late ? NAME_TEMPFAIL : r->status,
	    r->reverse);
}

static struct lookup_kind name_kind = {
	.timeout = TIMEOUT,
	.max = NAMES_MAX,
	.size = sizeof(struct name_request),
	.answered = name_answered,
	.finish = name_finish,
};

void
lookup_name(struct chan *chan, uint32_t tag, struct view address)
{
	struct name_request *r;
	struct netaddr addr;
	char reverse[ANSWER_REVERSE_MAX];

	if (!netaddr_from_bytes(address, &addr)) {
		chan_blame(chan, "bad address in message NAME");
		return;
	}
	r = (struct name_request *)request_new(&name_kind, chan, tag);
	if (r == NULL) {
		name_send(chan, tag, NAME_TEMPFAIL, "");
		return;
	}
	r->addr = addr;
	answer_reverse(&addr, reverse);
	request_ask(&r->base, reverse, DNS_PTR, 0);
	request_begun(&r->base);
}
