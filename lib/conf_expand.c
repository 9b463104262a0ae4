/*
 * $name expansion.  A parameter may name others that name others; three
 * limits keep a hostile or mistaken file from costing more than it should:
 * the depth, the length of the result, and the bytes looked at (names that
 * double at each level make work grow without making the text longer).
 */
#include "lib/conf_source.h"
#include "lib/log.h"

#define DEPTH_MAX	100
#define WORK_MAX	(32u * 1024 * 1024)

struct conf_interned {
	struct conf_interned *next;
	struct view key;
	const char *text;
};
#define INTERNED_SLOTS	256

/* The parameters being expanded, innermost first. */
struct frame {
	struct view name;
	unsigned line;
	const struct frame *up;
};

struct expansion {
	struct conf_source *src;
	struct conf_reporter *r;
	unsigned depth;
};

enum relation { REL_NONE = 0, REL_EQ, REL_NE, REL_LT, REL_LE, REL_GT, REL_GE };

/* Longest first: "<" is the beginning of "<=level". */
static const struct {
	const char *text;
	enum relation rel;
	bool level;
} relations[] = {
	{ "==level", REL_EQ, true }, { "!=level", REL_NE, true },
	{ "<=level", REL_LE, true }, { ">=level", REL_GE, true },
	{ "<level", REL_LT, true }, { ">level", REL_GT, true },
	{ "==", REL_EQ, false }, { "!=", REL_NE, false },
	{ "<=", REL_LE, false }, { ">=", REL_GE, false },
	{ "<", REL_LT, false }, { ">", REL_GT, false },
};

static bool expand_text(struct expansion *x, const struct frame *f,
    struct view text, struct buf *out);

