/*
 * The one bounded reader for records, packets and messages between roles.
 * Numbers are little-endian.  A read past the end sets bad and returns zero
 * or an empty view; all later reads do the same, so a caller reads all its
 * fields and then asks cursor_done() once: true only if every read was in
 * bounds and nothing is left over.  The views point into the input.
 */
#ifndef LIB_CURSOR_H
#define LIB_CURSOR_H

#include "lib/buf.h"
#include "lib/view.h"

struct cursor {
	const unsigned char *p;
	const unsigned char *end;
	bool bad;
};

static inline struct cursor
cursor_of(struct view v)
{
	/* An empty view may have no memory behind it. */
	const unsigned char *p = (const unsigned char *)(v.n > 0 ? v.p : "");

	return (struct cursor){ p, p + v.n, false };
}

static inline size_t
cursor_left(const struct cursor *c)
{
	return c->bad ? 0 : (size_t)(c->end - c->p);
}

struct view cursor_bytes(struct cursor *c, size_t n);
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);
/* A length (u32) and that many bytes. */
struct view cursor_view(struct cursor *c);
bool cursor_done(const struct cursor *c) __attribute__((warn_unused_result));

/* The writing side: what cursor_*() reads.  false as buf_put(). */
bool put_u8(struct buf *b, uint8_t v);
bool put_u16(struct buf *b, uint16_t v);
bool put_u32(struct buf *b, uint32_t v);
bool put_u64(struct buf *b, uint64_t v);
bool put_view(struct buf *b, struct view v);

#endif
