/*
 * What two roles say about restrictions: a question or an answer that is
 * taken can be written and is taken again as the same, and no fact of it ends
 * a line.
 */
#include <stdint.h>
#include <stdlib.h>

#include "lib/mem.h"
#include "rules/policy_wire.h"

#define OUT_MAX	(4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(int ok)
{
	if (!ok)
		abort();
}

static void
check_line(struct view v)
{
	check(view_find(v, '\n') == v.n && view_find(v, '\r') == v.n &&
	    view_find(v, '\0') == v.n);
}

/* One reading, and what it comes to in *out; false: it was refused. */
static bool
question(struct view in, struct buf *out)
{
	struct cursor c = cursor_of(in);
	struct policy_question q;
	struct policy_carry carry;
	bool taken = policy_question_get(&c, &q, &carry);

	if (taken) {
		check_line(q.facts.sender);
		check_line(q.facts.helo);
		check_line(q.facts.login);
		check(policy_question_put(out, &q));
	}
	policy_carry_free(&carry);
	return taken;
}

static bool
answer(struct view in, struct buf *out)
{
	struct cursor c = cursor_of(in);
	struct policy_result *r = mem_alloc(sizeof *r);
	bool trial, taken;
	uint32_t i;

	r->arena = arena_new(OUT_MAX);
	taken = policy_answer_get(&c, r, &trial);
	if (taken) {
		check(r->n_bcc <= POLICY_LIST_MAX &&
		    r->n_prepend <= POLICY_LIST_MAX);
		check_line(r->where);
		for (i = 0; i < r->n_prepend; i++)
			check_line(r->prepend[i]);
		check(policy_answer_put(out, r, trial));
	}
	arena_free(&r->arena);
	free(r);
	return taken;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool (*read)(struct view, struct buf *) =
	    size > 0 && data[0] == 'q' ? question : answer;
	struct buf once, twice;

	buf_init(&once, OUT_MAX);
	buf_init(&twice, OUT_MAX);
	if (size > 0 && read(view_make(data + 1, size - 1), &once)) {
		/* An IPv4 address in IPv6 is written as what it is, so the
		 * input may differ from that, but not that from itself. */
		check(read(buf_view(&once), &twice));
		check(view_eq(buf_view(&once), buf_view(&twice)));
	}
	buf_free(&once);
	buf_free(&twice);
	return 0;
}
