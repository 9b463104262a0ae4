/*
 * The processes that keeper has started: each with its control channel.
 */
#ifndef FILTERS_POSTERN_MILTER_CHILD_H
#define FILTERS_POSTERN_MILTER_CHILD_H

#include <sys/types.h>

#include "filters/postern_milter.h"

struct child {
	struct child *next;
	enum role_kind kind;
	pid_t pid;
	uint32_t generation;
	struct chan *control;	/* NULL: it has closed it */
	bool ready;
	bool retired;		/* told to finish */
	bool log_lost;
	struct mono since;
};

/* conf says where the log is; ready() is called for each one that serves. */
void child_setup(const struct keeper_options *o, const struct conf *conf,
    void (*ready)(struct child *c));
void child_set_conf(const struct conf *conf);

/* False, with an error in the log: it could not be started. */
bool child_start(enum role_kind kind, uint32_t generation,
    const struct keeper_conf *k);
/* All of them. */
struct child *child_list(void);
/* One that has ended; taken off the list, the caller frees it.  NULL: none
 * of ours. */
struct child *child_ended(pid_t pid, int status);
void child_retire(struct child *c);
void child_kill(struct child *c);
/* A channel between two of them. */
void child_join(struct child *a, struct child *b);
/* A new descriptor of the log. */
void child_log(struct child *c);
void child_ask_status(struct child *c);
/* How often each rule fired. */
void child_log_hits(void);

#endif
