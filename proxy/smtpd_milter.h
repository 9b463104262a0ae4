/*
 * Outside filters (milters): what a client says, once our own policy permits
 * it, is told to the milter role, and nothing happens before it has answered.
 * What no filter answers is told without waiting.
 */
#ifndef PROXY_SMTPD_MILTER_H
#define PROXY_SMTPD_MILTER_H

#include "lib/msg.h"
#include "proxy/smtpd.h"

struct milter_link;

/* A session's talk with the role. */
struct milter_talk {
	struct milter_link *link;	/* NULL: lost */
	uint32_t no;
	uint32_t events;		/* told so far */
	uint32_t waits;			/* stages that are answered; bit 0:
					 * RCPT that we refused is wanted */
	bool told;			/* MAIL, and no end of it */
	bool hold;			/* the message, by default action */
	bool unwelcome;			/* a filter does not want the client */
	/* What goes on with the answer. */
	enum milter_stage stage;
	char *args;
	size_t args_n;
};

/* The answer, or what takes its place. */
struct milter_answer {
	enum milter_says says;
	uint16_t code;
	struct view text;		/* "\n" between lines */
	uint32_t waits;
};

/* -- sessions (smtpd_milter.c) -------- */

/* False: it was refused, or is waited for: then what it was about goes on
 * with the answer. */
bool milter_connect(struct session *s);
/* False: 554 is the greeting. */
bool milter_greets(const struct session *s);
bool milter_verb(struct session *s, struct view args);
bool milter_mail(struct session *s, struct view args);
bool milter_unknown(struct session *s, struct view line);
/* We refused this recipient. */
void milter_refused(struct session *s, struct view rcpt, const char *status,
    const char *text);
/* No more of a transaction; sealed: qmgr has it. */
void milter_end(struct session *s, bool sealed);
/* sealed: a message of it is with qmgr. */
void milter_free(struct session *s, bool sealed);
/* The session that waits for an answer gets it, or does without. */
void milter_answered(struct session *s, const struct milter_answer *a);
void milter_lost(struct session *s);
void milter_resume(struct session *s);
/* The answer cannot come any more, or is late. */
void milter_give_up(struct session *s);

/* -- channels (smtpd_milter_link.c) -------- */

/* The newest role; NULL: there is none. */
struct milter_link *milter_link_take(void);
void milter_link_release(struct milter_link *l);
struct chan *milter_link_chan(const struct milter_link *l);

#endif
