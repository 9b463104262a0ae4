#include <ctype.h>

#include "rules/byte_set.h"
#include "rules/pattern_tree.h"

#define NESTING_MAX	32u
#define REPEAT_NUMBER_MAX	100000u

/* What inline options change, to the end of their group. */
struct mode {
	bool nocase, extended;
};

struct parser {
	bool posix;
	struct view text;
	size_t at;
	unsigned depth;
	struct arena *arena;
};

/* Children in the making. */
struct list {
	struct pattern_node *first, **end;
};

static bool parse_choice(struct parser *p, struct mode m,
    struct pattern_node **ret);

static int
peek(const struct parser *p, size_t ahead)
{
	size_t i = p->at + ahead;

	return i < p->text.n ? (unsigned char)p->text.p[i] : -1;
}

static bool
is_repeat(int c)
{
	return c == '*' || c == '+' || c == '?' || c == '{';
}

/* -- nodes --------------------------------------------------------------- */

static struct pattern_node *
node_new(const struct parser *p, enum node_kind kind)
{
	struct pattern_node *n = arena_alloc(p->arena, sizeof(*n));

	*n = (struct pattern_node){ .kind = kind };
	return n;
}

static void
list_init(struct list *l)
{
	l->first = NULL;
	l->end = &l->first;
}

static void
list_add(struct list *l, struct pattern_node *n)
{
	*l->end = n;
	l->end = &n->next;
}

static struct pattern_node *
node_byte(const struct parser *p, const struct mode *m, unsigned c)
{
	struct pattern_node *n = node_new(p, NODE_SET);

	n->set[c / 64] |= (uint64_t)1 << (c % 64);
	/* Without locales only these have two cases. */
	if (m->nocase && c < 0x80 && isalpha((int)c)) {
		c ^= 0x20;
		n->set[c / 64] |= (uint64_t)1 << (c % 64);
	}
	return n;
}

/* NULL: of no byte at all, which matches nothing. */
static struct pattern_node *
node_bytes(const struct parser *p, const struct byte_set *b)
{
	struct pattern_node *n = node_new(p, NODE_SET);
	bool some = false;

	for (unsigned i = 0; i < 256; i++) {
		if (!b->has[i])
			continue;
		n->set[i / 64] |= (uint64_t)1 << (i % 64);
		some = true;
	}
	return some ? n : NULL;
}

/* What takes no room. */
static struct pattern_node *
node_nothing(const struct parser *p)
{
	return node_new(p, NODE_SEQUENCE);
}

/* -- bracket expressions ------------------------------------------------- */

/* One byte behind a backslash of PCRE2; p->at stands on the letter.  Moves
 * behind it; -1: not one, or not known. */
static int
escaped_byte(struct parser *p)
{
	static const char letters[] = "tnrfea";
	static const char values[] = "\t\n\r\f\033\a";
	int c = peek(p, 0), value = 0;
	const char *s;

	p->at++;
	if (c <= 0 || c >= 0x80)
		return -1;
	if (!isalnum(c))
		return c;
	if ((s = strchr(letters, c)) != NULL)
		return values[s - letters];
	if (c != 'x')
		return -1;
	for (unsigned i = 0; i < 2; i++) {
		int digit = peek(p, i);

		if (digit < 0 || !isxdigit(digit))
			return -1;
		value = 16 * value + (isdigit(digit) ? digit - '0' :
		    tolower(digit) - 'a' + 10);
	}
	p->at += 2;
	return value;
}

/* glibc folds the ends of a range before it looks at what is between. */
static bool
range_is_plain(int from, int to)
{
	return (isdigit(from) && isdigit(to)) ||
	    (islower(from) && islower(to)) || (isupper(from) && isupper(to));
}

/* "[:name:]" at p->at; 0: not there, -1: not known. */
static int
bracket_class(struct parser *p, struct byte_set *b)
{
	size_t end;
	bool negate;

	if (peek(p, 0) != '[' || (peek(p, 1) != ':' && peek(p, 1) != '.' &&
	    peek(p, 1) != '='))
		return 0;
	if (peek(p, 1) != ':')
		return -1;
	p->at += 2;
	negate = peek(p, 0) == '^';
	if (negate && p->posix)
		return -1;
	p->at += negate ? 1 : 0;
	for (end = p->at; end < p->text.n && islower(
	    (unsigned char)p->text.p[end]); end++)
		;
	if (end + 1 >= p->text.n || p->text.p[end] != ':' ||
	    p->text.p[end + 1] != ']' || !byte_set_class(b, view_head(view_from(
	    p->text, p->at), end - p->at), negate))
		return -1;
	p->at = end + 2;
	return 1;
}

