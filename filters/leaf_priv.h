/*
 * The leaf stage, between its files: leaf.c follows the walk and decodes
 * bodies; leaf_open.c tells the sinks of open leaves, and of those inside.
 */
#ifndef FILTERS_LEAF_PRIV_H
#define FILTERS_LEAF_PRIV_H

#include "filters/base64.h"
#include "filters/entity.h"
#include "filters/inbody.h"
#include "filters/leaf.h"
#include "filters/qp.h"
#include "filters/tnef.h"

#define SAVED_MAX	4u	/* open at a time */

struct leaves {
	struct stage stage;	/* first */
	const struct charsets *charsets;
	struct leaf_sink *sinks[LEAF_SINKS_MAX];
	size_t n_sinks;
	struct view text;
	bool own_stop, *stopped;	/* may be another stage's */
	const struct leaf *outer;	/* NULL, or what text was found in */

	struct entity entity;	/* the header block, then the leaf */
	/* Parts with two natures, read as leaves once they are over. */
	struct saved {
		struct entity entity;
		uint32_t depth;
		uint64_t header, body;
	} saved[SAVED_MAX];
	size_t n_saved;
	uint64_t header, body;	/* where the open part's begin */
	uint32_t last_block;	/* index of the newest part */
	uint32_t signed_depth;	/* depth + 1 of the signed part; 0: none */
	uint64_t seen;		/* end of the newest line */
	uint64_t again;		/* bytes decoded again */
	uint64_t line_n;	/* bytes of the line so far */
	struct condition_set told;	/* of the part, to the sinks */

	struct leaf open[LEAF_SLOTS];
	struct part_names names[LEAF_SLOTS];	/* not of slot 0 */
	size_t n_open;
	uint32_t index;
	struct base64 base64;
	struct qp qp;
	struct inbody inbody;
	bool decode;		/* somebody wants to know */
	bool look_inside;	/* for files in the body */
	struct tnef *tnef;
	bool in_tnef;
	char begin[4];		/* first decoded bytes */
	bool has_begin;		/* there are some */
	bool held_end;		/* a CRLF not yet told: it could belong to a
				 * boundary */
	char *out;
	size_t out_n;
};

/* A condition, to the sinks, once per part; what: to be shown. */
void leaf_tell(struct leaves *l, enum mime_condition c,
    const struct mime_part *p, uint64_t offset, struct view what);
void leaf_tell_set(struct leaves *l, struct condition_set set,
    const struct mime_part *p, uint64_t offset, struct view what);
/* What to show of a leaf: its last name is the most decoded one. */
struct view leaf_show(const struct leaf *f);
/* NULL when too many are open; what it holds is then part of the outer. */
struct leaf *leaf_begin(struct leaves *l, const struct leaf *with);
void leaf_bytes(struct leaves *l, size_t slot, struct view v);
/* The one opened last. */
void leaf_end(struct leaves *l);
/* For the decoders of what is inside; their argument is the stage. */
extern const struct inbody_ops leaf_inbody_ops;
extern const struct tnef_ops leaf_tnef_ops;

#endif
