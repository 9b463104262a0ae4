/*
 * What restrictions are evaluated on, and what came out, between two roles:
 * one that has the session of a client and one that has the rules.
 */
#ifndef RULES_POLICY_WIRE_H
#define RULES_POLICY_WIRE_H

#include "rules/policy.h"

/* How refusals are meant: as such; as a warning, and nothing is refused; as a
 * warning where they are for good. */
enum policy_trial { TRIAL_NONE = 1, TRIAL_ALL, TRIAL_PERMANENT };

/* One question.  known and asked of the facts do not travel. */
struct policy_question {
	enum policy_stage stage;
	enum policy_trial trial;
	struct policy_facts facts;
};
/* False: b is full. */
bool policy_question_put(struct buf *b, const struct policy_question *q);
/*
 * False: no such question.  Views into the input; carry is for what
 * facts.carry points to, to be freed whatever is returned.
 */
bool policy_question_get(struct cursor *c, struct policy_question *ret,
    struct policy_carry *carry) __attribute__((warn_unused_result));

/*
 * One answer: PERMIT or REFUSE, with reply, where, and what is for the message
 * and for later stages; notes and hits do not travel.  trial: what is said to
 * be refused is not.
 */
bool policy_answer_put(struct buf *b, const struct policy_result *r,
    bool trial);
/* False: no such answer.  The views are copies in the arena of *ret. */
bool policy_answer_get(struct cursor *c, struct policy_result *ret,
    bool *ret_trial) __attribute__((warn_unused_result));

#endif
