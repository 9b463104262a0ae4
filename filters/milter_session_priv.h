/*
 * The inside of a session with outside filters, for the files that work on it:
 * events (milter_session.c), each filter (milter_filter.c), and messages
 * (milter_message.c).
 */
#ifndef FILTERS_MILTER_SESSION_PRIV_H
#define FILTERS_MILTER_SESSION_PRIV_H

#include <sys/queue.h>

#include "filters/milter_session.h"

/* What a filter is told next. */
enum filter_step { FILTER_NOTHING = 0, FILTER_NEGOTIATE, FILTER_CONNECT,
	FILTER_HELO, FILTER_EVENT, FILTER_DRAIN, FILTER_MESSAGE };

struct session_filter {
	struct milter_session *session;
	const struct milter_spec *spec;
	const struct milter_address *address;
	struct milter_client *client;	/* NULL: not connected */
	struct milter_link *link;
	enum filter_step asked;		/* whose answer is waited for */
	bool negotiated, connected, greeted;
	bool fresh;			/* takes no connection that was used */
	bool used;			/* an earlier session had it */
	bool off;			/* of no use until the next MAIL */
	bool said;			/* soft_mode: ... and that was said */
};

struct session_event {
	STAILQ_ENTRY(session_event) link;
	struct milter_event is;		/* all of it in one piece */
	size_t bytes;
	struct milter_job *job;		/* made it up; NULL: it was told */
};

struct session_value {
	enum milter_stage stage;	/* where it came */
	char *name, *value;
};

struct milter_session {
	const struct milter_set *set;
	const struct milter_list *list;
	milter_told *told;
	void *arg;
	struct session_filter *filters;
	size_t n, at;			/* at: whose turn it is */
	STAILQ_HEAD(, session_event) events;
	unsigned n_waiting;
	size_t bytes_waiting;
	uint32_t n_events;
	struct session_event *now;
	struct session_event *connect, *helo;	/* told to all who come later */
	struct session_value values[MILTER_VALUES_MAX];
	size_t n_values;
	struct milter_job *job;		/* waits, or is shown to filters */
	bool begun, in_job, stepping, released;
	bool waiting;			/* for a filter */
	struct loop_work reap;
	/* What a filter made of the client or its HELO; says 0: nothing. */
	struct milter_verdict refused;
	char *refused_text;
	/* soft_mode: what the first filter that was against it said about
	 * the event; told to who asks, nothing else. */
	struct milter_verdict would;
	char *would_text;
	/* Of this transaction. */
	bool discard, hold;
};

enum filter_tell { TELL_WAIT = 1, TELL_GO_ON, TELL_FINAL };

/* Tells f the next thing; TELL_FINAL: *ret is what it, or its default action,
 * says. */
enum filter_tell filter_tell(struct session_filter *f,
    const struct milter_event *ev, struct milter_verdict *ret);
/* Ends the connection; or another session may have it. */
void filter_close(struct session_filter *f);
void filter_leave(struct session_filter *f);
/* Which stages it says something to, by what it negotiated; bit 0: see
 * milter_session_waits(). */
uint32_t filter_waits(const struct session_filter *f);
/* What its default action makes of a filter that cannot be used. */
enum filter_tell filter_default(struct session_filter *f,
    struct milter_verdict *ret);
/* soft_mode: what it is against is to be said, once of one that is off. */
bool filter_says(struct session_filter *f);
/* The client said BROKEN: log, and default. */
enum filter_tell filter_broken(struct session_filter *f,
    struct milter_verdict *ret);
/* A client's refusal in words. */
void filter_refusal(const struct session_filter *f,
    const struct milter_result *r, struct milter_verdict *ret);
/* Ask, and come back to session_step() with the answer.  True: it is there. */
bool filter_ask(struct session_filter *f, enum filter_step step, bool known,
    int64_t ms);
void session_step(struct milter_session *s);

/* milter_message.c: the answer to an event that j made up. */
void milter_job_told(struct milter_job *j, const struct milter_verdict *v);
/* milter_message.c: go on with the message.  True: it is finished. */
bool milter_job_step(struct milter_job *j);

#endif
