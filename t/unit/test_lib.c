/* Buffers, cursors, arenas, edits, envelopes, queue ids, printable text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/buf.h"
#include "lib/cursor.h"
#include "lib/edit.h"
#include "lib/envelope.h"
#include "lib/log.h"
#include "lib/mem.h"

static void
buf_keeps_its_maximum(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 10);
	assert_true(buf_puts(&b, "12345678"));
	assert_false(buf_puts(&b, "901"));
	assert_int_equal(b.n, 8);
	assert_true(buf_puts(&b, "90"));
	assert_null(buf_room(&b, 1));
	assert_string_equal(buf_cstr(&b), "1234567890");
	buf_consume(&b, 4);
	assert_string_equal(buf_cstr(&b), "567890");
	assert_true(buf_printf(&b, "%d", 1234));
	assert_false(buf_printf(&b, "%d", 1));
	assert_string_equal(buf_cstr(&b), "5678901234");
	buf_free(&b);
	assert_true(buf_putc(&b, 'x'));
	assert_int_equal(b.n, 1);
	buf_free(&b);
}

static void
cursor_stops_at_the_end(void **state)
{
	struct cursor c;
	struct buf b;

	(void)state;
	buf_init(&b, 100);
	assert_true(put_u8(&b, 0xfe) && put_u16(&b, 0x1234) &&
	    put_u32(&b, 0xdeadbeef) && put_u64(&b, UINT64_MAX - 5) &&
	    put_view(&b, view_of("text")));
	c = cursor_of(buf_view(&b));
	assert_int_equal(cursor_u8(&c), 0xfe);
	assert_int_equal(cursor_u16(&c), 0x1234);
	assert_int_equal(cursor_u32(&c), 0xdeadbeef);
	assert_true(cursor_u64(&c) == UINT64_MAX - 5);
	assert_true(view_is(cursor_view(&c), "text"));
	assert_true(cursor_done(&c));
	assert_int_equal(cursor_u8(&c), 0);
	assert_false(cursor_done(&c));
	/* A length that points outside. */
	c = cursor_of(view_make("\xff\xff\xff\xff" "a", 5));
	assert_int_equal(cursor_view(&c).n, 0);
	assert_true(c.bad);
	assert_int_equal(cursor_left(&c), 0);
	/* Something left over. */
	c = cursor_of(view_make("ab", 2));
	(void)cursor_u8(&c);
	assert_false(cursor_done(&c));
	buf_free(&b);
}

static void
put_view_is_all_or_nothing(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 6);
	assert_false(put_view(&b, view_of("abc")));
	assert_int_equal(b.n, 0);
	assert_true(put_view(&b, view_of("ab")));
	assert_int_equal(b.n, 6);
	buf_free(&b);
}

static void
arena_is_aligned_and_zeroed(void **state)
{
	struct arena *a = arena_new(100000);
	unsigned char *p;
	struct view v;
	size_t i, k;

	(void)state;
	for (i = 1; i < 300; i++) {
		p = arena_alloc(a, i);
		assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
		for (k = 0; k < i; k++)
			assert_int_equal(p[k], 0);
		memset(p, 0xff, i);
	}
	arena_reset(a);
	assert_int_equal(arena_used(a), 0);
	p = arena_alloc(a, 64);
	for (k = 0; k < 64; k++)
		assert_int_equal(p[k], 0);
	v = arena_copy(a, view_make("a\0b", 3));
	assert_int_equal(v.n, 3);
	assert_memory_equal(v.p, "a\0b\0", 4);
	arena_free(&a);
	assert_null(a);
}

static void
view_words_and_ends(void **state)
{
	struct view rest = view_make(" a, \0b,c", 8), w;

	(void)state;
	w = view_word(&rest, " ,");
	assert_true(view_is(w, "a"));
	/* NUL is an ordinary byte. */
	w = view_word(&rest, " ,");
	assert_int_equal(w.n, 2);
	assert_memory_equal(w.p, "\0b", 2);
	assert_true(view_is(view_word(&rest, " ,"), "c"));
	assert_int_equal(view_word(&rest, " ,").n, 0);
	assert_true(view_ends_nocase(view_of("a.EXE"), view_of(".exe")));
	assert_false(view_ends_nocase(view_of("exe"), view_of(".exe")));
	assert_int_equal(view_find(view_of("abc"), 'z'), 3);
	assert_true(view_is(view_trim(view_of(" \t x \r\n")), "x"));
}

