/* link: proxy/lookup_packet.c proxy/lookup_answer.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proxy/lookup_answer.h"
#include "proxy/lookup_packet.h"

#define BYTES(text)	view_make(text, sizeof text - 1)
#define QUESTION	"\0\1\0\0\0\0\0\0\1a\7example\0"
/* Names in answers: that of the question, and "example" */
#define SELF		"\xc0\x0c"
#define EXAMPLE		"\xc0\x0e"
#define FLAGS		0x8180u
#define FLAG_AD		0x0020u
#define FLAG_TC		0x0200u

static struct packet_room room;
static struct dns_answer got;

struct message {
	struct buf b;
	unsigned n;
};

static void
put16(struct buf *b, unsigned n)
{
	assert_true(buf_putc(b, (char)(n >> 8)));
	assert_true(buf_putc(b, (char)(n & 255)));
}

/* A header, and a question about a.example */
static void
begin(struct message *m, unsigned flags, unsigned type)
{
	buf_init(&m->b, 70000);
	m->n = 0;
	put16(&m->b, 7);
	put16(&m->b, flags);
	assert_true(buf_put(&m->b, QUESTION, sizeof QUESTION - 1));
	put16(&m->b, type);
	put16(&m->b, 1);
}

static void
record_of(struct message *m, struct view owner, unsigned type, unsigned class,
    struct view data)
{
	assert_true(buf_putv(&m->b, owner));
	put16(&m->b, type);
	put16(&m->b, class);
	put16(&m->b, 0);
	put16(&m->b, 60);
	put16(&m->b, (unsigned)data.n);
	assert_true(buf_putv(&m->b, data));
	m->n++;
}

static void
record(struct message *m, unsigned type, struct view data)
{
	record_of(m, BYTES(SELF), type, 1, data);
}

static const struct dns_answer *
end(struct message *m, enum dns_type type)
{
	char *copy;

	m->b.p[6] = (char)(m->n >> 8);
	m->b.p[7] = (char)(m->n & 255);
	/* So that a sanitizer sees what is read beyond it. */
	copy = malloc(m->b.n);
	assert_non_null(copy);
	memcpy(copy, m->b.p, m->b.n);
	packet_read(view_make(copy, m->b.n), "A.example", type, &room, &got);
	free(copy);
	buf_free(&m->b);
	return &got;
}

static void
test_address(void **state)
{
	struct message m;

	(void)state;
	begin(&m, FLAGS | FLAG_AD, DNS_A);
	record(&m, DNS_A, BYTES("\1\2\3\4"));
	record(&m, 46, BYTES("a signature"));
	record(&m, DNS_A, BYTES("\1\2\3\5"));
	assert_int_equal(end(&m, DNS_A)->status, DNS_FOUND);
	assert_true(got.secure);
	assert_int_equal(got.n, 2);
	assert_true(view_is_nocase(got.name, "a.example"));
	/* of others, or of another class */
	begin(&m, FLAGS, DNS_A);
	record_of(&m, BYTES(EXAMPLE), DNS_A, 1, BYTES("\1\2\3\4"));
	record_of(&m, BYTES(SELF), DNS_A, 3, BYTES("\1\2\3\4"));
	assert_int_equal(end(&m, DNS_A)->status, DNS_NO_DATA);
	assert_false(got.secure);
}

static void
test_denial(void **state)
{
	static const struct {
		unsigned flags;
		enum dns_status status;
		bool secure;
	} cases[] = {
		{ FLAGS, DNS_NO_DATA, false },
		{ FLAGS | FLAG_AD, DNS_NO_DATA, true },
		{ FLAGS | FLAG_AD | 3, DNS_NO_NAME, true },
		/* what fails proves nothing */
		{ FLAGS | FLAG_AD | 1, DNS_FAILED, false },
		{ FLAGS | FLAG_AD | 2, DNS_FAILED, false },
		{ FLAGS | FLAG_AD | 5, DNS_FAILED, false },
		{ FLAGS | FLAG_AD | FLAG_TC, DNS_FAILED, false },
		/* a question, or something else than a query */
		{ (FLAGS | FLAG_AD) & 0x7fff, DNS_FAILED, false },
		{ FLAGS | FLAG_AD | 0x2800, DNS_FAILED, false },
	};
	struct message m;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		begin(&m, cases[i].flags, DNS_A);
		(void)end(&m, DNS_A);
		assert_int_equal(got.status, cases[i].status);
		assert_int_equal(got.secure, cases[i].secure);
	}
}

