/*
 * Memory.  Running out of it ends the process in one place, so no caller
 * tests for it; a size that a peer controls is checked against its limit
 * before it comes here.  Memory from mem_alloc() is zeroed.
 */
#ifndef LIB_MEM_H
#define LIB_MEM_H

#include <stddef.h>

#include "lib/view.h"

void *mem_alloc(size_t n) __attribute__((malloc, returns_nonnull));
/* count elements of size bytes, zeroed; overflow ends the process. */
void *mem_array(size_t count, size_t size)
    __attribute__((malloc, returns_nonnull));
/* Grow or shrink; bytes beyond the old size are not zeroed. */
void *mem_resize(void *p, size_t count, size_t size)
    __attribute__((returns_nonnull));
/* A NUL-terminated copy.  A NUL inside v stays where it is. */
char *mem_copy(struct view v) __attribute__((malloc, returns_nonnull));
char *mem_strdup(const char *s) __attribute__((malloc, returns_nonnull));
char *mem_printf(const char *fmt, ...)
    __attribute__((malloc, returns_nonnull, format(printf, 1, 2)));

/* For a process whose limits may be reached by its work: fn ends it, or does
 * what else there is to do first. */
void mem_on_failure(void (*fn)(void));

/*
 * An arena: memory that is freed together, for what lives as long as a
 * session, a transaction or a message.  The limit bounds what one owner can
 * take; passing it is a programming error (check the peer's size first) and
 * panics.
 */
struct arena;

struct arena *arena_new(size_t limit);
void arena_free(struct arena **a);
/* Forget everything in it, keep the first block for the next use. */
void arena_reset(struct arena *a);
void *arena_alloc(struct arena *a, size_t n);
/* A NUL-terminated copy in the arena. */
struct view arena_copy(struct arena *a, struct view v);
size_t arena_used(const struct arena *a);

#endif
