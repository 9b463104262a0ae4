/*
 * One SMTP session and its outside filters: what the SMTP server tells is
 * shown to each filter in turn, and the answer is the first that is not "go
 * on".  Events are worked off in their order; one that comes while a filter
 * is thinking waits in line.
 *
 * A filter that cannot be used does no more in the transaction than its
 * default action; with the next MAIL it is tried again, and shown what went
 * before.
 */
#ifndef FILTERS_MILTER_SESSION_H
#define FILTERS_MILTER_SESSION_H

#include "filters/milter_set.h"
#include "lib/msg.h"

#define MILTER_EVENTS_MAX	12000u	/* that wait */
#define MILTER_EVENT_BYTES_MAX	(4u << 20)	/* of these */
#define MILTER_VALUES_MAX	64u	/* of macros, of one session */
#define MILTER_ARGS_MAX		32u

struct milter_value {
	struct view name, value;
};

/* What the SMTP server tells; see MSG_MILTER. */
struct milter_event {
	enum milter_stage stage;
	uint32_t tag;			/* 0: no answer is wanted */
	uint32_t n_values, n_args;
	const struct milter_value *values;
	const struct view *args;
};

struct milter_verdict {
	enum milter_says says;
	uint16_t code;
	struct view text;		/* lines "4.7.1 text" */
	/* Who said so; NULL: nobody. */
	const char *filter;
};

struct milter_session;
struct milter_job;

/*
 * Answers to events with a tag.  As with sendmail and Postfix, a client that a
 * filter refuses at CONNECT or HELO hears of it at MAIL, each time; CONNECT
 * is answered with the refusal all the same.  waits: stages that some filter answers. */
typedef void milter_told(struct milter_session *s, uint32_t tag,
    const struct milter_verdict *v, uint32_t waits, void *arg);

/* list, set: must outlive it. */
struct milter_session *milter_session_new(const struct milter_set *set,
    const struct milter_list *list, milter_told *told, void *arg);
/* Nothing more is told: QUIT to all, when its message has come to an end. */
void milter_session_release(struct milter_session *s);
/* A copy is made.  False: over a limit. */
bool milter_session_tell(struct milter_session *s,
    const struct milter_event *ev);
/* The same for what j makes up: milter_job_told() has the answer. */
bool milter_session_retell(struct milter_session *s,
    const struct milter_event *ev, struct milter_job *j);
/* How many events there were, but those of jobs. */
uint32_t milter_session_events(const struct milter_session *s);
bool milter_session_has_job(const struct milter_session *s);
unsigned milter_sessions(void);
/* Bit 0: MILTER_STAGE_REFUSED is wanted. */
uint32_t milter_session_waits(const struct milter_session *s);

/*
 * A message, when all events before it are worked off: job_run() of it is
 * called for each filter (milter_message.c).  One at a time.
 */
void milter_session_message(struct milter_session *s, struct milter_job *j);
/* j ends before that. */
void milter_session_forget(struct milter_session *s, struct milter_job *j);

#endif
