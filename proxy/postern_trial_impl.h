/* Inside the trial. */
#ifndef PROXY_POSTERN_TRIAL_IMPL_H
#define PROXY_POSTERN_TRIAL_IMPL_H

#include "proxy/postern_trial.h"

#define TRIAL_SLOTS_MAX	256u

struct trial_role {
	struct trial *trial;
	enum role_kind kind;
	pid_t pid;
	struct chan *control;
	bool ready;
	int log;
	struct event log_event;
	struct buf line;
};

struct trial_slot {
	uint64_t id;		/* 0: free */
	int fd;
	char *asked, *envelope;	/* while it is judged */
	size_t n_asked, n_envelope;
	uint64_t size;
};

enum trial_step { TRIAL_IDLE = 0, TRIAL_GREETING, TRIAL_EHLO, TRIAL_MAIL,
	TRIAL_RCPT, TRIAL_DATA, TRIAL_TEXT, TRIAL_QUIT };

struct trial {
	struct trial_options o;
	struct master master;
	struct config *config;
	struct trial_role smtpd, lookup, filter;
	/* We are gate, lookup and qmgr to smtpd; smtpd to lookup; qmgr to
	 * filter. */
	struct chan *gate, *facts, *queue, *to_lookup, *to_filter;
	struct trial_slot slots[TRIAL_SLOTS_MAX];
	uint64_t last_id;
	struct buf question;
	struct trial_relays *relays;	/* NULL: not opened yet */
	bool waiting;		/* inside the loop */
	bool failed;
	/* the conversation */
	const struct trial_message *m;
	int fd;
	struct event io, timer;
	struct buf in, out, reply, line;
	enum trial_step step;
	size_t rcpt, accepted;
	bool over, gone;
};

/* Both ends of a channel: smtpd asks us for names, facts and slots. */
void trial_link_open(struct trial *t);
void trial_link_free(struct trial *t);
/* Read what the roles have written. */
void trial_logs(struct trial *t);
void trial_fail(struct trial *t, const char *why);
/* Run the loop until *done; false: it failed. */
bool trial_wait(struct trial *t, const bool *done, int64_t ms);
void trial_stop_waiting(struct trial *t);
void trial_smtp_free(struct trial *t);
/* Whose rights a role takes if root starts it: as in a running gateway, or
 * nobody's. */
const char *trial_user(const struct team *team);
/* s is queued with this judgement, for e: what rules at delivery do to it. */
void trial_deliver(struct trial *t, const struct trial_slot *s,
    const struct judgement *j, const struct envelope *e);
void trial_deliver_free(struct trial *t);

#endif