static void
queue_ids_have_one_form(void **state)
{
	char text[QUEUE_ID_TEXT];
	struct queue_id id = { 0x0123456789A }, back;
	static const char *const bad[] = { "", "0", "0123456789",
		"0123456789a", "0123456789AB", "../../etc/p", "0123456789G" };
	size_t i;

	(void)state;
	assert_string_equal(queue_id_text(id, text), "0123456789A");
	assert_true(queue_id_parse(view_of(text), &back));
	assert_true(back.n == id.n);
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(queue_id_parse(view_of(bad[i]), &back));
}

static struct envelope
sample(struct recipient *r)
{
	r[0] = (struct recipient){ .addr = view_of("a@example.com"),
		.notify = NOTIFY_FAILURE };
	r[1] = (struct recipient){ .addr = view_of("b@example.com"),
		.orcpt = view_of("rfc822;x@y") };
	return (struct envelope){ .flags = ENVELOPE_8BIT,
		.sender = view_of("s@client.example"),
		.client_name = view_of("localhost"),
		.client_addr = view_of("127.0.0.1"), .client_port = 4711,
		.helo = view_of("h"), .proto = view_of("ESMTP"),
		.nrcpts = 2, .rcpts = r };
}

static void
envelope_survives_and_is_exact(void **state)
{
	struct arena *a = arena_new(1 << 20);
	struct recipient r[2];
	struct envelope e = sample(r), back;
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 10000);
	assert_true(envelope_put(&b, &e));
	assert_true(envelope_get(buf_view(&b), a, &back));
	assert_true(view_eq(back.sender, e.sender));
	assert_int_equal(back.client_port, 4711);
	assert_int_equal(back.nrcpts, 2);
	assert_true(view_eq(back.rcpts[1].orcpt, r[1].orcpt));
	assert_int_equal(back.rcpts[0].notify, NOTIFY_FAILURE);
	/* Cut anywhere, or with a byte too much, it is nothing. */
	for (i = 0; i < b.n; i++)
		assert_false(envelope_get(view_head(buf_view(&b), i), a,
		    &back));
	assert_true(buf_putc(&b, 'x'));
	assert_false(envelope_get(buf_view(&b), a, &back));
	buf_free(&b);
	arena_free(&a);
}

static void
envelope_refuses_line_ends(void **state)
{
	static const char *const bad[] = { "a\r\nRCPT TO:<x>@b", "a\n@b",
		"a\t@b", "" };
	struct arena *a = arena_new(1 << 20);
	struct recipient r[2];
	struct envelope e = sample(r), back;
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 10000);
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		r[1].addr = view_of(bad[i]);
		buf_clear(&b);
		assert_true(envelope_put(&b, &e));
		assert_false(envelope_get(buf_view(&b), a, &back));
	}
	e.nrcpts = 0;
	buf_clear(&b);
	assert_true(envelope_put(&b, &e));
	assert_false(envelope_get(buf_view(&b), a, &back));
	buf_free(&b);
	arena_free(&a);
}

static void
edits_are_sorted_and_inside(void **state)
{
	struct edit good[] = { { 0, 0, view_of("X: y\r\n") },
		{ 10, 5, { NULL, 0 } }, { 15, 0, view_of("z") } };
	struct edit overlap[] = { { 0, 5, { NULL, 0 } },
		{ 4, 1, { NULL, 0 } } };
	struct edit outside[] = { { 95, 6, { NULL, 0 } } };
	struct edits e = { good, 3 }, back;
	struct arena *a = arena_new(1 << 20);
	struct buf b;

	(void)state;
	buf_init(&b, 10000);
	assert_true(edits_put(&b, &e));
	assert_true(edits_get(buf_view(&b), 100, a, &back));
	assert_int_equal(back.n, 3);
	assert_int_equal(edits_size(&back, 100), 100 + 6 - 5 + 1);
	assert_false(edits_get(buf_view(&b), 14, a, &back));
	buf_clear(&b);
	e = (struct edits){ overlap, 2 };
	assert_true(edits_put(&b, &e));
	assert_false(edits_get(buf_view(&b), 100, a, &back));
	buf_clear(&b);
	e = (struct edits){ outside, 1 };
	assert_true(edits_put(&b, &e));
	assert_false(edits_get(buf_view(&b), 100, a, &back));
	assert_true(edits_get(view_of(""), 100, a, &back));
	assert_int_equal(back.n, 0);
	buf_free(&b);
	arena_free(&a);
}

