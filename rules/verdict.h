/*
 * Verdicts: what a rule decides.  One parser and one type for the right-hand
 * sides of access(5) and header_checks(5), and Postern's "550 text" form in
 * both.  A verdict carries the file and line that produced it; both go into
 * the log.
 */
#ifndef RULES_VERDICT_H
#define RULES_VERDICT_H

#include "lib/cursor.h"
#include "lib/edit.h"
#include "lib/mem.h"
#include "rules/table.h"

enum action {
	ACTION_NONE = 0,
	ACTION_DUNNO,		/* go on; header_checks OK is the same */
	ACTION_OK,		/* access: permit */
	ACTION_INFO, ACTION_WARN,
	ACTION_PASS,		/* checks: no further inspection */
	ACTION_IGNORE, ACTION_STRIP,
	ACTION_RENAME,		/* attachments only */
	ACTION_PREPEND, ACTION_REPLACE,
	ACTION_BCC, ACTION_REDIRECT, ACTION_FILTER,
	ACTION_HOLD, ACTION_DISCARD,
	ACTION_DEFER,		/* access: DEFER, DEFER_IF_PERMIT, ... */
	ACTION_REJECT,		/* with code: 4xx or 5xx */
	ACTIONS
};
const char *action_name(enum action a);
/* Does it change what is in the message where it matched? */
bool action_edits(enum action a);

/*
 * DECODED: checks of text that is no part of the message as it is written,
 * and so cannot be edited.  DELIVERY: smtp_header_checks and the like, which
 * come when it is settled whether and where the message goes.
 */
enum verdict_dialect { DIALECT_NONE = 0, DIALECT_ACCESS, DIALECT_CHECKS,
	DIALECT_DECODED, DIALECT_DELIVERY, DIALECT_ATTACHMENTS };

/* When an ACTION_DEFER of access(5) takes effect. */
enum defer_when { DEFER_NOW = 0, DEFER_IF_PERMIT, DEFER_IF_REJECT };

struct verdict {
	enum action action;
	enum defer_when when;	/* DEFER only */
	uint16_t code;		/* REJECT, DEFER: 550, 450, ...; 0 else */
	struct view status;	/* enhanced status "5.7.1" */
	struct view text;	/* rest: reason, header text, address, ... */
	struct view where;	/* "/etc/postern/header_checks:12" or empty */
};

/*
 * Parse a right-hand side.  Views point into rhs.  Case does not matter in
 * action names.  "REJECT [x.y.z] [text]", "4nn [x.y.z] text", "5nn ...",
 * "DEFER [text]", "HOLD [text]", "FILTER transport:nexthop", ...  False:
 * *ret_error (static text) says why.  Empty texts and codes get the defaults
 * of the dialect (checks: 550 5.7.1 "message content rejected"; access: 554
 * 5.7.1 "Access denied").  The class of the status is made that of the code;
 * "REJECT 4.x.x text" in checks has code 451.  where is left empty.
 *
 * A reason may hold what $1 took from a message: control bytes and any
 * length.  Whoever sends it must make it one line of bounded length.
 */
bool verdict_parse(struct view rhs, enum verdict_dialect dialect,
    struct verdict *ret, const char **ret_error);
/*
 * Parse every right-hand side of a table; mistakes are reported as
 * "file:line: text".  Used where rules are loaded, so that a wrong action
 * keeps a rule file from taking effect.
 */
bool verdict_check_table(const struct table *t, enum verdict_dialect dialect,
    table_report *report, void *arg);
/* "Name: value", as PREPEND and REPLACE need where a header stands. */
bool verdict_text_is_header(struct view text);
/*
 * The text of PREPEND or REPLACE as it goes into a message, into b, which is
 * cleared; line_end: with CRLF.  It may hold what $1 took from a header:
 * further lines are kept as continuation lines there, and nothing else may
 * look like a line end.  False: b is too small.
 */
bool verdict_text_wire(struct buf *b, struct view text, bool header,
    bool line_end);

/*
 * For messages between roles.  Control bytes in the text are written as
 * spaces, and the text is cut at VERDICT_TEXT_MAX.  verdict_get() sets
 * c->bad when the fields do not make a verdict.
 */
#define VERDICT_TEXT_MAX	1000u
bool verdict_put(struct buf *b, const struct verdict *v);
void verdict_get(struct cursor *c, struct verdict *ret);

/*
 * The filter's answer for a whole message: the strongest verdict (REJECT with
 * its reply; DISCARD; HOLD; else ACTION_OK), and what else rules asked for.
 */
#define JUDGEMENT_BCC_MAX	16u
struct judgement {
	struct verdict verdict;		/* OK, REJECT, DISCARD or HOLD */
	struct view redirect;		/* new sole recipient; empty: none */
	struct view filter;		/* "transport:nexthop"; empty: none */
	struct view bcc[JUDGEMENT_BCC_MAX];
	uint32_t n_bcc;
	struct view message_id;		/* for the log; may be empty */
	struct edits edits;
	/* Encoded; empty: as it was.  redirect and bcc are in it already. */
	struct view envelope;
};

/*
 * judgement_put: false: b is full, or there are more edits than a list may
 * have.  A long message_id is cut.  judgement_get: false: not a judgement;
 * views into the input; edits in a.
 */
bool judgement_put(struct buf *b, const struct judgement *j);
bool judgement_get(struct view encoded, uint64_t text_size, struct arena *a,
    struct judgement *ret) __attribute__((warn_unused_result));

#endif
