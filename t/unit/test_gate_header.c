/* link: proxy/gate_header.c */
/* The header of a proxy, cut at every position. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proxy/gate_header.h"

#define V2	"\r\n\r\n\0\r\nQUIT\n"
#define TCP4	V2 "\x21\x11\0\x0c" "\xc0\0\2\7" "\xc0\0\2\x19" "\x12\x67\0\x19"

static enum gate_header
read_it(const char *p, size_t n, size_t *ret_n, char out[200])
{
	struct netaddr a = { .family = 0 }, b = { .family = 0 };
	char from[NETADDR_TEXT], to[NETADDR_TEXT];
	/* Of its exact size: a sanitizer sees a byte more. */
	char *copy = malloc(n + 1);
	enum gate_header is;

	assert_non_null(copy);
	memcpy(copy, p, n);
	is = gate_header_read(view_make(copy, n), ret_n, &a, &b);
	(void)snprintf(out, 200, "%s:%u %s:%u", netaddr_text(&a, from),
	    a.port, netaddr_text(&b, to), b.port);
	free(copy);
	return is;
}

/* Whole it is that; shorter it is not yet, and what follows is not touched. */
static void
good(const char *p, size_t n, enum gate_header want, const char *text)
{
	char out[200], more[9000];
	size_t used, i;

	for (i = 0; i < n; i++) {
		assert_int_equal(read_it(p, i, &used, out), GATE_HEADER_MORE);
		assert_int_equal(used, i);
	}
	assert_int_equal(read_it(p, n, &used, out), want);
	assert_int_equal(used, n);
	if (text != NULL)
		assert_string_equal(out, text);
	memcpy(more, p, n);
	memcpy(more + n, "EHLO x\r\n", 8);
	assert_int_equal(read_it(more, n + 8, &used, out), want);
	assert_int_equal(used, n);
}

static void
text_is_read(void **state)
{
	static const char *const cases[][2] = {
		{ "PROXY TCP4 192.0.2.7 192.0.2.25 4711 25\r\n",
		  "192.0.2.7:4711 192.0.2.25:25" },
		{ "PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
		  "255.255.255.255:65535 0.0.0.0:0" },
		{ "PROXY TCP6 2001:db8::7 ::1 4711 25\r\n",
		  "2001:db8::7:4711 ::1:25" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
		good(cases[i][0], strlen(cases[i][0]), GATE_HEADER_CLIENT,
		    cases[i][1]);
}

static void
binary_is_read(void **state)
{
	static const char tcp4[] = TCP4;
	static const char tcp6[] = V2 "\x21\x21\0\x24"
	    "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\7"
	    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1" "\x12\x67\0\x19";
	/* One that is IPv4 all the same. */
	static const char mapped[] = V2 "\x21\x21\0\x24"
	    "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\7"
	    "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\x19" "\x12\x67\0\x19";
	static const char local[] = V2 "\x20\0\0\0";
	static const char local_more[] = V2 "\x20\x11\0\5" "abcde";
	static const char fields[] = V2 "\x21\x11\0\x13" "\xc0\0\2\7"
	    "\xc0\0\2\x19" "\x12\x67\0\x19" "\4\0\4\0\0\0\0";
	char large[GATE_HEADER_MAX];

	(void)state;
#define GOOD(a, want, text)	good(a, sizeof a - 1, want, text)
	GOOD(tcp4, GATE_HEADER_CLIENT, "192.0.2.7:4711 192.0.2.25:25");
	GOOD(tcp6, GATE_HEADER_CLIENT, "2001:db8::7:4711 ::1:25");
	GOOD(mapped, GATE_HEADER_CLIENT, "192.0.2.7:4711 192.0.2.25:25");
	GOOD(local, GATE_HEADER_LOCAL, NULL);
	GOOD(local_more, GATE_HEADER_LOCAL, NULL);
	GOOD(fields, GATE_HEADER_CLIENT, "192.0.2.7:4711 192.0.2.25:25");
	memset(large, 0x5a, sizeof large);
	memcpy(large, tcp4, sizeof tcp4 - 1);
	large[14] = (sizeof large - 16) >> 8;
	large[15] = (sizeof large - 16) & 0xff;
	good(large, sizeof large, GATE_HEADER_CLIENT,
	    "192.0.2.7:4711 192.0.2.25:25");
}

static void
all_else_is_refused(void **state)
{
	static const char *const text[] = { "EHLO client.example\r\n",
		"PROXY UNKNOWN\r\n", "PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n",
		"PROXY TCP5 192.0.2.7 192.0.2.25 4711 25\r\n",
		"PROXY  TCP4 192.0.2.7 192.0.2.25 4711 25\r\n",
		"proxy tcp4 192.0.2.7 192.0.2.25 4711 25\r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.25 4711 25\n",
		"PROXY TCP4 192.0.2.7 192.0.2.25 4711 25 \r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.25 4711 25 7\r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.25 4711\r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.25  4711 25\r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.25 70000 25\r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.25 -1 25\r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.25 0x10 25\r\n",
		"PROXY TCP4 192.0.2.7 2001:db8::1 4711 25\r\n",
		"PROXY TCP4 ::ffff:192.0.2.7 192.0.2.25 4711 25\r\n",
		"PROXY TCP6 192.0.2.7 192.0.2.25 4711 25\r\n",
		"PROXY TCP6 [2001:db8::1] ::1 4711 25\r\n",
		"PROXY TCP4 client.example 192.0.2.25 4711 25\r\n",
		"PROXY TCP4 192.0.2.300 192.0.2.25 4711 25\r\n",
		"PROXY TCP4\r\n", "PROXY TCP4 \r\n", "\n", "\r\n\r\n\r\n",
		"PROXY TCP6 2001:db8:1111:2222:3333:4444:5555:6666 "
		"2001:db8:1111:2222:3333:4444:5555:6666 4711 "
		"00000000000000000000025\r\n" };
	static const char tcp4[] = TCP4;
	char copy[sizeof tcp4], out[200];
	size_t i, used;

	(void)state;
	for (i = 0; i < sizeof text / sizeof text[0]; i++)
		if (read_it(text[i], strlen(text[i]), &used, out) !=
		    GATE_HEADER_BAD)
			fail_msg("%s", text[i]);
	/* Its first 16 bytes: signature, command, family, length. */
	for (i = 0; i < 16; i++) {
		memcpy(copy, tcp4, sizeof copy);
		copy[i] ^= 0x40;
		assert_int_equal(read_it(copy, sizeof copy - 1, &used, out),
		    i == 15 ? GATE_HEADER_MORE : GATE_HEADER_BAD);
	}
	/* Too short for its family; a Unix socket; not even a family. */
	memcpy(copy, tcp4, sizeof copy);
	copy[15] = 11;
	assert_int_equal(read_it(copy, sizeof copy - 1, &used, out),
	    GATE_HEADER_BAD);
	copy[15] = 12;
	copy[13] = 0x31;
	assert_int_equal(read_it(copy, sizeof copy - 1, &used, out),
	    GATE_HEADER_BAD);
	copy[13] = 0;
	assert_int_equal(read_it(copy, sizeof copy - 1, &used, out),
	    GATE_HEADER_BAD);
	copy[13] = 0x12;	/* UDP */
	assert_int_equal(read_it(copy, sizeof copy - 1, &used, out),
	    GATE_HEADER_BAD);
	copy[13] = 0x21;	/* TCP6 */
	assert_int_equal(read_it(copy, sizeof copy - 1, &used, out),
	    GATE_HEADER_BAD);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_read),
		cmocka_unit_test(binary_is_read),
		cmocka_unit_test(all_else_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
