/*
 * What a mail server is to be told so that its copy of a message becomes what
 * the edits of a judgement make of the text: headers one by one, the body as
 * a whole.  Pure.
 */
#ifndef FILTERS_PMILTER_PLAN_H
#define FILTERS_PMILTER_PLAN_H

#include "filters/pmilter_text.h"
#include "lib/edit.h"

enum plan_step_kind {
	STEP_CHANGE = 1,	/* the nth header of that name */
	STEP_DELETE,
	STEP_INSERT,		/* in front of header number `at` */
	STEP_TOP		/* above all, and what the server puts there */
};

struct plan_step {
	enum plan_step_kind kind;
	uint32_t at;		/* INSERT: from 0; TOP: 0; else nth, from 1 */
	struct view name;
	struct view value;	/* behind the colon, with CRLF between lines */
};

struct plan {
	/* In this order no step moves what a later one names: from the last
	 * header to the first. */
	struct plan_step *steps;
	uint32_t n;
	bool body;		/* it is not what it was */
};

/*
 * Headers that were prepended here are not in the server's copy: they get a
 * step each, and do not count.
 * head: the headers' bytes, without the empty line behind them.  a needs room
 * for PLAN_MEMORY() bytes and holds what *ret points to, besides head and e.
 * False: what the edits make of the headers cannot be said in steps.
 */
#define PLAN_MEMORY(head, edits)					\
	(2 * (size_t)(head) + 2 * (size_t)(edits) + (2u << 20))
bool pmilter_plan(const struct pmilter_text *t, struct view head,
    const struct edits *e, struct arena *a, struct plan *ret);

#endif
