/* link: proxy/relay_sasl.c proxy/relay_scram.c proxy/relay_mechanism.c */
/*
 * Challenges of a server: the first byte chooses the mechanism, the lines
 * behind it are what the server says, in BASE64 if the byte's highest bit is
 * set, else as bytes that are put into BASE64 first.  Whatever comes, an
 * exchange ends, says nothing that is not BASE64, and is not complete by SCRAM
 * unless the server has shown the signature.
 */
#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>

#include "proxy/relay_sasl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(int ok)
{
	if (!ok)
		abort();
}

static enum relay_sasl_step
step(struct relay_sasl *x, struct view line, int raw)
{
	static unsigned char coded[SASL_TEXT_MAX + 8];
	enum relay_sasl_step answer;
	const char *why = NULL;
	struct buf out;

	if (!raw) {
		line = view_head(line, SASL_TEXT_MAX / 4 * 3);
		line = view_make(coded, (size_t)EVP_EncodeBlock(coded,
		    (const unsigned char *)line.p, (int)line.n));
	}
	buf_init(&out, SASL_TEXT_MAX + 64);
	answer = relay_sasl_step(x, line, &out, &why);
	check((answer == RELAY_SASL_BAD) == (why != NULL));
	check(sasl_base64_good(buf_view(&out)));
	check(answer == RELAY_SASL_SAY || !relay_sasl_complete(x));
	buf_free(&out);
	return answer;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct relay_binding binding = { .type = "tls-exporter", .n = 32 };
	struct relay_sasl_about about = { .user = view_of("user"),
		.secret = view_of("pencil"), .host = view_of("a.example"),
		.port = 587, .binding = &binding };
	struct view rest = view_make(data, size), line;
	struct relay_sasl *x;
	int raw, turns = 0;
	const char *why = NULL;
	struct buf out;

	if (size == 0)
		return 0;
	raw = (data[0] & 0x80) != 0;
	about.mechanism = (enum relay_mechanism)
	    (1 + (data[0] & 0x7f) % (MECHANISMS - 1));
	rest = view_from(rest, 1);
	(void)relay_sasl_offered(rest);
	x = relay_sasl_new(&about, "rOprNGfwEbeRWgbNEkqO");
	if (relay_sasl_first(x)) {
		buf_init(&out, SASL_TEXT_MAX + 64);
		check(relay_sasl_step(x, view_make("", 0), &out, &why) ==
		    RELAY_SASL_SAY);
		buf_free(&out);
	}
	do {
		line = view_head(rest, view_find(rest, '\n'));
		rest = view_from(rest, line.n < rest.n ? line.n + 1 : rest.n);
		check(++turns <= 4 || relay_sasl_complete(x) == 0);
		if (step(x, line, raw) == RELAY_SASL_BAD)
			break;
		check(turns <= 3);
	} while (rest.n > 0);
	relay_sasl_free(&x);
	return 0;
}
