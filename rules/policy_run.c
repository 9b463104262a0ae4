#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "rules/policy_run.h"

static void
run_need(struct policy_run *run, const struct policy_result *r)
{
	ensure(r->need.key.n <= FACT_KEY_MAX);
	run->need = r->need;
	if (r->need.key.n > 0)
		memcpy(run->key, r->need.key.p, r->need.key.n);
	run->need.key = view_make(run->key, r->need.key.n);
	run->shelf = r->shelf;
	run->asked++;
}

enum policy_outcome
policy_run(struct policy_run **runp, const struct policy *p,
    enum policy_stage stage, struct policy_facts *f,
    struct policy_result *ret)
{
	struct policy_run *run = *runp;
	struct table_known *tables = run != NULL ? run->tables :
	    table_remote_opened() > 0 ? table_known_new() : NULL;
	struct table_need need;
	bool table;

	f->asked = run != NULL ? run->asked : 0;
	table_known_begin(tables);
	policy_evaluate(p, stage, f, ret);
	table = table_known_end(tables, &need);
	if (!table && ret->outcome != POLICY_NEED) {
		if (run == NULL)
			table_known_free(&tables);
		return ret->outcome;
	}
	if (run == NULL) {
		*runp = run = mem_alloc(sizeof *run);
		run->tables = tables;
	}
	if (table) {
		run->need = (struct fact_name){ .kind = FACT_TABLE };
		run->table = need;
	} else
		run_need(run, ret);
	return POLICY_NEED;
}

void
policy_run_free(struct policy_run **runp)
{
	struct policy_run *run = *runp;

	if (run == NULL)
		return;
	*runp = NULL;
	table_known_free(&run->tables);
	free(run);
}

void
policy_run_told(const struct policy_run *run, struct facts *known,
    struct view answer)
{
	struct buf b;

	if (facts_add(known, run->shelf, &run->need, answer))
		return;
	buf_init(&b, 64);
	ensure(facts_put_answer(&b, FACT_TEMPORARY, NULL, 0));
	if (!facts_add(known, run->shelf, &run->need, buf_view(&b)))
		panic("a fact that was not needed");
	buf_free(&b);
}

static void
carry_set(struct policy_reply **to, const struct policy_result *r)
{
	free(*to);
	*to = NULL;
	if (!r->deferred)
		return;
	*to = mem_alloc(sizeof **to);
	**to = r->deferral;
}

void
policy_carry_stage(struct policy_carry *c, enum policy_stage stage,
    const struct policy_result *r)
{
	if (stage == STAGE_CLIENT)
		carry_set(&c->client, r);
	else if (stage == STAGE_HELO)
		carry_set(&c->helo, r);
	else if (stage == STAGE_MAIL)
		carry_set(&c->mail, r);
}
