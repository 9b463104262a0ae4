#include "lib/address.h"
#include "rules/mailbox.h"

#define COMMENTS_MAX	4096u

enum token { TOKEN_END = 0, TOKEN_SPACE, TOKEN_COMMENT, TOKEN_QUOTED,
	TOKEN_LITERAL, TOKEN_ATOM, TOKEN_OPERATOR };

void
mailbox_init(struct mailbox_scan *s)
{
	*s = (struct mailbox_scan){ .bare = false };
	buf_init(&s->addr, ADDRESS_MAX);
	buf_init(&s->comments, COMMENTS_MAX);
}

void
mailbox_free(struct mailbox_scan *s)
{
	buf_free(&s->addr);
	buf_free(&s->comments);
}

void
mailbox_begin(struct mailbox_scan *s, struct view text)
{
	s->text = text;
	s->pos = s->bare_end = 0;
	s->bare = s->joined = false;
}

static bool
mailbox_operator(char c)
{
	return c != '\0' && strchr("()<>[]:;@\\,\"", c) != NULL;
}

/* Behind the delimiter that ends a quoted string or a literal; or the end. */
static size_t
mailbox_delimited(struct view t, size_t i, char end)
{
	for (i++; i < t.n; i++) {
		if (t.p[i] == '\\')
			i++;
		else if (t.p[i] == end)
			return i + 1;
	}
	return t.n;
}

static size_t
mailbox_comment(struct view t, size_t i)
{
	size_t depth = 0;

	for (; i < t.n; i++) {
		if (t.p[i] == '\\')
			i++;
		else if (t.p[i] == '(')
			depth++;
		else if (t.p[i] == ')' && --depth == 0)
			return i + 1;
	}
	return t.n;
}

/* The token at *i, which moves behind it. */
static enum token
mailbox_token(struct view t, size_t *i)
{
	size_t begin = *i;
	char c;

	if (begin >= t.n)
		return TOKEN_END;
	c = t.p[begin];
	*i = begin + 1;
	if (view_space(c)) {
		while (*i < t.n && view_space(t.p[*i]))
			(*i)++;
		return TOKEN_SPACE;
	}
	if (c == '(') {
		*i = mailbox_comment(t, begin);
		return TOKEN_COMMENT;
	}
	if (c == '"') {
		*i = mailbox_delimited(t, begin, '"');
		return TOKEN_QUOTED;
	}
	if (c == '[') {
		*i = mailbox_delimited(t, begin, ']');
		return TOKEN_LITERAL;
	}
	if (mailbox_operator(c))
		return TOKEN_OPERATOR;
	while (*i < t.n && !view_space(t.p[*i]) &&
	    !mailbox_operator(t.p[*i]))
		(*i)++;
	return TOKEN_ATOM;
}

/* One address being put together. */
struct spec {
	struct mailbox_scan *s;
	size_t begin, end, at;	/* at: of the last '@' in addr, or none */
	bool any, bad, word, dot, quoted, quoted_domain, route, routed;
};
#define NO_AT	SIZE_MAX

static void
spec_put(struct spec *p, const char *text, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			p->bad = true;
	if (!p->bad && !buf_put(&p->s->addr, text, n))
		p->bad = true;
}

/* What the quotes hold; white space of a fold in there goes. */
static void
spec_quoted(struct spec *p, size_t begin, size_t end)
{
	const char *t = p->s->text.p;
	size_t i;

	if (end - begin < 2 || t[end - 1] != '"') {
		p->bad = true;
		return;
	}
	for (i = begin + 1; i < end - 1; i++) {
		if (t[i] == '\r' || t[i] == '\n')
			continue;
		if (t[i] == '\\')
			i++;
		if (i < end - 1)
			spec_put(p, t + i, 1);
		else
			p->bad = true;
	}
	p->quoted = true;
	p->quoted_domain = p->quoted_domain || p->at != NO_AT;
}

static void
spec_operator(struct spec *p, char c)
{
	struct buf *addr = &p->s->addr;

	if (c == '@') {
		p->route = p->route || addr->n == 0;
		p->at = addr->n;
		p->quoted_domain = false;
		spec_put(p, "@", 1);
	} else if (c == ':' && p->route) {
		buf_clear(addr);
		p->at = NO_AT;
		p->route = false;
		p->routed = true;
	} else if (c != ',' || !p->route)
		p->bad = true;
	p->word = false;
}

/* The last '@' of an address is to be the one in front of its domain. */
static bool
spec_literal(struct view v)
{
	return v.n > 2 && v.p[v.n - 1] == ']' && view_find(v, '@') == v.n &&
	    view_find(v, '\\') == v.n;
}

/* A word; false: it belongs to the next address. */
static bool
spec_word(struct spec *p, enum token kind, size_t begin, size_t end)
{
	const char *t = p->s->text.p;
	bool leading_dot = kind == TOKEN_ATOM && t[begin] == '.';

	if (p->word && !p->dot && !leading_dot)
		return false;
	if (kind == TOKEN_QUOTED) {
		spec_quoted(p, begin, end);
	} else {
		if (kind == TOKEN_LITERAL && (p->at == NO_AT ||
		    p->s->addr.n != p->at + 1 ||
		    !spec_literal(view_make(t + begin, end - begin))))
			p->bad = true;
		spec_put(p, t + begin, end - begin);
	}
	p->word = true;
	p->dot = kind == TOKEN_ATOM && t[end - 1] == '.';
	return true;
}

