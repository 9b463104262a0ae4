/* link: proxy/relay_text.c proxy/relay_source.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/buf.h"
#include "proxy/relay_source.h"
#include "proxy/relay_text.h"

/* Encode in pieces of the given size; piece 0: whole. */
static void
encode(const char *in, size_t n, size_t piece, size_t limit, bool chunks,
    struct buf *out)
{
	struct relay_text t;
	size_t at, k;
	char *to;

	buf_clear(out);
	relay_text_init(&t, limit, chunks);
	for (at = 0; at < n; at += k) {
		k = piece == 0 || piece > n - at ? n - at : piece;
		to = buf_room(out, RELAY_TEXT_ROOM(k));
		assert_non_null(to);
		out->n += relay_text_encode(&t, view_make(in + at, k), to);
	}
	to = buf_room(out, RELAY_TEXT_END_ROOM);
	out->n += relay_text_end(&t, to);
}

static void
check(const char *in, const char *want, size_t limit)
{
	size_t n = strlen(in), piece;
	struct buf out;

	buf_init(&out, 1 << 20);
	for (piece = 0; piece <= n; piece++) {
		encode(in, n, piece, limit, false, &out);
		assert_string_equal(buf_cstr(&out), want);
	}
	buf_free(&out);
}

/* The same as by DATA, but for the dots that DATA adds. */
static void
check_chunks(const char *in, const char *want, size_t limit)
{
	size_t n = strlen(in), piece;
	struct buf out;

	buf_init(&out, 1 << 20);
	for (piece = 0; piece <= n; piece++) {
		encode(in, n, piece, limit, true, &out);
		assert_string_equal(buf_cstr(&out), want);
	}
	buf_free(&out);
}

static void
test_chunks(void **state)
{
	(void)state;
	check_chunks("", "", 998);
	check_chunks(".", ".\r\n", 998);
	check_chunks("a\r\n.\r\nb", "a\r\n.\r\nb\r\n", 998);
	check_chunks("..a\r\n", "..a\r\n", 998);
	check_chunks("a\n.\nb\r.\rc\r", "a . b . c \r\n", 998);
	check_chunks("\r\n\r\n", "\r\n\r\n", 998);
	check_chunks("0123456789012345678901234567890123456789"
	    "012345678901234567890123.x\r\n",
	    "0123456789012345678901234567890123456789"
	    "012345678901234567890123\r\n .x\r\n", 64);
}

static void
test_line_ends(void **state)
{
	(void)state;
	check("", ".\r\n", 998);
	check("a\r\n", "a\r\n.\r\n", 998);
	check("a", "a\r\n.\r\n", 998);
	check("\r\n\r\n", "\r\n\r\n.\r\n", 998);
	check("a\nb", "a b\r\n.\r\n", 998);
	check("a\rb", "a b\r\n.\r\n", 998);
	check("a\r\r\nb", "a \r\nb\r\n.\r\n", 998);
	check("a\r", "a \r\n.\r\n", 998);
	check("a\n", "a \r\n.\r\n", 998);
	check("\r", " \r\n.\r\n", 998);
	check("\n", " \r\n.\r\n", 998);
	check("a\n\r\n", "a \r\n.\r\n", 998);
}

static void
test_dots(void **state)
{
	(void)state;
	check(".", "..\r\n.\r\n", 998);
	check(".\r\n", "..\r\n.\r\n", 998);
	check("a\r\n.\r\nb", "a\r\n..\r\nb\r\n.\r\n", 998);
	check("a.b\r\n..c\r\n", "a.b\r\n...c\r\n.\r\n", 998);
	/* what some receivers would take for the end */
	check("a\n.\nb", "a . b\r\n.\r\n", 998);
	check("a\r.\rb", "a . b\r\n.\r\n", 998);
	check("a\r\n.\nb", "a\r\n.. b\r\n.\r\n", 998);
	check("a\n.\r\nb", "a .\r\nb\r\n.\r\n", 998);
	check("a\r.\r\nb", "a .\r\nb\r\n.\r\n", 998);
}

#define TEN	"0123456789"
#define SIXTY	TEN TEN TEN TEN TEN TEN

static void
test_folding(void **state)
{
	(void)state;
	check(SIXTY "abcd\r\n", SIXTY "abcd\r\n.\r\n", 64);
	check(SIXTY "abcde\r\n", SIXTY "abcd\r\n e\r\n.\r\n", 64);
	/* the space counts, and no fold is left open */
	check(SIXTY "abcd" SIXTY "xyz\r\n",
	    SIXTY "abcd\r\n " SIXTY "xyz\r\n.\r\n", 64);
	check(SIXTY "abcd" SIXTY "xyzw\r\n",
	    SIXTY "abcd\r\n " SIXTY "xyz\r\n w\r\n.\r\n", 64);
	/* a dot that a fold brings to the front stands behind a space */
	check(SIXTY "abcd.e\r\n", SIXTY "abcd\r\n .e\r\n.\r\n", 64);
	/* a stray LF at the limit */
	check(SIXTY "abcd\nx\r\n", SIXTY "abcd\r\n  x\r\n.\r\n", 64);
	/* no limit; a limit that is too small */
	check(SIXTY SIXTY "\r\n", SIXTY SIXTY "\r\n.\r\n", 0);
	check(SIXTY "abcde\r\n", SIXTY "abcd\r\n e\r\n.\r\n", 1);
}

