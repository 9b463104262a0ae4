#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"

static void (*on_failure)(void);

void
mem_on_failure(void (*fn)(void))
{
	on_failure = fn;
}

__attribute__((noreturn))
static void
out_of_memory(size_t count, size_t size)
{
	if (on_failure != NULL)
		on_failure();
	fatal("out of memory (%zu times %zu bytes)", count, size);
}

void *
mem_alloc(size_t n)
{
	void *p = calloc(1, n > 0 ? n : 1);

	if (p == NULL)
		out_of_memory(1, n);
	return p;
}

void *
mem_array(size_t count, size_t size)
{
	void *p = calloc(count > 0 ? count : 1, size > 0 ? size : 1);

	if (p == NULL)
		out_of_memory(count, size);
	return p;
}

void *
mem_resize(void *p, size_t count, size_t size)
{
	size_t n;

	if (__builtin_mul_overflow(count, size, &n))
		panic("mem_resize: %zu times %zu bytes", count, size);
	p = realloc(p, n > 0 ? n : 1);
	if (p == NULL)
		out_of_memory(count, size);
	return p;
}

char *
mem_copy(struct view v)
{
	char *p = mem_alloc(v.n + 1);

	if (v.n > 0)
		memcpy(p, v.p, v.n);
	return p;
}

char *
mem_strdup(const char *s)
{
	return mem_copy(view_of(s));
}

char *
mem_printf(const char *fmt, ...)
{
	va_list ap;
	char *p = NULL;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&p, fmt, ap);
	va_end(ap);
	if (n < 0 || p == NULL)
		fatal("out of memory");
	return p;
}

#define ARENA_BLOCK	1024u

struct arena_block {
	struct arena_block *next;
	size_t size, used;
	_Alignas(max_align_t) char data[];
};

struct arena {
	struct arena_block *first, *last;
	size_t used, limit;
};

struct arena *
arena_new(size_t limit)
{
	struct arena *a = mem_alloc(sizeof *a);

	a->limit = limit;
	return a;
}

void
arena_reset(struct arena *a)
{
	struct arena_block *b, *next;

	if (a->first == NULL)
		return;
	for (b = a->first->next; b != NULL; b = next) {
		next = b->next;
		free(b);
	}
	a->first->next = NULL;
	a->first->used = 0;
	a->last = a->first;
	a->used = 0;
}

void
arena_free(struct arena **a)
{
	if (*a == NULL)
		return;
	arena_reset(*a);
	free((*a)->first);
	free(*a);
	*a = NULL;
}

void *
arena_alloc(struct arena *a, size_t n)
{
	struct arena_block *b = a->last;
	size_t size;
	void *p;

	ensure(n <= a->limit && a->used <= a->limit - n);
	n = (n + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
	if (b == NULL || b->size - b->used < n) {
		size = n > ARENA_BLOCK ? n : ARENA_BLOCK;
		b = mem_alloc(sizeof *b + size);
		b->size = size;
		if (a->last != NULL)
			a->last->next = b;
		else
			a->first = b;
		a->last = b;
	}
	p = b->data + b->used;
	memset(p, 0, n);
	b->used += n;
	a->used += n;
	return p;
}

struct view
arena_copy(struct arena *a, struct view v)
{
	char *p = arena_alloc(a, v.n + 1);

	if (v.n > 0)
		memcpy(p, v.p, v.n);
	p[v.n] = '\0';
	return view_make(p, v.n);
}

size_t
arena_used(const struct arena *a)
{
	return a->used;
}
