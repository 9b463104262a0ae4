#include "lib/log.h"
#include "rules/field.h"

#define SECTIONS_MAX	64	/* of one parameter; RFC 2231 section 3 */

static const struct {
	const char *name;
	enum field field;
} fields[] = {
	{ "Content-Description", FIELD_CONTENT_DESCRIPTION },
	{ "Content-Disposition", FIELD_CONTENT_DISPOSITION },
	{ "Content-ID", FIELD_CONTENT_ID },
	{ "Content-Transfer-Encoding", FIELD_CONTENT_TRANSFER_ENCODING },
	{ "Content-Type", FIELD_CONTENT_TYPE },
	{ "Delivered-To", FIELD_DELIVERED_TO },
	{ "MIME-Version", FIELD_MIME_VERSION },
	{ "Message-ID", FIELD_MESSAGE_ID },
	{ "Received", FIELD_RECEIVED },
	{ "Resent-Message-ID", FIELD_RESENT_MESSAGE_ID },
};

enum field
field_find(struct view name)
{
	size_t i;

	for (i = 0; i < sizeof fields / sizeof fields[0]; i++)
		if (name.n > 0 &&
		    ((name.p[0] ^ fields[i].name[0]) & ~0x20) == 0 &&
		    view_is_nocase(name, fields[i].name))
			return fields[i].field;
	return FIELD_OTHER;
}

bool
field_is_mime(enum field f)
{
	switch (f) {
	case FIELD_CONTENT_DESCRIPTION:
	case FIELD_CONTENT_DISPOSITION:
	case FIELD_CONTENT_ID:
	case FIELD_CONTENT_TRANSFER_ENCODING:
	case FIELD_CONTENT_TYPE:
	case FIELD_MIME_VERSION:
		return true;
	case FIELD_OTHER:
	case FIELD_DELIVERED_TO:
	case FIELD_MESSAGE_ID:
	case FIELD_RECEIVED:
	case FIELD_RESENT_MESSAGE_ID:
		break;
	}
	return false;
}

/* What is left of a value.  plain: '(' does not begin a comment any more. */
struct scan {
	struct view v;
	bool plain;
};

static void
step(struct scan *s)
{
	s->v = view_from(s->v, 1);
}

/*
 * Skip white space and comments, which nest and have quoted pairs.  A comment
 * without an end could hide the rest from us and not from a receiver that
 * knows no comments; so from there on nothing is a comment.
 */
static void
skip_blank(struct scan *s)
{
	struct view begin = { NULL, 0 };
	size_t depth = 0;

	for (; s->v.n > 0; step(s)) {
		if (s->v.p[0] == '(' && !s->plain) {
			if (depth++ == 0)
				begin = s->v;
		} else if (depth > 0 && s->v.p[0] == ')')
			depth--;
		else if (depth > 0 && s->v.p[0] == '\\' && s->v.n > 1)
			step(s);
		else if (depth == 0 && !view_space(s->v.p[0]))
			return;
	}
	if (depth > 0) {
		s->v = begin;
		s->plain = true;
	}
}

static bool
is_token(char c)
{
	return (unsigned char)c > ' ' && c != 127 &&
	    strchr("()<>@,;:\\\"/[]?=", c) == NULL;
}

static struct view
take_token(struct scan *s)
{
	struct view t = s->v;

	while (s->v.n > 0 && is_token(s->v.p[0]))
		step(s);
	t.n -= s->v.n;
	return t;
}

void
field_type(struct view value, struct view *ret_type,
    struct view *ret_subtype, struct view *ret_rest)
{
	struct scan s = { value, false };

	*ret_subtype = view_make("", 0);
	skip_blank(&s);
	*ret_type = take_token(&s);
	skip_blank(&s);
	if (s.v.n > 0 && s.v.p[0] == '/') {
		step(&s);
		skip_blank(&s);
		*ret_subtype = take_token(&s);
	}
	*ret_rest = s.v;
}

/* The caller made room for it: see field_param(). */
static void
add(struct buf *b, char c)
{
	ensure(b->n < b->cap);
	b->p[b->n++] = c;
}

/*
 * Read a parameter's value into scratch.  An unquoted one goes on to white
 * space or a semicolon, because many receivers read it so.
 */
