/*
 * An evaluation of restrictions that goes on over the answers it needs: who
 * evaluates runs it, asks for what is missing, stores that, and runs it again,
 * until it is decided.  How one asks and waits is the caller's affair.
 */
#ifndef RULES_POLICY_RUN_H
#define RULES_POLICY_RUN_H

#include "rules/policy.h"
#include "rules/table_remote.h"

struct policy_run {
	/* What is needed now; its key is ours.  FACT_TABLE: table. */
	struct fact_name need;
	enum fact_shelf shelf;
	struct table_need table;	/* until the next run */
	/* What tables behind connections said. */
	struct table_known *tables;
	unsigned asked;			/* facts, so far */
	char key[FACT_KEY_MAX + 1];
};

/*
 * f->asked is set here.  *run is NULL the first time, and stays so unless
 * something is needed; it is kept until the outcome is another one, and then
 * freed by the caller.
 */
enum policy_outcome policy_run(struct policy_run **run,
    const struct policy *p, enum policy_stage stage, struct policy_facts *f,
    struct policy_result *ret);
void policy_run_free(struct policy_run **run);

/*
 * The answer to a need that is no table's, as facts_put_answer() wrote it; what
 * is no such answer, an empty one for instance, says "not now".
 */
void policy_run_told(const struct policy_run *run, struct facts *known,
    struct view answer);

/* policy_carry is what a stage leaves: replace what it left before. */
void policy_carry_stage(struct policy_carry *c, enum policy_stage stage,
    const struct policy_result *r);

#endif
