/*
 * Stages: what looks at a message while it is walked (rules/mime.h).  The
 * walk hands each event to every stage of its chain, in order; a stage that
 * needs no more of the message ends the walk with mime_stop().  The filter
 * has rules first, then decoders, attachment names, archives; a delivery has
 * rules only.
 *
 * All views are good until the hook returns.  Offsets and sizes count bytes
 * of the text as it was received.  Any hook may be NULL.
 */
#ifndef RULES_STAGE_H
#define RULES_STAGE_H

#include "lib/view.h"
#include "rules/condition.h"
#include "rules/field.h"

/* The header block that a part begins with. */
enum mime_block {
	MIME_BLOCK_PRIMARY = 1,	/* of the message itself */
	MIME_BLOCK_PART,	/* of a MIME part */
	MIME_BLOCK_NESTED	/* of an attached message */
};

struct mime_part {
	enum mime_block block;
	uint32_t index;		/* 0: the message; counted as they begin */
	uint32_t depth;		/* 0: the message */
	uint64_t offset;	/* of its first header */
};

/* Which rules a header belongs to: header_checks(5). */
enum mime_header_kind { MIME_HEADER_PRIMARY = 1, MIME_HEADER_MIME,
	MIME_HEADER_NESTED };

struct mime_header {
	enum mime_header_kind kind;
	enum field field;
	const struct mime_part *part;
	/*
	 * The logical header: "Name: value", a "\n" in front of each
	 * continuation line, no line end at its end.  No more than
	 * header_size_limit bytes.
	 */
	struct view text;
	struct view value;	/* behind the colon, trimmed */
	uint64_t offset;
	uint64_t size;		/* with its line ends */
	uint64_t line_end;	/* bytes of the last of them: 0, 1, 2 */
	uint64_t kept;		/* bytes that text stands for; under size -
				 * line_end when it was too long */
};

/*
 * A line of a body, of the text before, between and behind parts, or a
 * boundary.  A line over line_length_limit comes in pieces.  The empty line
 * behind a header block is not among them.
 */
struct mime_line {
	const struct mime_part *part;
	struct view text;	/* without line end */
	uint64_t offset;
	uint64_t size;		/* with line end */
	uint64_t section_offset; /* from the begin of this body, or since the
				 * last boundary */
	bool first, last;	/* piece of its line */
	bool between;		/* preamble, epilogue, boundary */
};

struct stage;

struct stage_ops {
	const char *name;
	void (*part_begin)(struct stage *s, const struct mime_part *p);
	void (*header)(struct stage *s, const struct mime_header *h);
	/* The part's header block is complete; the line at offset ended it. */
	void (*headers_end)(struct stage *s, const struct mime_part *p,
	    uint64_t offset);
	void (*line)(struct stage *s, const struct mime_line *l);
	void (*part_end)(struct stage *s, const struct mime_part *p);
	/* A CR or LF that is no line end; comes before the event of the line
	 * or header that holds it. */
	void (*stray)(struct stage *s, uint64_t offset);
	void (*condition)(struct stage *s, enum mime_condition c,
	    const struct mime_part *p, uint64_t offset, struct view text);
	void (*end)(struct stage *s);
};

/* The head of each stage's own struct. */
struct stage {
	const struct stage_ops *ops;
	/* Cleared by the stage when it wants no more lines of this section;
	 * set again by the walk. */
	bool wants_lines;
};

#endif
