/* Which rules fired, and which there are. */
#include "rules/policy_priv.h"

void
eval_hit(struct eval *e, uint64_t hash)
{
	struct policy_result *r = e->r;

	if (r->n_hits < POLICY_HITS_MAX)
		r->hits[r->n_hits++] = (struct policy_hit){ e->where, hash,
			false };
}

void
eval_decided(struct eval *e, bool trial)
{
	struct policy_result *r = e->r;
	struct view outer = e->where;
	char text[POLICY_TEXT_MAX];
	struct buf name = { .p = text, .cap = sizeof text,
		.max = sizeof text };
	uint32_t i;

	if (e->where.n == 0 && e->at != NULL) {
		restriction_name(e->at, e->list, &name);
		e->where = eval_copy(e, buf_view(&name));
		eval_hit(e, 0);
		e->where = outer;
		if (r->n_hits > 0)
			r->hits[r->n_hits - 1].trial = trial;
	}
	for (i = r->n_hits; trial && outer.n > 0 && i-- > 0; )
		if (r->hits[i].where.p == outer.p) {
			r->hits[i].trial = true;
			break;
		}
}

void
restriction_name(const struct restriction *r, struct view list,
    struct buf *out)
{
	struct view arg = r->kind == &restriction_class_kind ?
	    view_of(r->class->name) : r->table != NULL ?
	    view_of(table_name(r->table)) : r->arg;

	(void)buf_printf(out, "%.*s: ", VIEW_ARGS(view_head(list, 100)));
	if (r->kind != &restriction_class_kind &&
	    r->kind != &restriction_bare)
		(void)buf_printf(out, "%s%s", r->kind->word,
		    arg.n > 0 ? " " : "");
	(void)buf_putv(out, view_head(arg, HIT_ARGUMENT_MAX));
}

/* -- all of them ----------------------------------------------------------- */

/* Call fn for every restriction; trial: behind warn_if_reject. */
static void
each_restriction(const struct policy *p, void (*fn)(const struct restriction *r,
    const char *list, bool trial, void *arg), void *arg)
{
	const struct restriction_list *const lists[] = { &p->client, &p->helo,
		&p->mail, &p->relay, &p->rcpt, &p->data, &p->eod, &p->etrn };
	const size_t n = sizeof lists / sizeof lists[0];
	const struct restriction_class *c = p->class_list;
	const struct restriction_list *l;
	const char *name;
	bool trial;
	size_t i, k;

	for (i = 0; i < n || c != NULL; i++) {
		l = i < n ? lists[i] : &c->list;
		name = i < n ? l->name : c->name;
		trial = false;
		for (k = 0; k < l->n; k++) {
			if (l->list[k].kind->fn == general_warn) {
				trial = true;
				continue;
			}
			fn(&l->list[k], name, trial, arg);
			trial = false;
		}
		if (i >= n)
			c = c->next;
	}
}

struct each_rule {
	void (*fn)(struct view where, bool trial, void *arg);
	void *arg;
	struct buf text;
};

/* The rows of a table are rules of their own. */
static void
each_rule(const struct restriction *r, const char *list, bool trial, void *arg)
{
	struct each_rule *e = arg;

	if (r->table != NULL)
		return;
	buf_clear(&e->text);
	restriction_name(r, view_of(list), &e->text);
	e->fn(buf_view(&e->text), trial, e->arg);
}

void
policy_each_rule(const struct policy *p,
    void (*each)(struct view where, bool trial, void *arg), void *arg)
{
	struct each_rule e = { .fn = each, .arg = arg };

	buf_init(&e.text, POLICY_TEXT_MAX);
	each_restriction(p, each_rule, &e);
	buf_free(&e.text);
}

struct uses {
	const struct table *table;
	unsigned n, trials;
};

static void
uses_count(const struct restriction *r, const char *list, bool trial,
    void *arg)
{
	struct uses *u = arg;

	(void)list;
	if (r->table != u->table)
		return;
	u->n++;
	u->trials += trial ? 1 : 0;
}

void
policy_each_table(const struct policy *p,
    void (*each)(const char *spec, bool trial, void *arg), void *arg)
{
	const struct policy_table *t;
	struct uses u;

	for (t = p->tables; t != NULL; t = t->next) {
		u = (struct uses){ .table = t->table };
		each_restriction(p, uses_count, &u);
		if (u.n > 0)
			each(t->spec, u.n == u.trials, arg);
	}
}
