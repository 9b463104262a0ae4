/*
 * The inside of a milter client, shared by the file that speaks
 * (milter_client.c) and the file that listens (milter_answer.c).
 */
#ifndef FILTERS_MILTER_CLIENT_PRIV_H
#define FILTERS_MILTER_CLIENT_PRIV_H

#include "filters/milter_client.h"

enum milter_state {
	MILTER_NEW = 1,		/* nothing was said */
	MILTER_READY,
	MILTER_ASKED,		/* an answer is due */
	MILTER_ENDED		/* broken, or QUIT was said */
};

/* Where the sending of a message is. */
enum milter_part { MILTER_IN_HEADERS = 1, MILTER_AT_HEADERS_END,
	MILTER_IN_BODY, MILTER_AT_END, MILTER_SENT };

struct milter_client {
	struct milter_settings set;
	milter_macro *macro;
	void *arg;
	enum milter_state state;
	uint32_t version, actions, steps;
	char *own_macros[MILTER_MACRO_STAGES];

	/* What the answer is due to; 0: to nothing, packets go out while the
	 * filter is silent by agreement. */
	enum milter_command asked;
	/* Said without waiting for that answer: theirs come next. */
	enum milter_command behind[MILTER_BEHIND_MAX];
	unsigned n_behind;
	bool in_session;	/* connect was told */
	bool in_transaction;	/* mail was told, and not its end */
	bool passed_session, passed_message;
	bool cut;		/* it answered before it was due */
	bool ended_well;	/* the last thing was a message, to its end */

	const struct milter_text *text;	/* NULL: no message on its way */
	enum milter_part part;
	size_t next;		/* header, or byte of the body */

	struct buf out;
	struct milter_result result;
	struct buf why;		/* behind result.text */

	struct milter_edit *edits;
	size_t n_edits;
	struct arena *edit_bytes;
	struct buf body;
	struct buf quarantine;
	bool held;
	uint32_t progress;
};

/* The answer is known; true. */
bool milter_done(struct milter_client *c, enum milter_answer answer);
/* Ends the machine. */
bool milter_broken(struct milter_client *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* One packet that came while state is MILTER_ASKED.  True: the answer. */
bool milter_take(struct milter_client *c, const struct milter_packet *p);
/* The answer to what was asked was a "go on". */
void milter_next_answer(struct milter_client *c);
/* A message goes on.  True: it ended early. */
bool milter_pump(struct milter_client *c);

#endif
