/*
 * What the stages of a filter find in one message: the verdict, what else
 * rules asked for, and edits.  Edits are given in the order of the walk; the
 * list stays sorted and without overlaps, because an edit of a whole header
 * or line takes the place of what was noted inside it before.
 *
 * Everything is bounded; a judgement made from it points into it.
 */
#ifndef FILTERS_FINDINGS_H
#define FILTERS_FINDINGS_H

#include "lib/buf.h"
#include "lib/edit.h"
#include "rules/verdict.h"

#define FINDINGS_ARGUMENT_MAX	1000u	/* of an address or a next hop */
#define FINDINGS_WHERE_MAX	1000u

struct note {
	uint64_t offset, remove;
	size_t at, n;		/* inserted: in bytes */
	bool stray;		/* n == remove, and may grow */
};

struct findings {
	struct view text;	/* the whole message */
	struct verdict verdict;	/* OK, HOLD, DISCARD, REJECT */
	bool passed;		/* a rule said PASS: no more rules */
	/* soft_mode: what rules decide is only said; HOLD was. */
	bool soft, soft_held;
	uint64_t softened;	/* decisions, of all messages */
	struct buf reply, where, redirect, filter, message_id;
	struct buf bcc[JUDGEMENT_BCC_MAX];
	uint32_t n_bcc;
	struct note *notes;
	size_t n_notes;
	struct buf bytes;
};

void findings_init(struct findings *f);
void findings_free(struct findings *f);
/* Begin a message. */
void findings_begin(struct findings *f, struct view text);

/* REJECT and DISCARD are final; HOLD is kept until one of them comes.  The
 * first of each counts.  With soft_mode REJECT and DISCARD end the rules, and
 * nothing else. */
void findings_decide(struct findings *f, const struct verdict *v);
static inline bool
findings_final(const struct findings *f)
{
	return f->verdict.action == ACTION_REJECT ||
	    f->verdict.action == ACTION_DISCARD;
}
static inline bool
findings_held(const struct findings *f)
{
	return f->soft_held || f->verdict.action == ACTION_HOLD;
}
/* soft_mode: a rule wants something other than that, which is not done.  The
 * caller says so in the log. */
static inline void
findings_would(struct findings *f)
{
	f->softened++;
}
/* What stands in front of the name of an action in the log. */
const char *findings_soft_word(const struct findings *f, const char *action);
/* "strip": of what changes something, or sends it elsewhere. */
const char *findings_action_word(enum action a);
/* A rule did not work: 451, but with soft_mode nothing. */
void findings_rule_failed(struct findings *f, const char *text);
/* Our own refusal: no rule behind it. */
void findings_refuse(struct findings *f, uint16_t code, const char *status,
    const char *text);

/* The last one counts.  False: longer than FINDINGS_ARGUMENT_MAX. */
bool findings_redirect(struct findings *f, struct view address);
bool findings_filter(struct findings *f, struct view nexthop);
/* False: too long, or more than JUDGEMENT_BCC_MAX different ones. */
bool findings_bcc(struct findings *f, struct view address);
/* The first one counts; one too long is cut. */
void findings_message_id(struct findings *f, struct view id);

/*
 * Edits.  False: there would be more than EDITS_MAX, or EDITS_BYTES_MAX in
 * all; nothing changed.  insert: bytes in front of offset (insert_first: and
 * of what was inserted there before).  replace: n bytes
 * at offset, and all edits noted in there.  stray: the byte at offset becomes
 * a space; neighbours share an edit.
 */
bool findings_insert(struct findings *f, uint64_t offset, struct view bytes);
bool findings_insert_first(struct findings *f, uint64_t offset,
    struct view bytes);
bool findings_replace(struct findings *f, uint64_t offset, uint64_t n,
    struct view bytes);
bool findings_stray(struct findings *f, uint64_t offset);
/* As findings_replace(), also in front of what was noted already.  False too
 * when an edit reaches over one of the ends. */
bool findings_replace_earlier(struct findings *f, uint64_t offset, uint64_t n,
    struct view bytes);
/* Was what begins at offset replaced?  *ret: by what; empty: dropped. */
bool findings_replaced(const struct findings *f, uint64_t offset,
    struct view *ret);

/* All together, as the answer.  Valid until findings_begin(); list in a. */
void findings_judgement(const struct findings *f, struct arena *a,
    struct judgement *ret);

#endif
