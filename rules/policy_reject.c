/* Tables about the text of refusals. */
#include <ctype.h>
#include <stdlib.h>

#include "lib/mem.h"
#include "rules/policy_priv.h"

const struct table_list *
policy_reject_filters(const struct policy *p)
{
	return &p->reject_filters;
}

const struct table_list *
policy_reject_footers(const struct policy *p)
{
	return &p->reject_footers;
}

bool
policy_is_refusal(struct view line)
{
	return line.n > 4 && (line.p[0] == '4' || line.p[0] == '5') &&
	    isdigit((unsigned char)line.p[1]) &&
	    isdigit((unsigned char)line.p[2]) && line.p[3] == ' ' &&
	    line.p[4] > ' ';
}

struct reject_check {
	const struct table *table;
	struct restriction_reader *reader;
	bool ok;
};

static void
reject_check_one(struct view result, unsigned line, void *arg)
{
	struct reject_check *c = arg;
	char *why;

	if (policy_is_refusal(result))
		return;
	/* "$1 5.7.1 no": what it will be is seen when it is used. */
	if (table_is_pattern(c->table) && (result.n == 0 ||
	    !isdigit((unsigned char)result.p[0])))
		return;
	why = mem_printf("%s:%u: smtpd_reject_filter_maps: need a reply with "
	    "4xx or 5xx: \"%.*s\"", table_origin(c->table), line,
	    VIEW_ARGS(result));
	c->reader->report(true, why, c->reader->arg);
	free(why);
	c->ok = false;
}

bool
policy_check_rejects(struct restriction_reader *rd)
{
	struct reject_check c = { .reader = rd, .ok = true };
	size_t i;

	for (i = 0; i < rd->p->reject_filters.n; i++) {
		c.table = rd->p->reject_filters.list[i];
		table_each_result(c.table, reject_check_one, &c);
	}
	return c.ok;
}