static void
test_other_question(void **state)
{
	struct message m;

	(void)state;
	begin(&m, FLAGS | FLAG_AD, DNS_A);
	record(&m, DNS_A, BYTES("\1\2\3\4"));
	assert_int_equal(end(&m, DNS_AAAA)->status, DNS_FAILED);
	begin(&m, FLAGS | FLAG_AD, DNS_A);
	m.b.p[13] = 'b';
	record(&m, DNS_A, BYTES("\1\2\3\4"));
	assert_int_equal(end(&m, DNS_A)->status, DNS_FAILED);
	assert_false(got.secure);
	begin(&m, FLAGS, DNS_A);
	m.b.p[5] = 0;
	assert_int_equal(end(&m, DNS_A)->status, DNS_FAILED);
}

static void
test_aliases(void **state)
{
	char owner[] = "\2xx\7example", target[] = "\2xx\7example";
	struct message m;
	int i, hops;

	(void)state;
	/* in any order */
	begin(&m, FLAGS | FLAG_AD, DNS_A);
	record_of(&m, BYTES("\1c" EXAMPLE), DNS_A, 1, BYTES("\1\2\3\4"));
	record_of(&m, BYTES("\1b" EXAMPLE), 5, 1, BYTES("\1c" EXAMPLE));
	record(&m, 5, BYTES("\1b" EXAMPLE));
	assert_int_equal(end(&m, DNS_A)->status, DNS_FOUND);
	assert_int_equal(got.n, 1);
	assert_true(view_is(got.name, "c.example"));
	/* nowhere, or to nothing */
	begin(&m, FLAGS, DNS_A);
	record(&m, 5, BYTES("\1b" EXAMPLE));
	assert_int_equal(end(&m, DNS_A)->status, DNS_NO_DATA);
	begin(&m, FLAGS | 3, DNS_A);
	record(&m, 5, BYTES("\1b" EXAMPLE));
	assert_int_equal(end(&m, DNS_A)->status, DNS_NO_NAME);
	/* itself asked for */
	begin(&m, FLAGS | FLAG_AD, DNS_CNAME);
	record(&m, 5, BYTES("\1b" EXAMPLE));
	assert_int_equal(end(&m, DNS_CNAME)->status, DNS_FOUND);
	assert_int_equal(got.n, 1);
	assert_true(got.secure);
	assert_true(view_is_nocase(got.name, "a.example"));
	/* in a circle; broken */
	begin(&m, FLAGS | FLAG_AD, DNS_A);
	record(&m, 5, BYTES(SELF));
	assert_int_equal(end(&m, DNS_A)->status, DNS_FAILED);
	assert_false(got.secure);
	begin(&m, FLAGS, DNS_A);
	record(&m, 5, BYTES("\1b" EXAMPLE "x"));
	assert_int_equal(end(&m, DNS_A)->status, DNS_FAILED);
	/* a chain, of 16 and of 17 */
	for (hops = 16; hops <= 17; hops++) {
		begin(&m, FLAGS, DNS_A);
		record(&m, 5, BYTES("\2aa\7example\0"));
		for (i = 1; i < hops; i++) {
			owner[1] = owner[2] = (char)('a' + i - 1);
			target[1] = target[2] = (char)('a' + i);
			record_of(&m, view_make(owner, sizeof owner), 5, 1,
			    view_make(target, sizeof target));
		}
		assert_int_equal(end(&m, DNS_A)->status, hops == 16 ?
		    DNS_NO_DATA : DNS_FAILED);
	}
}

static void
test_names_in_data(void **state)
{
	char name[ANSWER_NAME_MAX];
	struct answer_srv srv;
	struct message m;
	uint16_t preference;

	(void)state;
	begin(&m, FLAGS, DNS_MX);
	record(&m, DNS_MX, BYTES("\0\5\2mx" EXAMPLE));
	record(&m, DNS_MX, BYTES("\0\0\0"));
	assert_int_equal(end(&m, DNS_MX)->n, 2);
	assert_int_equal(answer_mx(got.data[0], &preference, name),
	    ANSWER_HOST);
	assert_string_equal(name, "mx.example");
	assert_int_equal(preference, 5);
	assert_int_equal(answer_mx(got.data[1], &preference, name),
	    ANSWER_ROOT);
	begin(&m, FLAGS, DNS_SRV);
	record(&m, DNS_SRV, BYTES("\0\1\0\2\0\31\2mx" EXAMPLE));
	assert_int_equal(end(&m, DNS_SRV)->n, 1);
	assert_int_equal(answer_srv(got.data[0], &srv), ANSWER_HOST);
	assert_string_equal(srv.target, "mx.example");
	begin(&m, FLAGS, DNS_PTR);
	record(&m, DNS_PTR, BYTES(EXAMPLE));
	assert_int_equal(end(&m, DNS_PTR)->n, 1);
	assert_int_equal(answer_name(got.data[0], name), ANSWER_HOST);
	assert_string_equal(name, "example");
	/* beyond the end, to itself, and forward */
	begin(&m, FLAGS, DNS_MX);
	record(&m, DNS_MX, BYTES("\0\5\xff\xff"));
	record(&m, DNS_MX, BYTES("\0\5\2mx\xc0\x3c"));
	record(&m, DNS_MX, BYTES("\0\5\x41x\0"));
	assert_int_equal(end(&m, DNS_MX)->status, DNS_FAILED);
	/* the good one of two */
	begin(&m, FLAGS, DNS_MX);
	record(&m, DNS_MX, BYTES("\0\5\xff\xff"));
	record(&m, DNS_MX, BYTES("\0\5" EXAMPLE));
	assert_int_equal(end(&m, DNS_MX)->n, 1);
}

