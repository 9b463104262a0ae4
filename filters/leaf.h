/*
 * Leaves: what is inside a message once it is decoded.  The leaf stage stands
 * in the walk's chain and tells its sinks of every MIME part that is no
 * multipart and no attached message, of files in uuencode and yEnc inside
 * such bodies, and of the attachments in TNEF: begin, decoded bytes as they
 * come, end.  Leaves nest (a uuencoded file in a body) and end in reverse
 * order; leaf->slot tells open ones apart.
 *
 * A part that receivers decode in different ways is told again in each of
 * these ways, after its first reading has ended (leaf->reading).
 *
 * Lines of decoded text end with CRLF, the last one without it: in a multipart
 * it belongs to the boundary.
 *
 * Views are good until the hook returns, struct leaf until its end().
 */
#ifndef FILTERS_LEAF_H
#define FILTERS_LEAF_H

#include "filters/part_name.h"
#include "rules/condition.h"
#include "rules/stage.h"

#define LEAF_SLOTS	4u	/* open at a time */
#define LEAF_SINKS_MAX	6u
#define LEAF_READINGS	6u	/* of one part */

enum leaf_origin { LEAF_PART = 1, LEAF_UUENCODE, LEAF_YENC, LEAF_TNEF };

enum leaf_encoding {
	ENCODING_7BIT = 1,	/* also when none is given */
	ENCODING_8BIT,
	ENCODING_BINARY,
	ENCODING_BASE64,
	ENCODING_BASE64_STRICT,	/* up to the first padding */
	ENCODING_BASE64_LOOSE,	/* padding is garbage */
	ENCODING_QP,
	ENCODING_QP_LOOSE,	/* without what is garbage in it */
	ENCODING_UUENCODE,	/* x-uuencode: its file is a leaf inside */
	ENCODING_UNKNOWN	/* as 8bit */
};

enum leaf_disposition { DISPOSITION_NONE = 1, DISPOSITION_INLINE,
	DISPOSITION_ATTACHMENT /* and all others */ };

struct leaf {
	uint32_t index;		/* counted over the message, from 0 */
	uint32_t slot;		/* 0 .. LEAF_SLOTS-1; 0: LEAF_PART */
	uint32_t reading;	/* of the same bytes; 0: the first */
	enum leaf_origin origin;
	/* The part, also for what was found in its body. */
	const struct mime_part *part;
	struct view type, subtype;	/* as written, no case; "text",
					 * "plain" when there is none */
	struct view charset;	/* empty: none given */
	enum leaf_encoding encoding;
	enum leaf_disposition disposition;
	bool in_signed;		/* inside multipart/signed, or encrypted */
	const struct part_names *names;	/* TNEF: complete at the end */
	/* The part was encoded as a whole: the bytes are a message, or what
	 * stands between the boundaries of a multipart. */
	bool holds_message, holds_parts;
	bool guess;		/* the encoding is one that nobody named */
	struct view header;	/* the part's header block, as it is written */
	/*
	 * Found in a leaf that was walked as a message of its own
	 * (filters/inner.h): part and header are of that walk.  The offsets
	 * never are, but those of the part in the text as received.
	 */
	bool inside;
	/* In the text as received; those of the part. */
	uint64_t header_offset, body_offset;
	/* At the end: */
	uint64_t end_offset;	/* behind the body */
	uint64_t size;		/* decoded bytes */
	struct condition_set conditions;
};

struct leaf_sink;

struct leaf_ops {
	const char *name;
	/* Returns false if it wants no bytes of it; end() comes anyway. */
	bool (*begin)(struct leaf_sink *s, const struct leaf *l);
	void (*bytes)(struct leaf_sink *s, const struct leaf *l,
	    struct view bytes);
	void (*end)(struct leaf_sink *s, const struct leaf *l);
	/* Any condition, of the walk or a decoder, as it is met; at most once
	 * per part or leaf for each.  what: bytes to show. */
	void (*condition)(struct leaf_sink *s, enum mime_condition c,
	    const struct mime_part *p, uint64_t offset, struct view what);
};

/* The head of each sink's own struct. */
struct leaf_sink {
	const struct leaf_ops *ops;
	bool wants[LEAF_SLOTS];	/* set by the leaf stage; cleared by the sink
				 * that has seen enough */
	/* Wants no bytes of any leaf, only these conditions: what nobody wants
	 * is not decoded. */
	bool only_conditions;
	struct condition_set cares;
};

struct leaves;

struct leaves *leaves_new(const struct charsets *cs);
void leaves_free(struct leaves **l);
/* The stage for the walk's chain, behind the stage of rules. */
struct stage *leaves_stage(struct leaves *l);
/*
 * Begin a message.  text: all of it, for further readings.  The sinks stay
 * the caller's.  No hook may be called after mime_stop(): a sink that decided
 * calls leaves_stop() too.
 */
void leaves_begin(struct leaves *l, struct view text,
    struct leaf_sink *const *sinks, size_t n);
/* The same for text found in a leaf. */
void leaves_begin_inside(struct leaves *l, struct view text,
    struct leaf_sink *const *sinks, size_t n, const struct leaf *outer);
/* Stops when outer is stopped, and the reverse. */
void leaves_join(struct leaves *l, struct leaves *outer);
/* From a sink's end(): the part's body as it is written. */
struct view leaves_raw(const struct leaves *l);
/* From a sink: a condition of a leaf, for all sinks. */
void leaves_tell(struct leaves *l, enum mime_condition c,
    const struct leaf *f);
void leaves_stop(struct leaves *l);

#endif
