/*
 * The stage of address rewriting: addresses in the headers of the message
 * (not of what is attached to it), and, at the end, the envelope.  What a
 * header is rewritten from is what content rules left of it.  A table that
 * does not answer refuses the message for now, so nothing goes a wrong way.
 */
#ifndef FILTERS_REWRITING_H
#define FILTERS_REWRITING_H

#include "filters/findings.h"
#include "lib/envelope.h"
#include "rules/mime.h"
#include "rules/rewrite.h"

struct rewriting {
	struct stage stage;	/* first */
	struct rewrite *rewrite;
	struct mime *walk;
	struct findings *findings;
	struct arena *arena;	/* of the new envelope */
	struct buf header, out, encoded;

	/* of the message */
	const struct envelope *envelope;
	char id[MESSAGE_NAME];
	enum rewrite_context context;
	bool mapped;
};

/* The rewriter stays the caller's. */
void rewriting_init(struct rewriting *w, const struct conf *cf,
    struct rewrite *r, struct mime *walk, struct findings *findings);
void rewriting_free(struct rewriting *w);
/* Begin a message; e must live until rewriting_end(). */
void rewriting_begin(struct rewriting *w, const struct envelope *e,
    struct queue_id id);
/* After the walk: the new envelope, encoded; empty when it is the old one, or
 * the message was refused.  Good until the next message. */
struct view rewriting_end(struct rewriting *w);

#endif
