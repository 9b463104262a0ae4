/*
 * What becomes of a message by a judgement: what the policy of the SMTP server
 * asked for and what the filter says are put together, and the client gets
 * its reply.  Pure; nothing is kept.
 */
#ifndef RULES_JUDGEMENT_H
#define RULES_JUDGEMENT_H

#include "rules/verdict.h"

struct judgement_reply {
	unsigned code;
	char status[16];
	char text[501];
};

/* *ret has views into both. */
void judgement_combine(const struct judgement *judged,
    const struct judgement *asked, struct judgement *ret);
/* The reply to the final dot, if nothing else fails.  id: the queue id as
 * text.  False: the message is not kept, it was refused or discarded. */
bool judgement_reply(const struct judgement *j, const char *id,
    struct judgement_reply *ret);

#endif