static struct field_value
take_value(struct scan *s, struct buf *scratch)
{
	struct field_value r = { { NULL, 0 }, 0 };
	size_t begin = scratch->n;
	bool token = true;

	if (s->v.n > 0 && s->v.p[0] == '"') {
		for (step(s); s->v.n > 0 && s->v.p[0] != '"'; step(s)) {
			if (s->v.p[0] == '\\' && s->v.n > 1)
				step(s);
			if (s->v.p[0] != '\n')	/* a fold */
				add(scratch, s->v.p[0]);
		}
		step(s);
		r.token_n = scratch->n - begin;
	} else {
		for (; s->v.n > 0 && s->v.p[0] != ';' &&
		    !view_space(s->v.p[0]); step(s)) {
			token = token && is_token(s->v.p[0]);
			r.token_n += token;
			add(scratch, s->v.p[0]);
		}
	}
	r.text = view_make(scratch->p + begin, scratch->n - begin);
	return r;
}

/* One section of an RFC 2231 parameter. */
struct section {
	struct view text;
	bool encoded;
};

/*
 * suffix is what follows the parameter's name: "", "*", "*0", "*0*".
 * Returns SECTIONS_MAX for what is none.
 */
static size_t
section_number(struct view suffix, bool *ret_encoded)
{
	size_t i = 1, n = 0;

	*ret_encoded = suffix.n > 1 && suffix.p[suffix.n - 1] == '*';
	if (suffix.n == 0 || suffix.p[0] != '*')
		return SECTIONS_MAX;
	if (suffix.n == 1) {
		*ret_encoded = true;
		return 0;
	}
	for (; i < suffix.n - (*ret_encoded ? 1 : 0); i++) {
		if (suffix.p[i] < '0' || suffix.p[i] > '9')
			return SECTIONS_MAX;
		n = n * 10 + (size_t)(suffix.p[i] - '0');
		if (n >= SECTIONS_MAX)
			return SECTIONS_MAX;
	}
	return n;
}

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void
join_section(const struct section *s, bool first, struct buf *scratch)
{
	struct view v = s->text;
	size_t i, quote;

	/* charset'language'text */
	for (i = 0; s->encoded && first && i < 2; i++) {
		quote = view_find(v, '\'');
		if (quote < v.n)
			v = view_from(v, quote + 1);
	}
	for (i = 0; i < v.n; i++) {
		if (s->encoded && v.p[i] == '%' && i + 2 < v.n &&
		    hex(v.p[i + 1]) >= 0 && hex(v.p[i + 2]) >= 0) {
			add(scratch, (char)((unsigned)hex(v.p[i + 1]) * 16 +
			    (unsigned)hex(v.p[i + 2])));
			i += 2;
		} else
			add(scratch, v.p[i]);
	}
}

static void
join(const struct section *sections, struct buf *scratch, field_each *each,
    void *arg)
{
	struct field_value r;
	size_t begin = scratch->n, i;

	if (sections[0].text.p == NULL)
		return;
	for (i = 0; i < SECTIONS_MAX && sections[i].text.p != NULL; i++)
		join_section(&sections[i], i == 0, scratch);
	r.text = view_make(scratch->p + begin, scratch->n - begin);
	r.token_n = r.text.n;
	each(&r, arg);
}

bool
field_params(struct view params, struct buf *scratch,
    field_param_each *each, void *arg)
{
	struct field_value value;
	struct scan s = { params, false };
	struct view word;
	size_t n = 0;

	/* Values are never longer than their source, joined ones neither. */
	buf_clear(scratch);
	ensure(buf_room(scratch, 2 * params.n + 1) != NULL);
	while (s.v.n > 0) {
		skip_blank(&s);
		word = take_token(&s);
		if (word.n == 0) {
			step(&s);
			continue;
		}
		skip_blank(&s);
		if (s.v.n == 0 || s.v.p[0] != '=')
			continue;
		step(&s);
		skip_blank(&s);
		value = take_value(&s, scratch);
		each(word, &value, arg);
		n++;
	}
	return n <= FIELD_PARAMS_MAX;
}

/* What field_param() collects of one parameter. */
struct collect {
	struct section sections[SECTIONS_MAX];
	const char *name;
	field_each *each;
	void *arg;
};

static void
collect(struct view word, const struct field_value *v, void *arg)
{
	struct collect *c = arg;
	struct view suffix;
	size_t n;
	bool encoded;

	if (!view_starts_nocase(word, c->name))
		return;
	suffix = view_from(word, strlen(c->name));
	if (suffix.n == 0)
		c->each(v, c->arg);
	n = section_number(suffix, &encoded);
	if (n < SECTIONS_MAX && c->sections[n].text.p == NULL)
		c->sections[n] = (struct section){ v->text, encoded };
}

void
field_param(struct view params, const char *name, struct buf *scratch,
    field_each *each, void *arg)
{
	struct collect c = { .name = name, .each = each, .arg = arg };

	(void)field_params(params, scratch, collect, &c);
	join(c.sections, scratch, each, arg);
}
