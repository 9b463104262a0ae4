/*
 * The header being collected from its lines: the logical header of struct
 * mime_header.  What is over the limit is counted, not kept.
 */
#ifndef RULES_HEAD_H
#define RULES_HEAD_H

#include "lib/buf.h"
#include "rules/stage.h"

struct head {
	struct buf text;
	bool open, full;
	size_t name_n;
	uint64_t offset, size, line_end, kept;
};

/* limit: bytes of the logical header */
void head_init(struct head *h, size_t limit);
/* The first piece of a line for which field_split() is true. */
void head_begin(struct head *h, struct view piece, uint64_t offset);
/* A further piece; first: it begins a line. */
void head_continue(struct head *h, struct view piece, bool first);
/* After each piece: its bytes in the text; those of its line end, 0 when the
 * line goes on. */
void head_count(struct head *h, uint64_t size, uint64_t line_end);
/* Complete.  Fills all but kind and part; good until the next begin. */
void head_end(struct head *h, struct mime_header *ret);

#endif
