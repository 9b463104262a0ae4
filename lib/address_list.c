#include "lib/address.h"
#include "lib/address_list.h"

/* An address with its quotes; a phrase may be longer, and is cut. */
#define ITEM_MAX	(2 * ADDRESS_MAX + 16)

struct list {
	struct view v;			/* not read yet */
	struct buf item;		/* "<address" so far */
	bool word, space;		/* the last thing was a word; a space */
	bool angle;			/* the address is complete */
	bool broken;			/* two words in a row: a phrase */
	bool cut;
	bool at;			/* so it is no name of a group */
	bool group;
	address_list_each *each;
	void *arg;
};

static void
list_reset(struct list *l)
{
	buf_clear(&l->item);
	l->word = l->space = l->angle = l->broken = l->cut = l->at =
	    false;
}

static void
list_add(struct list *l, struct view bytes)
{
	if (!l->cut && !buf_putv(&l->item, bytes))
		l->cut = true;
}

/* "(comment (nested) \) more)"; false: it does not end. */
static bool
list_comment(struct list *l)
{
	size_t i, depth = 0;

	for (i = 0; i < l->v.n; i++) {
		if (l->v.p[i] == '\\')
			i++;
		else if (l->v.p[i] == '(')
			depth++;
		else if (l->v.p[i] == ')' && --depth == 0) {
			l->v = view_from(l->v, i + 1);
			l->space = true;
			return true;
		}
	}
	return false;
}

/* "quoted" or [literal]; false: it does not end, or a line end is quoted. */
static bool
list_quoted(struct list *l, char end)
{
	size_t i;

	for (i = 1; i < l->v.n; i++) {
		if (l->v.p[i] == end) {
			list_add(l, view_head(l->v, i + 1));
			l->v = view_from(l->v, i + 1);
			return true;
		}
		if (l->v.p[i] == '\\')
			i++;
	}
	return false;
}

static bool
list_is_word(char c)
{
	return (unsigned char)c > ' ' && c != 127 &&
	    strchr("()<>[]:;@\\,.\"", c) == NULL;
}

/* A word, at once: two of them with a space between are no address. */
static bool
list_word(struct list *l)
{
	size_t i = 0;

	if (l->angle)
		return false;
	if (l->word && l->space)
		l->broken = true;
	l->word = true;
	l->space = false;
	if (l->v.p[0] == '"')
		return list_quoted(l, '"');
	if (l->v.p[0] == '[')
		return list_quoted(l, ']');
	while (i < l->v.n && list_is_word(l->v.p[i]))
		i++;
	if (i == 0)
		return false;
	list_add(l, view_head(l->v, i));
	l->v = view_from(l->v, i);
	return true;
}

static bool
list_is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* "<address>", with white space and comments where the old syntax allows. */
static bool
list_angle(struct list *l)
{
	char c;

	if (l->angle)
		return false;
	list_reset(l);
	l->angle = true;
	l->v = view_from(l->v, 1);
	while (l->v.n > 0 && (c = l->v.p[0]) != '>') {
		if (list_is_space(c))
			l->v = view_from(l->v, 1);
		else if (c == '(') {
			if (!list_comment(l))
				return false;
		} else if (c == '"' || c == '[') {
			if (!list_quoted(l, c == '"' ? '"' : ']'))
				return false;
		} else if (c == '<')
			return false;
		else {
			list_add(l, view_head(l->v, 1));
			l->v = view_from(l->v, 1);
		}
	}
	if (l->v.n == 0)
		return false;
	l->v = view_from(l->v, 1);
	return true;
}

/* The item is complete. */
static enum address_list_status
list_item(struct list *l)
{
	char address[ADDRESS_MAX + 1], path[ITEM_MAX + 2];
	struct buf out = { .p = address, .cap = sizeof address,
		.max = ADDRESS_MAX };
	struct view rest;
	bool utf8;

	/* A word that was too long left nothing. */
	if (l->broken || l->cut)
		return ADDRESS_LIST_SYNTAX;
	if (l->item.n == 0)
		return ADDRESS_LIST_OK;
	path[0] = '<';
	memcpy(path + 1, l->item.p, l->item.n);
	path[l->item.n + 1] = '>';
	rest = view_make(path, l->item.n + 2);
	if (address_path(&rest, true, &out, &utf8) != ADDRESS_OK ||
	    rest.n > 0)
		return ADDRESS_LIST_SYNTAX;
	if (out.n > 0 && !l->each(buf_view(&out), l->arg))
		return ADDRESS_LIST_STOPPED;
	return ADDRESS_LIST_OK;
}

/* One step; ',' and ';' are the caller's. */
static bool
list_step(struct list *l)
{
	char c = l->v.p[0];

	if (list_is_space(c)) {
		l->space = true;
		l->v = view_from(l->v, 1);
		return true;
	}
	if (c == '(')
		return list_comment(l);
	if (c == '<')
		return list_angle(l);
	if (c == ':') {
		/* What came before it was the name of a group. */
		if (l->group || l->angle || l->at || l->item.n == 0)
			return false;
		l->group = true;
		l->v = view_from(l->v, 1);
		list_reset(l);
		return true;
	}
	if (c == '.' || c == '@') {
		if (l->angle)
			return false;
		l->at = l->at || c == '@';
		list_add(l, view_head(l->v, 1));
		l->v = view_from(l->v, 1);
		/* "J. R. Smith <a@b>" has spaces behind its dots. */
		l->word = l->space = false;
		return true;
	}
	return list_word(l);
}

enum address_list_status
address_list_read(struct view text, address_list_each *each, void *arg,
    struct view *ret_bad)
{
	char item[ITEM_MAX];
	struct list l = { .v = text, .each = each,
		.arg = arg, .item = { .p = item, .cap = sizeof item,
		.max = sizeof item } };
	enum address_list_status s = ADDRESS_LIST_OK;
	const char *begin = text.p;
	bool ok = true, end;

	if (text.n == 0)
		return ADDRESS_LIST_OK;
	do {
		end = l.v.n == 0;
		if (!end && l.v.p[0] != ',' && l.v.p[0] != ';') {
			ok = list_step(&l);
			continue;
		}
		if (!end && l.v.p[0] == ';') {
			ok = l.group;
			l.group = false;
		}
		if (ok)
			s = list_item(&l);
		if (ok && s == ADDRESS_LIST_OK) {
			l.v = view_from(l.v, 1);
			list_reset(&l);
			begin = l.v.p;
		}
	} while (ok && s == ADDRESS_LIST_OK && !end);
	if (s == ADDRESS_LIST_STOPPED)
		return s;
	if (ok && s == ADDRESS_LIST_OK)
		return s;
	*ret_bad = view_trim(view_make(begin,
	    (size_t)(text.p + text.n - begin)));
	return ADDRESS_LIST_SYNTAX;
}