static void
spec_finish(struct spec *p, struct mailbox *ret)
{
	struct mailbox_scan *s = p->s;

	*ret = (struct mailbox){ .begin = p->begin, .end = p->end,
		.addr = buf_view(&s->addr), .comments = buf_view(&s->comments),
		.has_domain = p->at != NO_AT, .quoted = p->quoted,
		.route = p->routed };
}

/*
 * The address at *i in the text up to end; *i moves behind it, to the next
 * word if there is one.  False: there is none, or it is no address.
 */
static bool
spec_read(struct mailbox_scan *s, size_t *i, size_t end, struct mailbox *ret)
{
	struct view t = view_head(s->text, end);
	struct spec p = { .s = s, .at = NO_AT };
	size_t begin, next = *i, comments = 0;
	enum token kind;

	buf_clear(&s->addr);
	buf_clear(&s->comments);
	while ((kind = mailbox_token(t, &next)) != TOKEN_END) {
		begin = *i;
		if (kind == TOKEN_SPACE || kind == TOKEN_COMMENT) {
			if (kind == TOKEN_COMMENT && p.any &&
			    !buf_put(&s->comments, t.p + begin, next - begin))
				p.bad = true;
			*i = next;
			continue;
		}
		if (kind == TOKEN_OPERATOR)
			spec_operator(&p, t.p[begin]);
		else if (!spec_word(&p, kind, begin, next))
			break;
		if (!p.any)
			p.begin = begin;
		p.any = true;
		p.end = *i = next;
		comments = s->comments.n;
	}
	/* Those behind the last word stay where they are. */
	s->comments.n = comments;
	if (p.bad || p.route || p.quoted_domain || !p.any || (p.at != NO_AT &&
	    (p.at == 0 || p.at + 1 == s->addr.n)))
		return false;
	spec_finish(&p, ret);
	return true;
}

/* "<...>" at pos. */
static bool
mailbox_angle(struct mailbox_scan *s, struct mailbox *ret)
{
	size_t begin = s->pos + 1, i = begin, end, last;
	enum token kind;

	do {
		end = i;
		kind = mailbox_token(s->text, &i);
	} while (kind != TOKEN_END &&
	    (kind != TOKEN_OPERATOR || s->text.p[end] != '>'));
	s->pos = i;
	if (kind == TOKEN_END)
		return false;
	last = begin;
	if (spec_read(s, &last, end, ret))
		/* "<a b>" is not one address. */
		return view_trim(view_make(s->text.p + last,
		    end - last)).n == 0;
	if (view_trim(view_make(s->text.p + begin, end - begin)).n > 0)
		return false;
	*ret = (struct mailbox){ .begin = begin, .end = begin,
		.addr = view_make("", 0), .comments = view_make("", 0) };
	return true;
}

/*
 * Find what comes next: pos moves to its begin.  '<': brackets; 'a': words up
 * to bare_end; 0: nothing.
 */
static char
mailbox_item(struct mailbox_scan *s)
{
	size_t i = s->pos, begin;
	enum token kind;
	bool route = false, any = false;
	char c;

	for (;;) {
		begin = i;
		kind = mailbox_token(s->text, &i);
		c = kind == TOKEN_OPERATOR ? s->text.p[begin] : 'a';
		if (kind == TOKEN_END)
			break;
		if (c == '<') {
			s->pos = begin;
			return c;
		}
		if (c == ';' || (c == ',' && !route)) {
			if (any)
				break;
			s->pos = i;
			s->joined = false;
		} else if (c == ':' && !route) {
			/* What stood before is the name of a group. */
			s->pos = i;
			any = false;
		} else if (kind != TOKEN_SPACE && kind != TOKEN_COMMENT) {
			route = (route || (!any && c == '@')) && c != ':';
			any = true;
		}
	}
	s->bare_end = begin;
	return any ? 'a' : '\0';
}

bool
mailbox_next(struct mailbox_scan *s, struct mailbox *ret)
{
	size_t before;
	char kind;
	bool found;

	for (;;) {
		if (!s->bare) {
			kind = mailbox_item(s);
			if (kind == '\0')
				return false;
			s->bare = kind == 'a';
		}
		if (!s->bare) {
			found = mailbox_angle(s, ret);
			if (found)
				ret->adjacent = false;
			s->joined = true;
		} else {
			before = s->pos;
			found = spec_read(s, &s->pos, s->bare_end, ret);
			s->bare = s->pos < s->bare_end && s->pos > before;
			if (!s->bare)
				s->pos = s->bare_end;
			if (found)
				ret->adjacent = s->joined || s->bare;
			s->joined = true;
		}
		if (found)
			return true;
	}
}
