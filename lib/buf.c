#include <stdio.h>
#include <stdlib.h>

#include "lib/buf.h"
#include "lib/log.h"
#include "lib/mem.h"

void
buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max };
}

void
buf_free(struct buf *b)
{
	free(b->p);
	b->p = NULL;
	b->n = b->cap = 0;
}

char *
buf_room(struct buf *b, size_t n)
{
	size_t want, cap;

	ensure(b->n <= b->cap && b->n <= b->max);
	if (n > b->max - b->n)
		return NULL;
	want = b->n + n;
	if (want > b->cap) {
		cap = b->cap > 0 ? b->cap : 64;
		while (cap < want)
			cap *= 2;
		if (cap > b->max)
			cap = b->max;
		b->p = mem_resize(b->p, cap, 1);
		b->cap = cap;
	}
	return b->p + b->n;
}

bool
buf_put(struct buf *b, const void *p, size_t n)
{
	char *to;

	if (n == 0)
		return true;
	to = buf_room(b, n);
	if (to == NULL)
		return false;
	memcpy(to, p, n);
	b->n += n;
	return true;
}

bool
buf_putv(struct buf *b, struct view v)
{
	return buf_put(b, v.p, v.n);
}

bool
buf_puts(struct buf *b, const char *s)
{
	return buf_put(b, s, strlen(s));
}

bool
buf_putc(struct buf *b, char c)
{
	return buf_put(b, &c, 1);
}

bool
buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	char small[512], *text = NULL;
	va_list again;
	bool ok;
	int n;

	va_copy(again, ap);
	n = vsnprintf(small, sizeof small, fmt, ap);
	ensure(n >= 0);
	if ((size_t)n < sizeof small) {
		ok = buf_put(b, small, (size_t)n);
	} else {
		if (vasprintf(&text, fmt, again) < 0)
			fatal("out of memory");
		ok = buf_put(b, text, (size_t)n);
		free(text);
	}
	va_end(again);
	return ok;
}

bool
buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	bool ok;

	va_start(ap, fmt);
	ok = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return ok;
}

void
buf_consume(struct buf *b, size_t n)
{
	ensure(n <= b->n);
	if (n < b->n)
		memmove(b->p, b->p + n, b->n - n);
	b->n -= n;
}

const char *
buf_cstr(struct buf *b)
{
	/* The terminator is not counted, so it may stand at max. */
	if (b->n == b->cap) {
		b->p = mem_resize(b->p, b->n + 1, 1);
		b->cap = b->n + 1;
	}
	b->p[b->n] = '\0';
	return b->p;
}
