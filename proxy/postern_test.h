/*
 * `postern test`: a walk along the way of mail through the instance that runs.
 * Each step prints what it saw and one line that says how it fared:
 *
 *	ok         as it should be
 *	note       worth knowing, no defect of the configuration
 *	FAILED     with the reason and the place to look
 *	not done   and why
 *
 * Safe on a gateway in production: without addresses from the administrator no
 * message is sent to anybody; a session ends before DATA.  Who speaks with the
 * network, as root, is a child without root's rights.
 */
#ifndef PROXY_POSTERN_TEST_H
#define PROXY_POSTERN_TEST_H

#include <sys/types.h>

#include "proxy/postern.h"

enum selftest_mark { MARK_OK = 0, MARK_NOTE, MARK_FAILED, MARK_NOT_DONE };
#define MARKS	4u

struct selftest_log;

struct selftest {
	const char *config_dir;
	const struct config *c;
	const struct conf *cf;
	bool owner;		/* we may ask master and read everything */
	/* Where mail may be sent; NULL: none was named. */
	const char *to, *local, *remote;
	bool probe;		/* ask only, send nothing whatever is named */
	int64_t limit_ms;	/* to wait for an answer or a log line */
	char *name;		/* of us, for EHLO */
	char *postmaster;	/* an address that must be accepted */
	char *stranger;		/* one that we are not responsible for */
	char *outside;		/* numeric: an address that is not trusted */
	char *message_id;	/* without <>; the next message's */
	struct selftest_log *log;	/* NULL: there is no file to read */
	/* Shared with children. */
	struct selftest_count {
		unsigned marks[MARKS];
		bool sent;	/* a message was accepted by SMTP */
		bool relay_asked;	/* as a stranger, by XCLIENT */
	} *count;
};

/* A heading. */
void selftest_title(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));
/* How a step fared.  look: where to look (see selftest_place()); NULL: nowhere
 * in particular. */
void selftest_mark(struct selftest *s, enum selftest_mark mark,
    const char *look, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* "file:line: name = value" of a parameter; static, until the next call. */
const char *selftest_place(const struct selftest *s, const struct conf *cf,
    const char *name);
/* A new name for a message. */
void selftest_new_id(struct selftest *s);
/* The text of a message, as sendmail takes it: LF, no dots doubled. */
char *selftest_message(const struct selftest *s, const char *to,
    const char *subject);
/* Run fn in a child that is $net_user; without root's rights, as we are. */
void selftest_apart(struct selftest *s, void (*fn)(struct selftest *s,
    const void *arg), const void *arg);

/* The steps. */
void selftest_instance(struct selftest *s);
void selftest_dns(struct selftest *s);
void selftest_sessions(struct selftest *s);
void selftest_rules(struct selftest *s);
void selftest_next_hops(struct selftest *s);
void selftest_hand_in(struct selftest *s, const char *to);

/* The log file, from its present end on.  NULL: none can be read. */
struct selftest_log *selftest_log_open(const struct conf *cf);
void selftest_log_free(struct selftest_log **l);
const char *selftest_log_path(const struct selftest_log *l);
/* Show the lines of the message with the present message_id until it has
 * arrived, waits, or was returned, and mark how it fared. */
void selftest_log_follow(struct selftest *s);
/* What the log says of itself. */
void selftest_log_check(struct selftest *s);

#endif
