/* link: proxy/relay_reply.c proxy/relay_ehlo.c proxy/relay_mechanism.c */
/*
 * A server's replies.  The first byte is the size of the pieces they arrive
 * in; what is understood must not depend on it.  A reply keeps to its limits
 * and has no control bytes.
 */
#include <stdint.h>
#include <stdlib.h>

#include "proxy/relay_ehlo.h"
#include "proxy/relay_reply.h"

#define REPLIES	8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(int ok)
{
	if (!ok)
		abort();
}

/* The code and end of each reply; 0 ends the list. */
struct seen {
	unsigned code[REPLIES];
	size_t end[REPLIES];
	char status[REPLIES][RELAY_STATUS_MAX];
	uint32_t features[REPLIES];
};

static void
check_reply(struct relay_reply *r)
{
	struct view said;
	size_t i;

	check(r->code >= 200 && r->code <= 599);
	check(r->lines <= RELAY_REPLY_LINES_MAX && r->text.n <=
	    RELAY_REPLY_MAX + RELAY_REPLY_LINES_MAX);
	said = relay_reply_said(r, 500);
	check(said.n >= 3 && said.n <= 500);
	for (i = 0; i < said.n; i++)
		check((unsigned char)said.p[i] >= ' ' && said.p[i] != 0x7f);
}

static void
read_all(const uint8_t *data, size_t size, size_t piece, struct seen *seen)
{
	enum relay_reply_answer a;
	struct relay_reply r;
	struct relay_ehlo e;
	struct view in;
	size_t at = 0, k, n = 0;

	relay_reply_init(&r);
	while (at < size && n < REPLIES) {
		k = piece > size - at ? size - at : piece;
		in = view_make(data + at, k);
		a = relay_reply_feed(&r, &in);
		at += k - in.n;
		if (a == REPLY_BAD)
			break;
		check(a == REPLY_DONE || in.n == 0);
		if (a == REPLY_MORE)
			continue;
		seen->code[n] = r.code;
		seen->end[n] = at;
		relay_reply_status(&r, seen->status[n]);
		relay_ehlo_read(&r, 0, &e);
		seen->features[n] = e.features;
		check_reply(&r);
		relay_reply_reset(&r);
		n++;
	}
	relay_reply_free(&r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen whole = { 0 }, pieces = { 0 };
	size_t i;

	if (size < 2)
		return 0;
	read_all(data + 1, size - 1, size, &whole);
	read_all(data + 1, size - 1, (size_t)data[0] % 32 + 1, &pieces);
	for (i = 0; i < REPLIES; i++) {
		check(whole.code[i] == pieces.code[i]);
		check(whole.end[i] == pieces.end[i]);
		check(whole.features[i] == pieces.features[i]);
		check(memcmp(whole.status[i], pieces.status[i],
		    RELAY_STATUS_MAX) == 0);
	}
	return 0;
}
