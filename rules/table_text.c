#include <ctype.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/netaddr.h"
#include "rules/table_impl.h"

/* -- static: ------------------------------------------------------------- */

struct static_value {
	char *text;
	size_t n;
};

static void *
static_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	struct static_value *v = mem_alloc(sizeof(*v));

	(void)type;
	(void)s;
	if (name.p[0] == '{') {
		if (table_braces(name) != name.n)
			table_complain(l, 0, true, "braces do not balance");
		else
			name = view_trim(view_head(view_from(name, 1),
			    name.n - 2));
	}
	v->text = mem_copy(name);
	v->n = name.n;
	return v;
}

static void
static_release(void *data)
{
	struct static_value *v = data;

	free(v->text);
	free(v);
}

static enum table_answer
static_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	const struct static_value *v = data;

	(void)key;
	if ((*pos)++ > 0)
		return TABLE_NOT_FOUND;
	return table_found(value, view_make(v->text, v->n), 0, ret_line);
}

static void
static_each(void *data,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	const struct static_value *v = data;

	fn(view_make(v->text, v->n), 0, arg);
}

const struct table_kind table_static = {
	.type = "static", .load = static_load, .release = static_release,
	.find = static_find, .each = static_each
};

/* -- texthash: and inline: ----------------------------------------------- */

static void *
texthash_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	struct memory_table *m = memory_new(false);

	(void)type;
	(void)name;
	table_read_entries(s, l, FORMAT_MAP, DUPLICATE_ERROR, false, m);
	return m;
}

const struct table_kind table_texthash = {
	.type = "texthash", .source = true, .load = texthash_load,
	.release = memory_release, .find = memory_find, .each = memory_each
};

static void *
inline_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	struct memory_table *h = memory_new(false);
	struct view rest, word;
	bool group, bad = false;

	(void)type;
	(void)s;
	if (name.n < 2 || table_braces(name) != name.n) {
		table_complain(l, 0, true, "need inline:{key=value, "
		    "{key = text with spaces}}");
		return h;
	}
	rest = view_head(view_from(name, 1), name.n - 2);
	while (table_inline_word(&rest, &word, &group, &bad)) {
		size_t equals = view_find(word, '=');
		struct view key = view_trim(view_head(word, equals));

		if (equals == word.n)
			table_complain(l, 0, true, "missing '=' after \"%.*s\"",
			    VIEW_ARGS(view_head(word, 200)));
		else if (key.n == 0)
			table_complain(l, 0, true, "missing key before '='");
		else
			memory_put(h, key, view_trim(view_from(word,
			    equals + 1)), 0, l);
	}
	if (bad)
		table_complain(l, 0, true, "braces do not balance");
	else if (memory_count(h) == 0 && l->errors == 0)
		table_complain(l, 0, true, "the table is empty");
	return h;
}

const struct table_kind table_inline = {
	.type = "inline", .load = inline_load, .release = memory_release,
	.find = memory_find, .each = memory_each
};

void
table_entries(const struct table *t,
    void (*fn)(struct view key, struct view value, void *arg), void *arg)
{
	const struct memory_table *m = table_data_of(t);
	struct view key, value;
	struct buf lower;
	unsigned line;

	ensure(table_kind_of(t)->find == memory_find);
	buf_init(&lower, TABLE_FILE_MAX);
	for (size_t i = 0; i < memory_count(m); i++) {
		memory_entry(m, i, &key, &value, &line);
		buf_clear(&lower);
		for (size_t j = 0; j < key.n; j++)
			(void)buf_putc(&lower,
			    (char)tolower((unsigned char)key.p[j]));
		fn(buf_view(&lower), value, arg);
	}
	buf_free(&lower);
}

/* -- cidr: --------------------------------------------------------------- */

enum cidr_op { CIDR_BLOCK = 1, CIDR_IF, CIDR_ENDIF };

struct cidr_rule {
	enum cidr_op op;
	bool negate;
	unsigned bits;
	struct netaddr net;
	unsigned line;
	uint64_t hash;
	size_t end;		/* CIDR_IF: the rule of its endif */
	size_t value, value_n;	/* in pool */
};

struct cidr {
	struct buf pool;
	struct cidr_rule *list;
	size_t n, room;
};

/* Says what is wrong with text, and what was meant perhaps. */
static void
cidr_complain(struct view text, unsigned line, struct table_loader *l)
{
	size_t slash = view_find(text, '/');
	struct netaddr a;

	if (slash < text.n &&
	    netaddr_parse(view_head(text, slash), &a))
		table_complain(l, line, true, "bad network \"%.*s\": the "
		    "length is wrong, or bits behind it are not zero",
		    VIEW_ARGS(view_head(text, 100)));
	else
		table_complain(l, line, true, "bad address pattern \"%.*s\"",
		    VIEW_ARGS(view_head(text, 100)));
}

