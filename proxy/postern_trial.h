/*
 * A trial: mail goes through the programs of a configuration - smtpd, lookup
 * and filter, the very ones that serve - started privately by this command,
 * which takes the place of master, gate and qmgr.  So what a trial says is
 * what a client would be told.  Nothing is logged, queued or sent; the DNS is
 * asked.  Not taken part in: what gate does before the greeting, what qmgr
 * refuses for want of room, and deliveries, but for their rules.
 *
 * One conversation at a time.  The loop (lib/loop.h) runs inside the calls.
 */
#ifndef PROXY_POSTERN_TRIAL_H
#define PROXY_POSTERN_TRIAL_H

#include "lib/envelope.h"
#include "proxy/postern.h"
#include "rules/verdict.h"

#define TRIAL_RCPTS_MAX	1000u
#define TRIAL_REPLY_MAX	8192u

struct trial;

struct trial_options {
	const char *service;		/* in master.cf; NULL: the first smtpd */
	bool trace;			/* the roles write what they look at */
	bool ask_services;		/* policy services are asked too */
	const char *name, *reverse;	/* of the client; NULL: as the DNS says */
	/* A line that a role would log; text without its name. */
	void (*on_line)(enum role_kind role, struct view text, void *arg);
	/* A fact was asked for, and what it is. */
	void (*on_fact)(struct view text, void *arg);
	/* What was said: "C" or "S". */
	void (*on_talk)(const char *who, struct view text, void *arg);
	/* What a transport's rules at delivery (smtp_header_checks, ...) come
	 * to: a change, or "unchanged".  For transports that have some; what
	 * they matched are lines of ROLE_RELAY. */
	void (*on_delivery)(struct view transport, struct view text,
	    void *arg);
	/* What filter and policy made of the text together. */
	void (*on_judged)(const struct judgement *j,
	    const struct envelope *e, void *arg);
	void *arg;
};

struct trial_message {
	struct netaddr client;
	const char *helo;
	struct view from;		/* as in MAIL FROM:<> */
	const struct view *to;
	size_t n_to;
	uint64_t size;			/* SIZE=; 0: none */
	bool has_text;			/* else it ends before DATA */
	struct view text;		/* as DATA sends it, with its dot */
};

/* NULL after errors went to standard error. */
struct trial *trial_open(const char *config_dir,
    const struct trial_options *o);
void trial_free(struct trial **t);
/*
 * The last reply before QUIT: what ended the conversation, or the answer to
 * the last recipient, or to the text.  Lines are joined by '\n'.  NULL: a
 * role broke down; that was reported.
 */
const char *trial_run(struct trial *t, const struct trial_message *m);
const struct config *trial_config(const struct trial *t);

/* A file as DATA sends it: CRLF, dots doubled, the end. */
void trial_text(struct view file, struct buf *out);

#endif