/* The text with the edits applied, the plain way. */
static void
edits_apply(const struct edits *e, struct view text, struct buf *to)
{
	uint64_t at = 0;
	uint32_t i;

	buf_clear(to);
	for (i = 0; i < e->n; i++) {
		assert_true(e->list[i].offset >= at);
		assert_true(buf_put(to, text.p + at,
		    (size_t)(e->list[i].offset - at)));
		assert_true(buf_putv(to, e->list[i].insert));
		at = e->list[i].offset + e->list[i].remove;
		assert_true(at <= text.n);
	}
	assert_true(buf_putv(to, view_from(text, (size_t)at)));
	assert_int_equal(to->n, edits_size(e, text.n));
}

static uint32_t
edits_random(uint32_t *seed, uint32_t below)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (*seed >> 8) % below;
}

static void
edits_make(uint32_t *seed, struct edit *list, uint64_t size, struct edits *e)
{
	static const char inserts[] = "ABCDEFGH";
	uint64_t at = 0;

	*e = (struct edits){ list, 0 };
	while (e->n < 8 && edits_random(seed, 8) != 0) {
		struct edit *x = &list[e->n++];

		x->offset = at + edits_random(seed, (uint32_t)(size - at) / 3 +
		    1);
		x->remove = edits_random(seed, 3) == 0 ? 0 :
		    edits_random(seed, (uint32_t)(size - x->offset) / 2 + 2);
		if (x->remove > size - x->offset)
			x->remove = size - x->offset;
		x->insert = view_make(inserts, edits_random(seed, 9));
		at = x->offset + x->remove;
	}
}

static void
edits_one_after_the_other(void **state)
{
	const struct view text = view_of("0123456789abcdefghijklmnopqrst");
	struct edit one[8], two[8];
	struct edits first, then, both;
	uint32_t seed = 1, i;
	struct buf a, b, c;
	struct arena *arena;

	(void)state;
	buf_init(&a, 1000);
	buf_init(&b, 1000);
	buf_init(&c, 1000);
	for (i = 0; i < 20000; i++) {
		arena = arena_new(1 << 16);
		edits_make(&seed, one, text.n, &first);
		edits_apply(&first, text, &a);
		edits_make(&seed, two, a.n, &then);
		edits_apply(&then, buf_view(&a), &b);
		edits_compose(&first, &then, text.n, arena, &both);
		edits_apply(&both, text, &c);
		assert_true(view_eq(buf_view(&b), buf_view(&c)));
		arena_free(&arena);
	}
	buf_free(&a);
	buf_free(&b);
	buf_free(&c);
}

static void
peer_data_is_made_visible(void **state)
{
	(void)state;
	assert_string_equal(log_safe(view_make("a\0b\r\nc\x1b[1m", 9)),
	    "a?b??c?[1");
	assert_string_equal(log_safe(view_of("gr\xc3\xbc\xc3\x9f")),
	    "gr\xc3\xbc\xc3\x9f");
	/* overlong, surrogate, C1 control, cut short */
	assert_string_equal(log_safe(view_of("\xc0\xaf")), "??");
	assert_string_equal(log_safe(view_of("\xed\xa0\x80")), "???");
	assert_string_equal(log_safe(view_of("\xc2\x85")), "??");
	assert_string_equal(log_safe(view_of("\xe2\x82")), "??");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buf_keeps_its_maximum),
		cmocka_unit_test(cursor_stops_at_the_end),
		cmocka_unit_test(put_view_is_all_or_nothing),
		cmocka_unit_test(arena_is_aligned_and_zeroed),
		cmocka_unit_test(view_words_and_ends),
		cmocka_unit_test(queue_ids_have_one_form),
		cmocka_unit_test(envelope_survives_and_is_exact),
		cmocka_unit_test(envelope_refuses_line_ends),
		cmocka_unit_test(edits_are_sorted_and_inside),
		cmocka_unit_test(edits_one_after_the_other),
		cmocka_unit_test(peer_data_is_made_visible),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
