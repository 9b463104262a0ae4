/*
 * A byte buffer that grows, up to a maximum given when it is made.  There is
 * no buffer without a maximum.  A put that would pass the maximum changes
 * nothing and returns false; the caller decides whether that is a peer's
 * fault (refuse it) or ours (panic).  The contents are b->p[0 .. b->n-1] and
 * are not NUL-terminated unless buf_cstr() is asked.
 */
#ifndef LIB_BUF_H
#define LIB_BUF_H

#include <stdarg.h>

#include "lib/view.h"

struct buf {
	char *p;
	size_t n;		/* bytes in use */
	size_t cap;		/* bytes allocated */
	size_t max;		/* bytes n may reach */
};

void buf_init(struct buf *b, size_t max);
/* Free the memory; the buffer stays usable, empty, with the same maximum. */
void buf_free(struct buf *b);
static inline void
buf_clear(struct buf *b)
{
	b->n = 0;
}

bool buf_put(struct buf *b, const void *p, size_t n);
bool buf_putv(struct buf *b, struct view v);
bool buf_puts(struct buf *b, const char *s);
bool buf_putc(struct buf *b, char c);
bool buf_printf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
bool buf_vprintf(struct buf *b, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
/* Make room for n more bytes and return where they go; NULL if over max. */
char *buf_room(struct buf *b, size_t n);
/* Drop the first n bytes. */
void buf_consume(struct buf *b, size_t n);
/* The contents as a C string; valid until the next change. */
const char *buf_cstr(struct buf *b);
static inline struct view
buf_view(const struct buf *b)
{
	return view_make(b->p, b->n);
}
/* n bytes at a place; they must be there. */
static inline struct view
buf_part(const struct buf *b, size_t at, size_t n)
{
	return n > 0 ? view_make(b->p + at, n) : view_make("", 0);
}

#endif
