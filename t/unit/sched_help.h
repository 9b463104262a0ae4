/*
 * What tests of the scheduler share: a transport with limits, messages that
 * are only numbers, deliveries that start and end when the test says so.
 * Included by one source file of each test program.
 */
#ifndef T_UNIT_SCHED_HELP_H
#define T_UNIT_SCHED_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/mem.h"
#include "queue/sched.h"

#define S	INT64_C(1000000)	/* a second */

static struct sched *s;
static struct mono now;
/* A message is a number, kept in the pointer that is never looked into. */
#define MESSAGE(n)	((struct message *)(void *)(uintptr_t)(n))

static struct sched_limits limits;

static inline int
sched_setup(void **state)
{
	(void)state;
	now.us = 1000 * S;
	s = sched_new(300 * S);
	sched_wake(s, now);
	limits = (struct sched_limits){
		.initial = 2, .limit = 5, .recipients = 50,
		.failed_cohorts = 1,
		.positive = { FEEDBACK_CONSTANT, 1 },
		.negative = { FEEDBACK_CONSTANT, 1 },
	};
	return 0;
}

static inline int
sched_teardown(void **state)
{
	(void)state;
	sched_free(&s);
	return 0;
}

static inline void
pass(int64_t us)
{
	now.us += us;
	sched_wake(s, now);
}

static inline struct transport *
transport(void)
{
	struct transport *t = sched_transport(s, "smtp");

	return t != NULL ? t : sched_add_transport(s, "smtp", &limits);
}

static inline struct dest *
dest(const char *nexthop)
{
	return sched_dest(transport(), nexthop, NULL);
}

/* Message number n, of that sender, with that many recipients. */
static inline struct entry *
add(struct dest *d, unsigned n, uint32_t sender, uint32_t rcpts)
{
	uint32_t *list = mem_array(rcpts, sizeof *list), i;
	struct entry *e;

	for (i = 0; i < rcpts; i++)
		list[i] = i;
	e = sched_add(d, MESSAGE(n), sender, 1000, false, list, rcpts);
	free(list);
	return e;
}

/* n messages of one recipient and as many senders */
static inline void
add_many(struct dest *d, unsigned n)
{
	while (n-- > 0)
		(void)add(d, n + 1, n, 1);
}

static inline unsigned
start(struct piece *p, unsigned max)
{
	unsigned n = 0;

	while (n < max && sched_next(s, &p[n]))
		n++;
	return n;
}

static inline bool
finish(const struct piece *p, enum sched_result result)
{
	struct entry *e = p->entry;
	bool died = sched_ended(e, result,
	    view_of(result == RESULT_OK ? "" : "Connection refused"), 1000);

	if (entry_finished(e))
		entry_free(e);
	return died;
}

static inline unsigned
drain(struct dest *d)
{
	struct piece p;
	unsigned n = 0;

	while (sched_drain(d, &p)) {
		n += p.n;
		if (entry_finished(p.entry))
			entry_free(p.entry);
	}
	return n;
}

/* Deliver all that is there. */
static inline void
empty(void)
{
	struct mono at;
	struct piece p;

	for (;;) {
		if (sched_next(s, &p))
			(void)finish(&p, RESULT_OK);
		else if (sched_wake_at(s, &at))
			pass(at.us - now.us);
		else
			break;
	}
}

static inline struct dest_facts
facts(const struct dest *d)
{
	struct dest_facts f;

	dest_facts(d, &f);
	return f;
}

#endif