static bool
name_byte(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

static struct view
skip_space(struct view v)
{
	while (v.n > 0 && view_space(v.p[0]))
		v = view_from(v, 1);
	return v;
}

static struct view
take_name(struct view v)
{
	size_t n = 0;

	while (n < v.n && name_byte(v.p[n]))
		n++;
	return view_head(v, n);
}

/* v begins with `open`: the bytes up to its partner, which is at v.p[n+1].
 * False: it has none. */
static bool
take_group(struct view v, char open, char shut, struct view *ret)
{
	size_t i, level = 0;

	for (i = 0; i < v.n; i++) {
		if (v.p[i] == open)
			level++;
		else if (v.p[i] == shut && --level == 0) {
			*ret = view_make(v.p + 1, i - 1);
			return true;
		}
	}
	return false;
}

static bool
expand_fault(struct expansion *x, const struct frame *f, const char *what,
    struct view at)
{
	if (f->name.n > 0)
		conf_tell(x->r, true, f->line, "%.*s: %s: \"%.*s\"",
		    VIEW_ARGS(f->name), what, VIEW_ARGS(view_head(at, 60)));
	else
		conf_tell(x->r, true, f->line, "%s: \"%.*s\"", what,
		    VIEW_ARGS(view_head(at, 60)));
	return false;
}

/* One warning for each name, however often it is used. */
static void
warn_undefined(struct expansion *x, const struct frame *f, struct view name)
{
	struct conf_interned *w;
	bool raw;

	for (w = x->src->warned; w != NULL; w = w->next)
		if (view_eq(w->key, name))
			return;
	w = arena_alloc(x->src->arena, sizeof *w);
	w->key = arena_copy(x->src->arena, name);
	w->next = x->src->warned;
	x->src->warned = w;
	if (conf_known(name, &raw))
		conf_tell(x->r, false, f->line, "parameter is not used by "
		    "Postern and not set: %.*s", VIEW_ARGS(name));
	else
		conf_tell(x->r, false, f->line, "undefined parameter: %.*s",
		    VIEW_ARGS(name));
}

static bool
expand_name(struct expansion *x, const struct frame *f, struct view name,
    struct buf *out)
{
	struct frame inner = { name, 0, f };
	const struct frame *up;
	struct view value;

	for (up = f; up != NULL; up = up->up)
		if (view_eq(up->name, name))
			return expand_fault(x, up, "refers to itself through",
			    f->name);
	if (conf_source_value(x->src, name, &value, &inner.line))
		return expand_text(x, &inner, value, out);
	warn_undefined(x, f, name);
	return true;
}

/* "3", "3.6" or "3.6.1" as one number. */
static bool
level_number(struct view v, int64_t *ret)
{
	int64_t n = 0, part;
	bool more = true;
	size_t len;
	int i;

	v = view_trim(v);
	for (i = 0; i < 3; i++) {
		part = 0;
		if (more) {
			len = view_find(v, '.');
			if (!conf_parse_int(view_head(v, len), 0, 65535,
			    &part))
				return false;
			more = len < v.n;
			v = view_from(v, len + 1);
		}
		n = n * 65536 + part;
	}
	*ret = n;
	return !more;
}

static bool
all_digits(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if (v.p[i] < '0' || v.p[i] > '9')
			return false;
	return v.n > 0;
}

/* As numbers when both are, of any length; else by bytes. */
static int
compare_text(struct view a, struct view b)
{
	int c;

	if (all_digits(a) && all_digits(b)) {
		while (a.n > 0 && a.p[0] == '0')
			a = view_from(a, 1);
		while (b.n > 0 && b.p[0] == '0')
			b = view_from(b, 1);
		if (a.n != b.n)
			return a.n < b.n ? -1 : 1;
	}
	c = a.n == 0 || b.n == 0 ? 0 :
	    memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
	return c != 0 ? c : (a.n > b.n) - (a.n < b.n);
}

static bool
relation_holds(enum relation rel, int c)
{
	switch (rel) {
	case REL_EQ: return c == 0;
	case REL_NE: return c != 0;
	case REL_LT: return c < 0;
	case REL_LE: return c <= 0;
	case REL_GT: return c > 0;
	case REL_GE: return c >= 0;
	case REL_NONE: break;
	}
	panic("relation %d", (int)rel);
}

/* {a} op {b}, at the beginning of *v, which then is what follows. */
static bool
expand_relation(struct expansion *x, const struct frame *f, struct view *v,
    bool *ret)
{
	struct view left, right, rest;
	struct buf a, b;
	int64_t la, lb;
	size_t i, n = sizeof relations / sizeof relations[0];
	bool ok;

	if (!take_group(*v, '{', '}', &left))
		return expand_fault(x, f, "\"}\" expected in", *v);
	rest = skip_space(view_from(*v, left.n + 2));
	for (i = 0; i < n; i++)
		if (view_starts_nocase(rest, relations[i].text))
			break;
	if (i == n)
		return expand_fault(x, f, "\"==\", \"!=\", \"<\", \"<=\", "
		    "\">\" or \">=\" expected at", rest);
	rest = skip_space(view_from(rest, strlen(relations[i].text)));
	if (rest.n == 0 || rest.p[0] != '{' ||
	    !take_group(rest, '{', '}', &right))
		return expand_fault(x, f, "\"{\" expected at", rest);
	*v = skip_space(view_from(rest, right.n + 2));

	buf_init(&a, CONF_EXPANDED_MAX);
	buf_init(&b, CONF_EXPANDED_MAX);
	ok = expand_text(x, f, left, &a) && expand_text(x, f, right, &b);
	if (ok && relations[i].level) {
		ok = level_number(buf_view(&a), &la) &&
		    level_number(buf_view(&b), &lb);
		if (ok)
			*ret = relation_holds(relations[i].rel,
			    (la > lb) - (la < lb));
		else
			(void)expand_fault(x, f, "not a compatibility level "
			    "in", left);
	} else if (ok) {
		*ret = relation_holds(relations[i].rel,
		    compare_text(buf_view(&a), buf_view(&b)));
	}
	buf_free(&a);
	buf_free(&b);
	return ok;
}

/*
 * What follows ? or :, that is "value", "{value}" or, after ?,
 * "{value}:{other}".
 */
static bool
expand_choice(struct expansion *x, const struct frame *f, bool truth,
    struct view v, struct buf *out)
{
	struct view rest = view_from(v, 1), p = skip_space(rest);
	struct view first = rest, second = { NULL, 0 };
	bool want_first = truth == (v.p[0] == '?');

	if (p.n > 0 && p.p[0] == '{') {
		if (!take_group(p, '{', '}', &first))
			return expand_fault(x, f, "\"}\" expected in", p);
		rest = skip_space(view_from(p, first.n + 2));
		if (rest.n > 0 && v.p[0] == ':')
			return expand_fault(x, f, "unexpected input at", rest);
		if (rest.n > 0 && rest.p[0] != ':')
			return expand_fault(x, f, "\":\" expected at", rest);
		second = view_from(rest, 1);
		p = skip_space(second);
		if (p.n > 0 && p.p[0] == '{') {
			if (!take_group(p, '{', '}', &second))
				return expand_fault(x, f,
				    "\"}\" expected in", p);
			rest = skip_space(view_from(p, second.n + 2));
			if (rest.n > 0)
				return expand_fault(x, f,
				    "unexpected input at", rest);
		}
	}
	return expand_text(x, f, want_first ? first : second, out);
}

/* The inside of ${...} or $(...). */
static bool
expand_braced(struct expansion *x, const struct frame *f, struct view v,
    struct buf *out)
{
	struct view name, value;
	unsigned line;
	bool truth = false, set;

	v = skip_space(v);
	if (v.n > 0 && v.p[0] == '{') {
		if (!expand_relation(x, f, &v, &truth))
			return false;
		if (v.n == 0)
			return !truth || buf_puts(out, "true") ||
			    expand_fault(x, f, "too long", v);
		if (v.p[0] != '?' && v.p[0] != ':')
			return expand_fault(x, f, "\"?\" or \":\" expected at",
			    v);
		return expand_choice(x, f, truth, v, out);
	}
	name = take_name(v);
	if (name.n == 0)
		return expand_fault(x, f, "parameter name expected at", v);
	v = skip_space(view_from(v, name.n));
	if (v.n == 0)
		return expand_name(x, f, name, out);
	if (v.p[0] != '?' && v.p[0] != ':')
		return expand_fault(x, f, "attribute name syntax error at", v);
	/* A test looks at the text as written: "$empty" is not empty. */
	set = conf_source_value(x->src, name, &value, &line);
	if (!set && !conf_known(name, &truth))
		warn_undefined(x, f, name);
	return expand_choice(x, f, set && value.n > 0, v, out);
}

/* v begins with '$'; *ret_used is how much of it the reference takes. */
static bool
expand_reference(struct expansion *x, const struct frame *f, struct view v,
    size_t *ret_used, struct buf *out)
{
	struct view rest = view_from(v, 1), inner;
	char c = rest.n > 0 ? rest.p[0] : '\0';

	if (c == '$') {
		*ret_used = 2;
		return buf_putc(out, '$') || expand_fault(x, f, "too long", v);
	}
	if (c == '{' || c == '(') {
		if (!take_group(rest, c, c == '{' ? '}' : ')', &inner))
			return expand_fault(x, f, "truncated macro reference",
			    v);
		*ret_used = inner.n + 3;
		return expand_braced(x, f, inner, out);
	}
	inner = take_name(rest);
	if (inner.n == 0)
		return expand_fault(x, f, "empty macro name", v);
	*ret_used = inner.n + 1;
	return expand_name(x, f, inner, out);
}

static bool
expand_text(struct expansion *x, const struct frame *f, struct view text,
    struct buf *out)
{
	size_t n, used = 0;
	bool ok = true;

	x->src->work += text.n + 64;
	if (++x->depth > DEPTH_MAX || x->src->work > WORK_MAX)
		return expand_fault(x, f, x->depth > DEPTH_MAX ?
		    "names other parameters too deeply" :
		    "names other parameters too often", text);
	while (ok && text.n > 0) {
		n = view_find(text, '$');
		if (!buf_putv(out, view_head(text, n)))
			return expand_fault(x, f, "too long when expanded",
			    text);
		text = view_from(text, n);
		if (text.n == 0)
			break;
		ok = expand_reference(x, f, text, &used, out);
		text = view_from(text, used);
	}
	x->depth--;
	return ok;
}

bool
conf_expand_into(struct conf_source *src, struct conf_reporter *r,
    struct view name, unsigned line, struct view text, struct buf *out)
{
	struct expansion x = { .src = src, .r = r };
	struct frame f = { name, line, NULL };

	return expand_text(&x, &f, text, out);
}

/* Kept until the source goes; "" when that would take too much memory. */
static const char *
source_keep(struct conf_source *src, struct conf_reporter *r, struct view v)
{
	if (v.n > CONF_MEMORY_MAX / 2 - arena_used(src->arena) / 2) {
		conf_tell(r, true, 0, "too much text when expanded");
		return "";
	}
	return arena_copy(src->arena, v).p;
}

const char *
conf_source_text(struct conf_source *src, struct conf_reporter *r,
    struct conf_setting *s)
{
	struct buf b;
	bool raw;

	if (s->text != NULL)
		return s->text;
	s->text = s->value.p;
	if (view_find(s->value, '$') == s->value.n ||
	    (conf_known(s->name, &raw) && raw))
		return s->text;
	buf_init(&b, CONF_EXPANDED_MAX);
	s->text = conf_expand_into(src, r, s->name, s->line, s->value, &b) ?
	    source_keep(src, r, buf_view(&b)) : "";
	buf_free(&b);
	return s->text;
}

static void
expand_report(bool error, const char *text, void *arg)
{
	(void)error, (void)arg;
	log_warn("%s", text);
}

const char *
conf_text(const struct conf *cf, struct view name)
{
	struct conf_source *src = cf->source;
	struct conf_reporter r = { expand_report, NULL, src->origin, 0 };
	struct conf_setting *s = conf_source_find(src, name);
	const struct conf_param *p;

	src->work = 0;
	if (s != NULL)
		return conf_source_text(src, &r, s);
	p = conf_param_find(name);
	return p != NULL ? src->defaults[p - conf_params] : NULL;
}

/* Results are remembered, so that a text expanded for each message costs
 * its memory once. */
const char *
conf_expand(const struct conf *cf, const char *text)
{
	struct conf_source *src = cf->source;
	struct conf_reporter r = { expand_report, NULL, src->origin, 0 };
	struct view key = view_of(text);
	struct conf_interned *e, **slot;
	struct buf b;
	unsigned h = 5381;
	size_t i;

	for (i = 0; i < key.n; i++)
		h = h * 33 + (unsigned char)key.p[i];
	if (src->interned == NULL)
		src->interned = mem_array(INTERNED_SLOTS,
		    sizeof *src->interned);
	slot = &src->interned[h % INTERNED_SLOTS];
	for (e = *slot; e != NULL; e = e->next)
		if (view_eq(e->key, key))
			return e->text;
	src->work = 0;
	buf_init(&b, CONF_EXPANDED_MAX);
	if (key.n > CONF_LINE_MAX ||
	    arena_used(src->arena) > CONF_MEMORY_MAX / 4 * 3) {
		log_warn("%s: too much text to expand", src->origin);
		return "";
	}
	e = arena_alloc(src->arena, sizeof *e);
	e->key = arena_copy(src->arena, key);
	e->text = conf_expand_into(src, &r, view_of(""), 0, key, &b) ?
	    source_keep(src, &r, buf_view(&b)) : "";
	buf_free(&b);
	e->next = *slot;
	*slot = e;
	return e->text;
}

struct view
conf_reference(struct view text, size_t at)
{
	struct view v = view_from(text, at + 1);

	if (v.n > 0 && (v.p[0] == '{' || v.p[0] == '('))
		v = skip_space(view_from(v, 1));
	return take_name(v);
}
