#include "lib/address.h"
#include "queue/local_list.h"
#include "rules/mailbox.h"

struct list {
	list_item *item;
	void *arg;
	struct buf piece;	/* without its quotes */
};

/* The next piece as it stands; empty: no more. */
static struct view
list_piece(struct view *rest, bool *line_begin)
{
	struct view v = *rest, p;
	bool quoted = false;
	size_t i, depth = 0;

	while (v.n > 0 && (v.p[0] == ',' || view_space(v.p[0]) ||
	    (v.p[0] == '#' && *line_begin))) {
		if (v.p[0] == '#')
			v = view_from(v, view_find(v, '\n'));
		else {
			*line_begin = v.p[0] == '\n' || (*line_begin &&
			    v.p[0] != ',');
			v = view_from(v, 1);
		}
	}
	for (i = 0; i < v.n; i++) {
		if (v.p[i] == '\n')
			break;
		if (v.p[i] == '\\' && i + 1 < v.n && v.p[i + 1] != '\n')
			i++;
		else if (v.p[i] == '"')
			quoted = !quoted;
		else if (!quoted && v.p[i] == '(')
			depth++;
		else if (!quoted && v.p[i] == ')' && depth > 0)
			depth--;
		else if (!quoted && depth == 0 && v.p[i] == ',')
			break;
	}
	p = view_head(v, i);
	*rest = view_from(v, i);
	*line_begin = false;
	return view_trim(p);
}

/* If all of v is one quoted string, what it means goes into out. */
static bool
list_unquote(struct view v, struct buf *out)
{
	size_t i;

	buf_clear(out);
	if (v.n < 2 || v.p[0] != '"')
		return false;
	for (i = 1; i < v.n && v.p[i] != '"'; i++) {
		if (v.p[i] == '\\' && i + 1 < v.n)
			i++;
		(void)buf_putc(out, v.p[i]);
	}
	return i == v.n - 1;
}

static enum list_kind
list_kind_of(struct view v, bool quoted)
{
	if (v.n > 0 && v.p[0] == '|')
		return LIST_COMMAND;
	if (view_starts_nocase(v, ":include:"))
		return LIST_INCLUDE;
	/* /C=../@gateway is an address. */
	if (v.n > 0 && v.p[0] == '/' && (quoted ||
	    view_find(v, '@') == v.n))
		return LIST_FILE;
	return LIST_ADDRESS;
}

static bool
list_addresses(struct list *l, struct view v)
{
	enum list_kind kind = LIST_ADDRESS;
	struct mailbox_scan s;
	struct mailbox m;
	bool ok = true;
	size_t n = 0;

	if (v.n > 1 && v.p[0] == '\\') {
		kind = LIST_DIRECT;
		v = view_from(v, 1);
	}
	mailbox_init(&s);
	mailbox_begin(&s, v);
	while (ok && mailbox_next(&s, &m)) {
		n++;
		ok = m.addr.n > 0 && m.addr.n <= ADDRESS_MAX &&
		    l->item(kind, m.addr, l->arg);
	}
	mailbox_free(&s);
	return ok && n > 0;
}

static bool
list_one(struct list *l, struct view v)
{
	bool quoted = list_unquote(v, &l->piece);
	struct view text = quoted ? view_trim(buf_view(&l->piece)) : v;
	enum list_kind kind = list_kind_of(text, quoted);

	switch (kind) {
	case LIST_COMMAND:
		text = view_trim(view_from(text, 1));
		break;
	case LIST_INCLUDE:
		text = view_trim(view_from(text, strlen(":include:")));
		break;
	case LIST_FILE:
		break;
	case LIST_ADDRESS:
	case LIST_DIRECT:
	default:
		return list_addresses(l, v);
	}
	/* What would end early in a path or a command is none. */
	return text.n > 0 && view_find(text, '\0') == text.n &&
	    l->item(kind, text, l->arg);
}

bool
list_parse(struct view text, list_item *item, void *arg,
    struct view *ret_bad)
{
	struct list l = { .item = item, .arg = arg };
	bool line_begin = true, ok = true;
	struct view piece;

	buf_init(&l.piece, LIST_ITEM_MAX);
	while (ok && (piece = list_piece(&text, &line_begin)).n > 0) {
		ok = piece.n <= LIST_ITEM_MAX && list_one(&l, piece);
		if (!ok)
			*ret_bad = piece;
	}
	buf_free(&l.piece);
	return ok;
}
