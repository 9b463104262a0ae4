/*
 * Right-hand sides of rules, and the filter's answers as qmgr reads them.
 */
#include "lib/log.h"
#include "rules/verdict.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT_SIZE	1000u

static void
parse(struct view rhs, enum verdict_dialect dialect)
{
	struct verdict v, again;
	const char *why = NULL;
	struct cursor c;
	struct buf b;

	if (!verdict_parse(rhs, dialect, &v, &why)) {
		ensure(why != NULL);
		return;
	}
	ensure(v.action != ACTION_NONE && v.action < ACTIONS);
	ensure((v.code != 0) == (v.action == ACTION_REJECT ||
	    v.action == ACTION_DEFER));
	(void)verdict_text_is_header(v.text);
	/* Whatever was parsed can be sent, and is read as it was. */
	buf_init(&b, 65536);
	ensure(verdict_put(&b, &v));
	c = cursor_of(buf_view(&b));
	verdict_get(&c, &again);
	ensure(cursor_done(&c));
	ensure(again.action == v.action && again.code == v.code &&
	    again.when == v.when && view_eq(again.status, v.status));
	buf_free(&b);
}

static void
judge(struct view encoded)
{
	struct arena *a = arena_new(1u << 20);
	struct judgement j, again;
	struct buf b, b2;

	if (judgement_get(encoded, TEXT_SIZE, a, &j)) {
		ensure(j.n_bcc <= JUDGEMENT_BCC_MAX);
		buf_init(&b, 1u << 22);
		buf_init(&b2, 1u << 22);
		ensure(judgement_put(&b, &j));
		ensure(view_eq(buf_view(&b), encoded));
		ensure(judgement_get(buf_view(&b), TEXT_SIZE, a, &again));
		ensure(judgement_put(&b2, &again));
		ensure(view_eq(buf_view(&b), buf_view(&b2)));
		buf_free(&b);
		buf_free(&b2);
	}
	arena_free(&a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view v = view_make(data, size);

	parse(v, DIALECT_ACCESS);
	parse(v, DIALECT_CHECKS);
	parse(v, DIALECT_DELIVERY);
	judge(v);
	return 0;
}