/* The next byte of a bracket expression; -1: not known, -2: it was a set,
 * which is in b now. */
static int
bracket_byte(struct parser *p, struct byte_set *b)
{
	int c = peek(p, 0), class = bracket_class(p, b);

	if (class != 0)
		return class > 0 ? -2 : -1;
	p->at++;
	if (c != '\\' || p->posix)
		return c;
	c = peek(p, 0);
	if (c > 0 && byte_set_escape(b, c, false)) {
		p->at++;
		return -2;
	}
	if (c == 'b') {
		p->at++;
		return '\b';
	}
	return escaped_byte(p);
}

/* What is between the brackets; p->at moves behind them. */
static bool
bracket_items(struct parser *p, const struct mode *m, struct byte_set *b)
{
	bool first = true;
	int from, to;

	for (; peek(p, 0) != ']' || first; first = false) {
		if (peek(p, 0) < 0 || (from = bracket_byte(p, b)) == -1)
			return false;
		if (from < 0) {
			/* "[\d-x]": where versions differ. */
			if (peek(p, 0) == '-' && peek(p, 1) != ']')
				return false;
			continue;
		}
		to = from;
		if (peek(p, 0) == '-' && peek(p, 1) != ']') {
			p->at++;
			if (peek(p, 0) < 0)
				return false;
			to = bracket_byte(p, b);
			if (to < from || (p->posix && m->nocase &&
			    !range_is_plain(from, to)))
				return false;
		}
		byte_set_range(b, (unsigned)from, (unsigned)to);
	}
	p->at++;
	return true;
}

static struct pattern_node *
parse_bracket(struct parser *p, const struct mode *m)
{
	struct byte_set b = { .has = { false } };
	bool negate;

	p->at++;
	negate = peek(p, 0) == '^';
	p->at += negate ? 1 : 0;
	if (!bracket_items(p, m, &b))
		return NULL;
	if (m->nocase)
		byte_set_fold(&b);
	if (negate)
		byte_set_invert(&b);
	return node_bytes(p, &b);
}

/* -- groups -------------------------------------------------------------- */

/* "(?i-s)" and "(?i:": p->at behind the "?".  False: not known. */
static bool
inline_options(struct parser *p, struct mode *m, bool *ret_group)
{
	bool on = true, x_seen = false;

	for (;; p->at++) {
		switch (peek(p, 0)) {
		case '-':
			if (!on)
				return false;
			on = false;
			break;
		case 'i':
			m->nocase = on;
			break;
		case 'x':
			/* "xx" is another option. */
			if (x_seen)
				return false;
			x_seen = true;
			m->extended = on;
			break;
		case 'm': case 's': case 'U':
			break;
		case ')': case ':':
			*ret_group = peek(p, 0) == ':';
			p->at++;
			return true;
		default:
			return false;
		}
	}
}

/* Behind the name of a group that ends with end. */
static bool
skip_name(struct parser *p, int end)
{
	while (peek(p, 0) >= 0 && byte_is_word(peek(p, 0)))
		p->at++;
	if (peek(p, 0) != end)
		return false;
	p->at++;
	return true;
}

static bool
skip_comment(struct parser *p)
{
	while (peek(p, 0) >= 0 && peek(p, 0) != ')')
		p->at++;
	p->at++;
	return p->at <= p->text.n;
}

/* "(?": p->at behind both.  *ret_group: it has an inside.  *ret_look: which
 * takes no room. */
