#include <stdlib.h>

#include "lib/mem.h"
#include "rules/pattern_result.h"

/* A result is literal text and groups, one after the other. */
struct piece {
	struct view text;
	unsigned group;		/* 0: text */
};

struct pattern_result {
	char *text;		/* as written */
	struct piece *piece;
	size_t n;
};

static void
piece_add(struct pattern_result *r, struct view text, unsigned group)
{
	if (group == 0 && text.n == 0)
		return;
	r->piece = mem_resize(r->piece, r->n + 1, sizeof(*r->piece));
	r->piece[r->n++] = (struct piece){ text, group };
}

/*
 * The name after a '$': "1", "{1}" or "(1)".  *rest moves behind it.  False:
 * not one of these.
 */
static bool
macro_name(struct view *rest, struct view *ret)
{
	size_t i = 0;

	if (rest->n > 0 && (rest->p[0] == '{' || rest->p[0] == '(')) {
		size_t close = view_find(*rest, rest->p[0] == '{' ? '}' : ')');

		if (close == rest->n)
			return false;
		*ret = view_head(view_from(*rest, 1), close - 1);
		*rest = view_from(*rest, close + 1);
		return ret->n > 0;
	}
	while (i < rest->n && (isalnum((unsigned char)rest->p[i]) ||
	    rest->p[i] == '_'))
		i++;
	*ret = view_head(*rest, i);
	*rest = view_from(*rest, i);
	return i > 0;
}

static bool
macro_number(struct view name, unsigned *ret)
{
	unsigned n = 0;

	for (size_t i = 0; i < name.n; i++) {
		if (!isdigit((unsigned char)name.p[i]) ||
		    n > PATTERN_GROUPS_MAX)
			return false;
		n = n * 10 + (unsigned)(name.p[i] - '0');
	}
	*ret = n;
	return n >= 1 && n <= PATTERN_GROUPS_MAX;
}

/* Splits r->text into pieces. */
static bool
split(struct pattern_result *r, struct view rest, unsigned *ret_groups)
{
	unsigned groups = 0, group;
	struct view name;

	for (;;) {
		size_t dollar = view_find(rest, '$');

		piece_add(r, view_head(rest, dollar), 0);
		if (dollar == rest.n)
			break;
		rest = view_from(rest, dollar + 1);
		if (rest.n > 0 && rest.p[0] == '$') {
			piece_add(r, view_head(rest, 1), 0);
			rest = view_from(rest, 1);
		} else if (!macro_name(&rest, &name) ||
		    !macro_number(name, &group)) {
			return false;
		} else {
			piece_add(r, view_head(rest, 0), group);
			groups = group > groups ? group : groups;
		}
	}
	*ret_groups = groups;
	return true;
}

struct pattern_result *
pattern_result_new(struct view text, unsigned *ret_groups)
{
	struct pattern_result *r = mem_alloc(sizeof(*r));

	r->text = mem_copy(text);
	if (!split(r, view_make(r->text, text.n), ret_groups))
		pattern_result_free(&r);
	return r;
}

void
pattern_result_free(struct pattern_result **rp)
{
	struct pattern_result *r = *rp;

	if (r == NULL)
		return;
	free(r->text);
	free(r->piece);
	free(r);
	*rp = NULL;
}

bool
pattern_result_put(const struct pattern_result *r,
    const struct pattern_engine *e, struct view key, struct buf *b)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct piece *p = &r->piece[i];

		if (!buf_putv(b, p->group == 0 ? p->text :
		    pattern_group(e, key, p->group)))
			return false;
	}
	return true;
}

bool
pattern_result_sample(const struct pattern_result *r, struct view sample,
    struct buf *b)
{
	for (size_t i = 0; i < r->n; i++)
		if (!buf_putv(b, r->piece[i].group == 0 ? r->piece[i].text :
		    sample))
			return false;
	return true;
}