/* Records of 0 to 20 bytes, and the longest names there are. */
static void
test_short_and_long(void **state)
{
	static const enum dns_type types[] = { DNS_MX, DNS_SRV, DNS_TLSA,
		DNS_A, DNS_AAAA, DNS_NS, DNS_PTR, DNS_TXT };
	static const char fills[] = "\0\1\5\77\xc0\xff";
	char data[20], name[ANSWER_NAME_MAX], longest[255];
	struct answer_srv srv;
	struct message m;
	uint16_t preference;
	size_t i, k, n, j;

	(void)state;
	for (i = 0; i < sizeof types / sizeof types[0]; i++)
		for (k = 0; k < sizeof fills; k++)
			for (n = 0; n <= sizeof data; n++) {
				memset(data, fills[k], sizeof data);
				begin(&m, FLAGS, types[i]);
				record(&m, types[i], view_make(data, n));
				(void)end(&m, types[i]);
				for (j = 0; j < got.n; j++)
					assert_true(got.data[j].n <
					    PACKET_DATA_MAX);
			}
	memset(longest, 'x', sizeof longest);
	longest[0] = longest[64] = longest[128] = 63;
	longest[192] = 61;
	longest[254] = 0;
	memcpy(data, "\0\1\0\2\0\31", 6);
	for (i = 0; i < 2; i++) {
		char both[6 + sizeof longest];
		size_t at = i == 0 ? 2 : 6;

		memcpy(both, data, at);
		memcpy(both + at, longest, sizeof longest);
		begin(&m, FLAGS, i == 0 ? DNS_MX : DNS_SRV);
		record(&m, i == 0 ? DNS_MX : DNS_SRV,
		    view_make(both, at + sizeof longest));
		(void)end(&m, i == 0 ? DNS_MX : DNS_SRV);
		assert_int_equal(got.n, 1);
		assert_int_equal(got.data[0].n, at + sizeof longest);
		assert_int_equal(i == 0 ? answer_mx(got.data[0], &preference,
		    name) : answer_srv(got.data[0], &srv), ANSWER_HOST);
	}
}

static void
test_many(void **state)
{
	struct message m;
	unsigned i;

	(void)state;
	begin(&m, FLAGS, DNS_A);
	for (i = 0; i < 2000; i++)
		record(&m, DNS_A, BYTES("\1\2\3\4"));
	assert_int_equal(end(&m, DNS_A)->n, DNS_RECORDS_MAX);
	begin(&m, FLAGS, DNS_MX);
	for (i = 0; i < 2000; i++)
		record(&m, DNS_MX, BYTES("\0\5\2mx" EXAMPLE));
	assert_int_equal(end(&m, DNS_MX)->n, DNS_RECORDS_MAX);
}

/* Cut anywhere, it is no answer. */
static void
test_cut(void **state)
{
	struct message m;
	size_t n;

	(void)state;
	for (n = 0; ; n++) {
		begin(&m, FLAGS | FLAG_AD, DNS_MX);
		record(&m, DNS_MX, BYTES("\0\5\2mx" EXAMPLE));
		if (n == m.b.n)
			break;
		m.b.p[7] = 1;
		packet_read(view_make(m.b.p, n), "a.example", DNS_MX, &room,
		    &got);
		assert_int_equal(got.status, DNS_FAILED);
		assert_false(got.secure);
		buf_free(&m.b);
	}
	assert_int_equal(end(&m, DNS_MX)->status, DNS_FOUND);
}

/* The root, which has no labels. */
static void
test_root(void **state)
{
	static const char message[] = "\0\7\x81\xa0\0\1\0\1\0\0\0\0"
	    "\0\0\2\0\1" "\0\0\2\0\1\0\0\0\74\0\3\1x\0";

	(void)state;
	packet_read(BYTES(message), ".", DNS_NS, &room, &got);
	assert_int_equal(got.status, DNS_FOUND);
	assert_true(got.secure);
	assert_int_equal(got.name.n, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_address),
		cmocka_unit_test(test_denial),
		cmocka_unit_test(test_other_question),
		cmocka_unit_test(test_aliases),
		cmocka_unit_test(test_names_in_data),
		cmocka_unit_test(test_short_and_long),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