static bool
special_group(struct parser *p, struct mode *m, bool *ret_group,
    bool *ret_look)
{
	int c = peek(p, 0), next = peek(p, 1);

	*ret_group = true;
	*ret_look = c == '=' || c == '!' ||
	    (c == '<' && (next == '=' || next == '!'));
	if (*ret_look) {
		p->at += c == '<' ? 2 : 1;
		return true;
	}
	switch (c) {
	case '#':
		*ret_group = false;
		return skip_comment(p);
	case '|': case '>': case ':':
		p->at++;
		return true;
	case '<': case '\'':
		p->at++;
		return skip_name(p, c == '<' ? '>' : c);
	case 'P':
		if (next != '<')
			return false;
		p->at += 2;
		return skip_name(p, '>');
	default:
		return inline_options(p, m, ret_group);
	}
}

/* m: an option without a group of its own changes it. */
static struct pattern_node *
parse_group(struct parser *p, struct mode *m)
{
	struct mode inner = *m;
	bool group = true, look = false;
	struct pattern_node *n;

	p->at++;
	if (!p->posix && peek(p, 0) == '*')
		return NULL;
	if (!p->posix && peek(p, 0) == '?') {
		p->at++;
		if (!special_group(p, &inner, &group, &look))
			return NULL;
		if (!group) {
			*m = inner;
			/* It would repeat what is before the comment. */
			return is_repeat(peek(p, 0)) ? NULL :
			    node_nothing(p);
		}
	}
	if (!parse_choice(p, inner, &n) || peek(p, 0) != ')')
		return NULL;
	p->at++;
	return look ? node_nothing(p) : n;
}

/* -- repeats ------------------------------------------------------------- */

static bool
repeat_number(struct parser *p, uint32_t *ret)
{
	size_t start = p->at;
	uint32_t n = 0;

	while (peek(p, 0) >= 0 && isdigit(peek(p, 0)) &&
	    n < REPEAT_NUMBER_MAX)
		n = 10 * n + (uint32_t)(p->text.p[p->at++] - '0');
	*ret = n;
	return p->at > start && n < REPEAT_NUMBER_MAX;
}

/* The repeat at p->at; false: it is none, or not known. */
static bool
repeat_read(struct parser *p, uint32_t *min, uint32_t *max)
{
	int c = peek(p, 0);

	p->at++;
	*min = c == '+' ? 1 : 0;
	*max = c == '?' ? 1 : PATTERN_ENDLESS;
	if (c == '{') {
		if (!repeat_number(p, min))
			return false;
		*max = *min;
		if (peek(p, 0) == ',') {
			p->at++;
			*max = PATTERN_ENDLESS;
			if (peek(p, 0) != '}' && !repeat_number(p, max))
				return false;
		}
		if (peek(p, 0) != '}' || *max < *min)
			return false;
		p->at++;
	}
	/* Lazy or possessive: this may only be fewer matches. */
	if (!p->posix && (peek(p, 0) == '?' || peek(p, 0) == '+'))
		p->at++;
	return !is_repeat(peek(p, 0));
}

/* -- pieces -------------------------------------------------------------- */

/* p->at on the backslash. */
static struct pattern_node *
parse_escape(struct parser *p, const struct mode *m, bool *ret_anchor)
{
	struct byte_set b = { .has = { false } };
	int c = peek(p, 1);

	if (c < 0)
		return NULL;
	if (byte_set_escape(&b, c, p->posix)) {
		p->at += 2;
		return node_bytes(p, &b);
	}
	p->at++;
	*ret_anchor = strchr(p->posix ? "bB<>`'" : "bBAzZ", c) != NULL;
	if (*ret_anchor) {
		p->at++;
		return node_nothing(p);
	}
	if (p->posix) {
		p->at++;
		return c < 0x80 && !isalnum(c) ?
		    node_byte(p, m, (unsigned)c) : NULL;
	}
	if (c >= '1' && c <= '9') {
		p->at++;
		return peek(p, 0) < 0 || !isdigit(peek(p, 0)) ?
		    node_new(p, NODE_TEXT) : NULL;
	}
	c = escaped_byte(p);
	return c >= 0 ? node_byte(p, m, (unsigned)c) : NULL;
}

/* "\Q...\E" */
static bool
parse_quoted(struct parser *p, const struct mode *m, struct list *l)
{
	for (p->at += 2; peek(p, 0) >= 0; p->at++) {
		if (peek(p, 0) == '\\' && peek(p, 1) == 'E') {
			p->at += 2;
			break;
		}
		list_add(l, node_byte(p, m, (unsigned)peek(p, 0)));
	}
	return !is_repeat(peek(p, 0));
}

