/*
 * A view: bytes that somebody else owns.  Everything read from a wire, a file
 * or another process is handled as a view, never as a C string: it may hold
 * NUL, and it ends where n says.  A view is a value; it is void when the
 * memory behind it is.  Nothing here allocates or fails.
 */
#ifndef LIB_VIEW_H
#define LIB_VIEW_H

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct view {
	const char *p;
	size_t n;
};

/* For printf: "%.*s", VIEW_ARGS(v).  Peer data goes through log_safe(). */
#define VIEW_ARGS(v)	(int)((v).n), ((v).n ? (v).p : "")

static inline struct view
view_of(const char *s)
{
	return (struct view){ s, s != NULL ? strlen(s) : 0 };
}

static inline struct view
view_make(const void *p, size_t n)
{
	return (struct view){ p, n };
}

static inline bool
view_eq(struct view a, struct view b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool
view_is(struct view a, const char *s)
{
	return view_eq(a, view_of(s));
}

/* ASCII case is ignored; other bytes must be equal. */
static inline bool
view_eq_nocase(struct view a, struct view b)
{
	return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

static inline bool
view_is_nocase(struct view a, const char *s)
{
	return view_eq_nocase(a, view_of(s));
}

static inline bool
view_starts_nocase(struct view a, const char *s)
{
	size_t n = strlen(s);

	return a.n >= n && strncasecmp(a.p, s, n) == 0;
}

static inline bool
view_ends_nocase(struct view a, struct view tail)
{
	return a.n >= tail.n && (tail.n == 0 ||
	    strncasecmp(a.p + a.n - tail.n, tail.p, tail.n) == 0);
}

/* The rest of a after its first n bytes; empty when a is shorter. */
static inline struct view
view_from(struct view a, size_t n)
{
	/* At the end it is empty, and there: its place may be asked for.  No
	 * offset is applied to no memory. */
	if (n >= a.n)
		return (struct view){ a.n > 0 ? a.p + a.n : a.p, 0 };
	return (struct view){ a.p + n, a.n - n };
}

static inline struct view
view_head(struct view a, size_t n)
{
	return (struct view){ a.p, n < a.n ? n : a.n };
}

/* Is there a byte beyond ASCII? */
static inline bool
view_8bit(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] > 127)
			return true;
	return false;
}

static inline bool
view_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline struct view
view_trim(struct view a)
{
	while (a.n > 0 && view_space(a.p[0]))
		a.p++, a.n--;
	while (a.n > 0 && view_space(a.p[a.n - 1]))
		a.n--;
	return a;
}

/* Of space and tab alone, the WSP of RFC 5234. */
static inline struct view
view_trim_blank(struct view v)
{
	while (v.n > 0 && (v.p[0] == ' ' || v.p[0] == '\t'))
		v = view_from(v, 1);
	while (v.n > 0 && (v.p[v.n - 1] == ' ' || v.p[v.n - 1] == '\t'))
		v.n--;
	return v;
}

/* Position of the first byte c, or a.n when there is none. */
static inline size_t
view_find(struct view a, char c)
{
	const char *p = a.n > 0 ? memchr(a.p, c, a.n) : NULL;

	return p != NULL ? (size_t)(p - a.p) : a.n;
}

static inline bool
view_has(struct view a, char c)
{
	return view_find(a, c) < a.n;
}

/*
 * Take the next word off *rest: words are separated by any of the bytes in
 * seps.  An empty view means that there was none.
 */
static inline struct view
view_word(struct view *rest, const char *seps)
{
	struct view w;
	size_t i = 0;

	while (rest->n > 0 && rest->p[0] != '\0' &&
	    strchr(seps, rest->p[0]) != NULL)
		rest->p++, rest->n--;
	while (i < rest->n &&
	    (rest->p[i] == '\0' || strchr(seps, rest->p[i]) == NULL))
		i++;
	w = view_head(*rest, i);
	*rest = view_from(*rest, i);
	return w;
}

#endif
