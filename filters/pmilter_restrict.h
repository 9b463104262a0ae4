/*
 * The restrictions of a session: what it tells of itself at each stage, what
 * the role policy says to that, and what is kept of it up to the end of the
 * message.  In the session's thread.
 */
#ifndef FILTERS_PMILTER_RESTRICT_H
#define FILTERS_PMILTER_RESTRICT_H

#include "filters/pmilter.h"
#include "rules/policy_wire.h"

struct pmilter_restrict;

/* Once, before there are sessions. */
void pmilter_restrict_start(const struct conf *cf, enum pmilter_mode mode);
/* Is the mail server to wait for an answer at this stage? */
bool pmilter_restrict_at(enum policy_stage stage);

/* NULL: no list is evaluated; the functions below take that, and let all
 * pass. */
struct pmilter_restrict *pmilter_restrict_new(void);
void pmilter_restrict_free(struct pmilter_restrict **r);
/* A message has ended, or begins. */
void pmilter_restrict_clear(struct pmilter_restrict *r);

/* What the session's envelopes have at that stage. */
struct pmilter_seen {
	const struct envelope *client;	/* name, address, HELO */
	const struct envelope *message;	/* sender, recipients so far */
	struct view rcpt;		/* the one in question; or empty */
	uint64_t size;			/* of the text, if that is there */
};
/* The host name by reverse lookup, and what became of looking for it. */
void pmilter_restrict_client(struct smfi_str *ctx, struct pmilter_restrict *r,
    const struct netaddr *addr, const struct envelope *client);
/* Parameters of MAIL. */
void pmilter_restrict_mail(struct pmilter_restrict *r, char **args);
/* An SMFIS_ value, with its reply set; SMFIS_CONTINUE: it may pass. */
int pmilter_restrict(struct smfi_str *ctx, struct pmilter_restrict *r,
    enum policy_stage stage, const struct pmilter_seen *seen);

/* What was asked for up to now; NULL: nothing. */
const struct policy_actions *pmilter_restrict_actions(
    const struct pmilter_restrict *r);
/* A refusal that was only noted (-m tag, quarantine): false: none. */
bool pmilter_restrict_noted(const struct pmilter_restrict *r,
    struct verdict *ret);

#endif