/* White space and comments of the flag x. */
static bool
skip_blank(struct parser *p)
{
	int c;

	while ((c = peek(p, 0)) >= 0 && (c == '#' || isspace(c))) {
		if (c == '#')
			while (peek(p, 0) >= 0 && peek(p, 0) != '\n')
				p->at++;
		else
			p->at++;
	}
	return !is_repeat(peek(p, 0));
}

static struct pattern_node *
parse_atom(struct parser *p, struct mode *m, bool *ret_anchor)
{
	struct byte_set b = { .has = { false } };
	int c = peek(p, 0);

	switch (c) {
	case '(':
		return parse_group(p, m);
	case '[':
		return parse_bracket(p, m);
	case '\\':
		return parse_escape(p, m, ret_anchor);
	case '*': case '+': case '?': case '{':
		return NULL;
	case '.':
		p->at++;
		byte_set_range(&b, 0, 255);
		return node_bytes(p, &b);
	case '^': case '$':
		p->at++;
		*ret_anchor = true;
		return node_nothing(p);
	default:
		p->at++;
		return node_byte(p, m, (unsigned)c);
	}
}

static bool
parse_piece(struct parser *p, struct mode *m, struct list *l)
{
	struct pattern_node *n, *repeat;
	bool anchor = false;

	if (!p->posix && peek(p, 0) == '\\' && peek(p, 1) == 'Q')
		return parse_quoted(p, m, l);
	if (m->extended && (peek(p, 0) == '#' || isspace(peek(p, 0))))
		return skip_blank(p);
	n = parse_atom(p, m, &anchor);
	if (n == NULL)
		return false;
	if (is_repeat(peek(p, 0))) {
		repeat = node_new(p, NODE_REPEAT);
		repeat->child = n;
		n = repeat;
		if (anchor || !repeat_read(p, &n->min, &n->max))
			return false;
	}
	list_add(l, n);
	return true;
}

/* Up to the ")" or the end. */
static bool
parse_choice(struct parser *p, struct mode m, struct pattern_node **ret)
{
	struct pattern_node *choice = node_new(p, NODE_CHOICE), *one;
	struct list branches, pieces;

	if (++p->depth > NESTING_MAX)
		return false;
	list_init(&branches);
	for (;;) {
		list_init(&pieces);
		one = node_new(p, NODE_SEQUENCE);
		while (peek(p, 0) >= 0 && peek(p, 0) != ')' &&
		    peek(p, 0) != '|')
			if (!parse_piece(p, &m, &pieces))
				return false;
		one->child = pieces.first;
		list_add(&branches, one);
		if (peek(p, 0) != '|')
			break;
		p->at++;
	}
	p->depth--;
	choice->child = branches.first;
	*ret = one == branches.first ? one : choice;
	return true;
}

/* -- the whole ----------------------------------------------------------- */

static bool
toggled(struct view flags, char flag)
{
	bool on = false;

	for (size_t i = 0; i < flags.n; i++)
		on ^= flags.p[i] == flag;
	return on;
}

/*
 * What is special about some texts to glibc's matcher with back references
 * is not known well enough.
 */
static bool
has_back_reference(struct view text)
{
	for (size_t i = 0; i + 1 < text.n; i++)
		if (text.p[i] == '\\' && isdigit((unsigned char)text.p[++i]))
			return true;
	return false;
}

const struct pattern_node *
pattern_tree(enum pattern_syntax syntax, struct view text,
    struct view flags, struct arena *a)
{
	struct parser p = { .posix = syntax == PATTERN_POSIX, .text = text,
		.arena = a };
	struct mode m = { .nocase = !toggled(flags, 'i') };
	struct pattern_node *n;

	if (text.n > PATTERN_TREE_TEXT_MAX)
		return NULL;
	/* Without "extended" it is another syntax. */
	if (p.posix && (toggled(flags, 'x') || has_back_reference(text)))
		return NULL;
	m.extended = !p.posix && toggled(flags, 'x');
	return parse_choice(&p, m, &n) && p.at == text.n ? n : NULL;
}
