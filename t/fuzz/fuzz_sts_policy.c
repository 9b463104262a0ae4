/*
 * MTA-STS: what is read as a policy is the same policy when it is written and
 * read again, and its patterns match hosts; what is read as a record has an id
 * that can stand in a file and a line of the log.
 */
#include <stdint.h>
#include <stdlib.h>

#include "rules/sts_policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(int ok)
{
	if (!ok)
		abort();
}

static void
check_policy(const struct sts_policy *p)
{
	struct sts_policy q;
	const char *why;
	struct buf b, again;
	uint32_t i;

	buf_init(&b, 2 * STS_TEXT_MAX);
	buf_init(&again, 2 * STS_TEXT_MAX);
	sts_policy_put(p, &b);
	check(sts_policy_read(buf_view(&b), &q, &why));
	check(q.mode == p->mode && q.max_age == p->max_age &&
	    q.n_mx == p->n_mx);
	check(p->mode == STS_MODE_NONE || p->n_mx > 0);
	check(p->max_age >= 0 && p->max_age <= STS_AGE_MAX);
	for (i = 0; i < p->n_mx; i++) {
		check(view_eq_nocase(p->mx[i], q.mx[i]));
		check(sts_mx_match(q.mx[i], p->mx[i]));
	}
	sts_policy_put(&q, &again);
	check(view_eq(buf_view(&b), buf_view(&again)));
	buf_free(&b);
	buf_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view v = view_make(data, size), id, host;
	struct sts_policy p;
	const char *why = NULL;
	size_t i;

	if (sts_record_read(v, &id) == STS_RECORD_GOOD) {
		check(id.n > 0 && id.n <= STS_ID_MAX);
		for (i = 0; i < id.n; i++)
			check(isalnum((unsigned char)id.p[i]));
	}
	if (sts_policy_read(v, &p, &why))
		check_policy(&p);
	else
		check(why != NULL);
	host = view_from(v, view_find(v, '\n') + 1);
	(void)sts_mx_match(view_head(v, view_find(v, '\n')), host);
	return 0;
}