/* The text of one rule; false: nothing to keep (it was reported). */
static bool
cidr_parse(struct view text, struct cidr_rule *r, struct view *ret_value,
    struct table_loader *l)
{
	struct view pattern, value = { NULL, 0 };
	size_t i = 0;

	r->op = table_keyword(&text, "if") ? CIDR_IF : CIDR_BLOCK;
	r->negate = table_negation(&text);
	while (i < text.n && !view_space(text.p[i]))
		i++;
	pattern = view_head(text, i);
	value = view_trim(view_from(text, i));
	if (pattern.n == 0) {
		table_complain(l, r->line, true, "no address pattern");
		return false;
	}
	if (!netaddr_parse_block(pattern, &r->net, &r->bits)) {
		cidr_complain(pattern, r->line, l);
		return false;
	}
	if (r->op == CIDR_IF && value.n > 0)
		table_complain(l, r->line, true, "text after if (lines "
		    "between if and endif must not start with white space)");
	else if (r->op == CIDR_BLOCK && value.n == 0)
		table_complain(l, r->line, true, "no result");
	*ret_value = value;
	return true;
}

static void
cidr_add(struct cidr *c, struct cidr_rule r, struct view value)
{
	if (c->n == c->room) {
		c->room = c->room > 0 ? 2 * c->room : 32;
		c->list = mem_resize(c->list, c->room, sizeof(*c->list));
	}
	r.value = c->pool.n;
	r.value_n = value.n;
	/* The pool has room for all the text of the source. */
	ensure(buf_putv(&c->pool, value));
	c->list[c->n++] = r;
}

static void *
cidr_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	struct cidr *c = mem_alloc(sizeof(*c));
	struct table_blocks blocks = { .depth = 0 };
	struct view text;
	unsigned line;
	size_t opened;

	(void)type;
	(void)name;
	buf_init(&c->pool, 2 * (size_t)TABLE_FILE_MAX);
	while (table_source_next(s, l, &text, &line)) {
		struct cidr_rule r = { .line = line,
			.hash = row_hash_text(text) };
		struct view value = { NULL, 0 };

		if (table_keyword(&text, "endif")) {
			r.op = CIDR_ENDIF;
			if (!table_block_close(&blocks, text, line, l,
			    &opened))
				continue;
			c->list[opened].end = c->n;
		} else if (!cidr_parse(text, &r, &value, l) ||
		    (r.op == CIDR_IF &&
		    !table_block_open(&blocks, c->n, line, l))) {
			continue;
		}
		cidr_add(c, r, value);
	}
	table_blocks_end(&blocks, l);
	return c;
}

static void
cidr_release(void *data)
{
	struct cidr *c = data;

	buf_free(&c->pool);
	free(c->list);
	free(c);
}

static enum table_answer
cidr_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	const struct cidr *c = data;
	struct netaddr a;

	/* A key in brackets is an address literal of a mail domain. */
	if (key.n == 0 || key.p[0] == '[' || !netaddr_parse(key, &a))
		return TABLE_NOT_FOUND;
	for (size_t i = *pos; i < c->n; i++) {
		const struct cidr_rule *r = &c->list[i];

		/* A rule for the other family says nothing, negated or not. */
		if (r->op != CIDR_ENDIF && r->net.family == a.family &&
		    netaddr_in_block(&a, &r->net, r->bits) != r->negate) {
			if (r->op == CIDR_IF)
				continue;
			*pos = i + 1;
			return table_found(value, view_make(c->pool.p +
			    r->value, r->value_n), r->line, ret_line);
		}
		if (r->op == CIDR_IF)
			i = r->end;
	}
	*pos = c->n;
	return TABLE_NOT_FOUND;
}

static void
cidr_each(void *data,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	const struct cidr *c = data;

	for (size_t i = 0; i < c->n; i++)
		if (c->list[i].op == CIDR_BLOCK)
			fn(view_make(c->pool.p + c->list[i].value,
			    c->list[i].value_n), c->list[i].line, arg);
}

static int
line_compare(const void *line, const void *rule)
{
	unsigned a = *(const unsigned *)line;
	unsigned b = ((const struct cidr_rule *)rule)->line;

	return (a > b) - (a < b);
}

static uint64_t
cidr_row_hash(void *data, unsigned line)
{
	const struct cidr *c = data;
	const struct cidr_rule *r = c->n == 0 ? NULL : bsearch(&line, c->list,
	    c->n, sizeof(*r), line_compare);

	return r != NULL ? r->hash : 0;
}

static struct view
cidr_line_result(struct view text)
{
	struct view key, value;

	if (table_keyword(&text, "if") || table_keyword(&text, "endif"))
		return view_make("", 0);
	(void)table_negation(&text);
	return table_entry(text, &key, &value) ? value : view_make("", 0);
}

const struct table_kind table_cidr = {
	.type = "cidr", .source = true, .load = cidr_load,
	.release = cidr_release, .find = cidr_find, .each = cidr_each,
	.row_hash = cidr_row_hash, .line_result = cidr_line_result
};