static void
test_folding_keeps_characters(void **state)
{
	(void)state;
	check(SIXTY "abc\xc3\xa4\r\n", SIXTY "abc\r\n \xc3\xa4\r\n.\r\n", 64);
	check(SIXTY "ab\xc3\xa4\r\n", SIXTY "ab\xc3\xa4\r\n.\r\n", 64);
	check(SIXTY "ab\xe2\x82\xac\r\n",
	    SIXTY "ab\r\n \xe2\x82\xac\r\n.\r\n", 64);
	check(SIXTY "a\xf0\x9f\x98\x80z\r\n",
	    SIXTY "a\r\n \xf0\x9f\x98\x80z\r\n.\r\n", 64);
	check(SIXTY "\xf0\x9f\x98\x80z\r\n",
	    SIXTY "\xf0\x9f\x98\x80\r\n z\r\n.\r\n", 64);
	/* bytes that are no UTF-8 do not keep a line from being folded */
	check(SIXTY "\x80\x80\x80\x80\x80\r\n",
	    SIXTY "\x80\x80\x80\x80\r\n \x80\r\n.\r\n", 64);
}

static int
text_file(const char *text)
{
	int fd = memfd_create("text", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

/* All of it, in pieces of max bytes. */
static void
source_check(const char *file, uint64_t base, uint64_t size,
    const struct edits *e, const char *want)
{
	struct relay_source s;
	struct view piece;
	struct buf b;
	char space[8];
	size_t max;
	int fd = text_file(file);

	buf_init(&b, 4096);
	for (max = 1; max <= sizeof space; max++) {
		buf_clear(&b);
		relay_source_init(&s, fd, base, size, e);
		while (!relay_source_at_end(&s)) {
			assert_int_equal(relay_source_read(&s, space, max,
			    &piece), SOURCE_DATA);
			assert_in_range(piece.n, 1, max);
			assert_true(buf_putv(&b, piece));
		}
		assert_int_equal(relay_source_read(&s, space, max, &piece),
		    SOURCE_END);
		assert_string_equal(buf_cstr(&b), want);
	}
	buf_free(&b);
	close(fd);
}

#define EDITS(...)	&(struct edits){ (struct edit[]){ __VA_ARGS__ }, \
	sizeof((struct edit[]){ __VA_ARGS__ }) / sizeof(struct edit) }
#define INSERT(text)	{ text, sizeof text - 1 }

static void
test_source(void **state)
{
	const struct edits none = { 0 };

	(void)state;
	source_check("", 0, 0, &none, "");
	source_check("0123456789", 0, 10, &none, "0123456789");
	source_check("0123456789", 3, 4, &none, "3456");
	source_check("0123456789", 0, 10,
	    EDITS({ 0, 0, INSERT("front") }), "front0123456789");
	source_check("0123456789", 0, 10,
	    EDITS({ 10, 0, INSERT("back") }), "0123456789back");
	source_check("0123456789", 2, 6,
	    EDITS({ 0, 2, INSERT("x") }, { 3, 1, INSERT("") },
	    { 4, 0, INSERT("yz") }, { 5, 1, INSERT("!") }), "x4yz6!");
	source_check("0123456789", 0, 10, EDITS({ 0, 10, INSERT("") }), "");
	/* two at one place */
	source_check("0123", 0, 4,
	    EDITS({ 1, 0, INSERT("a") }, { 1, 1, INSERT("b") }), "0ab23");
}

static void
test_source_short(void **state)
{
	const struct edits none = { 0 };
	struct relay_source s;
	struct view piece;
	char space[8];
	int fd = text_file("012");

	(void)state;
	relay_source_init(&s, fd, 0, 5, &none);
	assert_int_equal(relay_source_read(&s, space, 8, &piece),
	    SOURCE_DATA);
	assert_int_equal(relay_source_read(&s, space, 8, &piece),
	    SOURCE_FAILED);
	close(fd);
}

static bool
header_8bit(const char *text, const struct edits *e)
{
	struct relay_source s;
	char space[8];
	int fd = text_file(text);
	bool yes;

	relay_source_init(&s, fd, 0, strlen(text), e);
	yes = relay_source_header_8bit(&s, space, sizeof space);
	assert_int_equal(s.pos, 0);
	close(fd);
	return yes;
}

static void
test_header_8bit(void **state)
{
	const struct edits none = { 0 };

	(void)state;
	assert_false(header_8bit("", &none));
	assert_false(header_8bit("a: b\r\n\r\n\xc3\xa4", &none));
	assert_true(header_8bit("a: b\r\nc: \xc3\xa4\r\n\r\n", &none));
	assert_true(header_8bit("a: b\r\n\xc3", &none));
	assert_true(header_8bit("a: b\r\n\r\n",
	    EDITS({ 0, 0, INSERT("x: \xc3\xa4\r\n") })));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line_ends),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_dots),
		cmocka_unit_test(test_folding),
		cmocka_unit_test(test_folding_keeps_characters),
		cmocka_unit_test(test_source),
		cmocka_unit_test(test_source_short),
		cmocka_unit_test(test_header_8bit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
