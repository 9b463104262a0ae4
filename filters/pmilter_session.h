/*
 * Inside the sessions of pmilter: shared by libmilter's callbacks
 * (pmilter_session.c) and what they put together (pmilter_message.c).
 */
#ifndef FILTERS_PMILTER_SESSION_H
#define FILTERS_PMILTER_SESSION_H

#include "filters/pmilter_restrict.h"
#include "filters/pmilter_text.h"

#define TEXT_MAX	1024u	/* of a name; envelope_get() takes that */

struct session {
	unsigned long actions;
	unsigned long protocol;
	bool connected;
	struct envelope client;		/* what is the connection's */
	struct pmilter_restrict *restrictions;	/* NULL: none */
	/* The message. */
	bool begun, counted;
	struct envelope env;
	char **raw;			/* recipients as they came */
	uint32_t cap;
	size_t rcpt_bytes;
	bool too_many;			/* recipients */
	bool prepended;
	struct pmilter_text text;
	uint64_t held;			/* bytes, of the memory limit */
	uint32_t forged;
};

/* A copy in which nothing ends a line; NULL is empty. */
struct view text_kept(const char *text, size_t max);
void text_drop(struct view *v);
const char *session_macro(struct smfi_str *ctx, const char *name);
/* What stands in MAIL or RCPT, in internal form; what is no address stays as
 * it is. */
struct view session_path(const char *text);

void message_start(const struct conf *cf);
/* MAIL with its arguments. */
void message_begin(struct session *s, char **argv);
/* RCPT; addr is given away. */
void message_rcpt(struct session *s, const char *text, struct view addr);
/* The text begins: what restrictions prepend comes first. */
void message_prepend(struct session *s);
/* Count the memory of what has come. */
void message_hold(struct session *s);
void message_clear(struct session *s);
/* What the mail server knows only at the end.  Postfix does not say whether it
 * was SMTP or ESMTP; hardly anybody uses the former. */
void message_complete(struct smfi_str *ctx, struct session *s,
    char name[MESSAGE_NAME]);
/* It is complete: an SMFIS_ value.  m is filled here. */
int message_end(struct smfi_str *ctx, struct session *s,
    struct pmilter_told *m);
/* An SMFIS_ value: what restrictions say at this stage. */
int session_restricted(struct smfi_str *ctx, const struct session *s,
    enum policy_stage stage, struct view rcpt);

#endif
