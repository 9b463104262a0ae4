#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "rules/boundary.h"

void
boundaries_init(struct boundaries *b, size_t max, size_t length_limit)
{
	*b = (struct boundaries){ .max = max, .length_limit = length_limit };
	b->list = mem_array(max, sizeof *b->list);
	buf_init(&b->text, max * length_limit);
}

void
boundaries_free(struct boundaries *b)
{
	free(b->list);
	b->list = NULL;
	buf_free(&b->text);
}

void
boundaries_clear(struct boundaries *b)
{
	b->n = 0;
	buf_clear(&b->text);
}

enum boundary_added
boundaries_add(struct boundaries *b, const struct field_value *v,
    size_t level, bool digest)
{
	enum boundary_added added = BOUNDARY_ADDED;
	struct boundary *to;
	struct view text = v->text;
	size_t i;

	if (text.n > b->length_limit) {
		text.n = b->length_limit;
		added = BOUNDARY_CUT;
	}
	/* It does not end with white space, nor does a line for compare(). */
	while (text.n > 0 && view_space(text.p[text.n - 1]))
		text.n--;
	for (i = b->n; i > 0 && b->list[i - 1].level == level; i--) {
		to = &b->list[i - 1];
		if (view_eq(buf_part(&b->text, to->at, to->n), text)) {
			if (v->token_n < to->token_n)
				to->token_n = v->token_n;
			to->closed = false;
			return added;
		}
	}
	if (b->n == b->max)
		return BOUNDARY_TOO_MANY;
	to = &b->list[b->n++];
	to->at = b->text.n;
	to->n = text.n;
	to->token_n = v->token_n < text.n ? v->token_n : text.n;
	to->level = level;
	to->digest = digest;
	to->closed = false;
	ensure(buf_putv(&b->text, text));
	return added;
}

enum match { MATCH_NONE = 0, MATCH_PREFIX, MATCH_EXACT };

/* Compare the line behind its "--", without white space at its end, with one
 * boundary. */
static enum match
compare(const struct boundaries *b, const struct boundary *to,
    struct view line, bool *ret_close)
{
	const char *text = to->n > 0 ? b->text.p + to->at : "";
	struct view tail;
	size_t n = to->n;

	if (line.n < n || (n > 0 && memcmp(line.p, text, n) != 0)) {
		n = to->token_n;
		if (line.n < n || (n > 0 && memcmp(line.p, text, n) != 0))
			return MATCH_NONE;
	}
	tail = view_from(line, n);
	*ret_close = tail.n >= 2 && tail.p[0] == '-' && tail.p[1] == '-';
	if (tail.n == 0 || (*ret_close && tail.n == 2))
		return MATCH_EXACT;
	/* The boundary at the begin of the line is enough.  But an empty one,
	 * or half of one, would be found everywhere. */
	return n == to->n && n > 0 ? MATCH_PREFIX : MATCH_NONE;
}

/*
 * Innermost first, as the line may also be one of an enclosing part.  Should
 * it fit an inner one by its begin and an outer one exactly, receivers that
 * compare whole lines and others that compare the begin see two structures:
 * then the line begins a part for us, so that the headers behind it are
 * looked at, and no boundary is given up.  One that was closed counts only
 * for a whole line that is no other boundary: there are receivers that go on
 * with another part.
 */
enum boundary_line
boundaries_find(const struct boundaries *b, struct view line,
    size_t *ret_which, bool *ret_ambiguous)
{
	enum match match;
	size_t i, inner = b->n, exact = b->n, again = b->n;
	bool close, inner_close = false, exact_close = false;

	line = view_from(line, 2);
	while (line.n > 0 && view_space(line.p[line.n - 1]))
		line.n--;
	for (i = b->n; i-- > 0 && exact == b->n; ) {
		match = compare(b, &b->list[i], line, &close);
		if (match == MATCH_NONE)
			continue;
		if (b->list[i].closed) {
			if (match == MATCH_EXACT && !close && again == b->n)
				again = i;
			continue;
		}
		if (inner == b->n) {
			inner = i;
			inner_close = close;
		}
		if (match == MATCH_EXACT) {
			exact = i;
			exact_close = close;
		}
	}
	*ret_ambiguous = false;
	if (inner == b->n) {
		*ret_which = again;
		return again == b->n ? BOUNDARY_NONE : BOUNDARY_OPEN;
	}
	*ret_which = inner;
	*ret_ambiguous = exact < inner;
	if (*ret_ambiguous && !exact_close)
		inner_close = false;
	return inner_close ? BOUNDARY_CLOSE : BOUNDARY_OPEN;
}

bool
boundaries_whole(const struct boundaries *b, struct view line, size_t which)
{
	bool close;

	line = view_from(line, 2);
	while (line.n > 0 && view_space(line.p[line.n - 1]))
		line.n--;
	return compare(b, &b->list[which], line, &close) == MATCH_EXACT;
}

bool
boundaries_outer(const struct boundaries *b, struct view text, size_t level)
{
	size_t i;

	for (i = 0; i < b->n && b->list[i].level < level; i++)
		if (text.n > 0 && !b->list[i].closed &&
		    view_eq(buf_part(&b->text, b->list[i].at, b->list[i].n),
		    text))
			return true;
	return false;
}

void
boundaries_close(struct boundaries *b, size_t which)
{
	b->list[which].closed = true;
}

void
boundaries_open(struct boundaries *b, size_t which)
{
	b->list[which].closed = false;
}

bool
boundaries_unfinished(const struct boundaries *b)
{
	size_t i;

	for (i = 0; i < b->n; i++)
		if (!b->list[i].closed)
			return true;
	return false;
}

void
boundaries_leave(struct boundaries *b, size_t level)
{
	for (; b->n > 0 && b->list[b->n - 1].level >= level; b->n--)
		b->text.n = b->list[b->n - 1].at;
}
