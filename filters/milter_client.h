/*
 * One outside filter in one SMTP session: the sending side of the milter
 * protocol as a machine without sockets and clocks.  Its owner writes what is
 * in out, hands over what was read, tells of failures, and asks for one thing
 * at a time; each is answered with one struct milter_result.
 *
 * The filter is not trusted: a packet that is malformed, not allowed now, not
 * negotiated, or over a limit ends the machine with MILTER_BROKEN and a word
 * that says why; so does one that comes while out is not empty: the owner
 * clears it when all is written.  Changes to a message are collected and given
 * out whole with the answer to it, or not at all.
 *
 * What each filter sees is told by the functions below in the order of SMTP:
 * negotiate, connect, helo, then mail, rcpt, data, message, again and again.
 * abort ends a transaction that did not reach its message's end.  A filter
 * that said ACCEPT is asked no more about the transaction, or the session if
 * it said so at connect or helo; the caller need not know.
 *
 * With pipelining, and from version 6 on, the header and the body of a message
 * are said without waiting for each answer, but never its end, and one piece of
 * the body at a time, for it may skip the rest.  A filter that has its say
 * before the end (accept, refuse, discard) decides as it would otherwise; but
 * libmilter hears nothing of what comes behind that, and others answer it, so
 * the machine is over then.
 *
 * Limits: see the numbers below.  Manual: sendmail's libmilter/docs.
 */
#ifndef FILTERS_MILTER_CLIENT_H
#define FILTERS_MILTER_CLIENT_H

#include "filters/milter_wire.h"
#include "lib/mem.h"

#define MILTER_PACKET_MAX	(1u << 18)	/* from a filter */
#define MILTER_OUT_MAX		(1u << 19)	/* waiting to be written */
#define MILTER_OUT_ENOUGH	(1u << 18)
#define MILTER_BEHIND_MAX	64u	/* said ahead of an answer */
#define MILTER_EDITS_MAX	1000u
#define MILTER_EDITS_BYTES_MAX	(1u << 20)
#define MILTER_PROGRESS_MAX	1000u		/* in one answer */
#define MILTER_MACROS_MAX	1024u		/* bytes of one own list */
#define MILTER_REPLY_LINES_MAX	32u
#define MILTER_REPLY_LINE_MAX	980u
#define MILTER_QUARANTINE_MAX	1000u		/* bytes of the reason */

enum milter_answer {
	MILTER_GO_ON = 1,	/* and the changes, if any, hold */
	MILTER_TAKE,		/* accept: no more of this filter */
	MILTER_DROP,		/* discard */
	MILTER_REFUSE,		/* reply with code and text */
	MILTER_HANG_UP,		/* 421 and the end of the session */
	MILTER_BROKEN		/* the filter is of no use: text says why */
};

struct milter_result {
	enum milter_answer answer;
	uint16_t code;		/* REFUSE: 400 to 599; 0: the caller's own text,
				 * for `temporary` or not */
	bool temporary;
	/* REFUSE with a code: lines "4.7.1 text", "\n" between; else what to
	 * log.  Good until the next call. */
	struct view text;
};

/* A change of a message; in the order of the filter. */
enum milter_edit_kind {
	MILTER_EDIT_ADD_HEADER = 1,	/* name, value: behind all */
	MILTER_EDIT_INSERT_HEADER,	/* number: in front of that many */
	MILTER_EDIT_CHANGE_HEADER,	/* the number-th of the name, from 1;
					 * no value: delete */
	MILTER_EDIT_FROM,		/* name: address, value: arguments */
	MILTER_EDIT_ADD_RCPT,
	MILTER_EDIT_DELETE_RCPT,
	MILTER_EDIT_BODY		/* see milter_client_body() */
};

struct milter_edit {
	enum milter_edit_kind kind;
	uint32_t number;
	struct view name, value;	/* no NUL, no CR, LF only in front of
					 * white space */
};

/* What a filter is shown of a message: as it is by now. */
struct milter_header {
	struct view name;
	struct view value;	/* behind the colon, its first space too; LF
				 * between lines */
};
struct milter_text {
	const struct milter_header *headers;
	size_t n_headers;
	struct view body;
};

struct milter_settings {
	uint32_t version;	/* offered: 2 to 6 */
	bool pipelining;	/* pieces of a message before answers */
	bool rejected_rcpts;	/* we can tell of refused recipients */
	uint64_t body_max;	/* bytes of a new body */
	/* Names of macros for each stage, separated by white space or commas,
	 * "i" or "{rcpt_addr}"; a filter may ask for its own list. */
	struct view macros[MILTER_MACRO_STAGES];
	struct view unknown_macros;
};

/* The value of a macro, named without braces; false: it has none now. */
typedef bool milter_macro(void *arg, struct view name, struct view *ret);

struct milter_client;

struct milter_client *milter_client_new(const struct milter_settings *s,
    milter_macro *macro, void *arg);
void milter_client_free(struct milter_client **c);
/* Whose macros: after milter_client_renew(). */
void milter_client_adopt(struct milter_client *c, void *arg);

/* What to write; the owner consumes it, then calls milter_client_written(). */
struct buf *milter_client_out(struct milter_client *c);
/* More of a message may be there to write.  True: an answer is complete. */
bool milter_client_written(struct milter_client *c);
/*
 * Bytes from the filter.  True: an answer is complete; the bytes behind it
 * were not looked at.  *in: what is left.
 */
bool milter_client_read(struct milter_client *c, struct view *in);
/* It cannot be reached, closed, or was too slow: the answer is BROKEN. */
void milter_client_fail(struct milter_client *c, const char *why);

/* True: the answer is known, no need to wait. */
bool milter_client_negotiate(struct milter_client *c);
/* family: 'L', '4', '6' or 'U' (milter docs); addr: text or path. */
bool milter_client_connect(struct milter_client *c, struct view name,
    char family, uint16_t port, struct view addr);
bool milter_client_helo(struct milter_client *c, struct view name);
/* args[0]: the address in angle brackets, then ESMTP arguments. */
bool milter_client_mail(struct milter_client *c, const struct view *args,
    size_t n);
bool milter_client_rcpt(struct milter_client *c, const struct view *args,
    size_t n, bool refused);
bool milter_client_data(struct milter_client *c);
bool milter_client_unknown(struct milter_client *c, struct view command);
/* Pipelining from the next message on, or none any more. */
void milter_client_pipelines(struct milter_client *c, bool yes);
/* With an answer: it came ahead of others that were due, and ended all. */
bool milter_client_cut(const struct milter_client *c);
/* t and what it points to stay until the answer. */
bool milter_client_message(struct milter_client *c,
    const struct milter_text *t);
/* No answers to these.  abort: something is there to write.  renew: a new
 * session over the same connection, after the last one has ended with a
 * message; false: the filter cannot, or is in no state for it. */
bool milter_client_abort(struct milter_client *c);
bool milter_client_renew(struct milter_client *c);
void milter_client_quit(struct milter_client *c);

/* Nothing more can be said on this connection. */
bool milter_client_over(const struct milter_client *c);
bool milter_client_waiting(const struct milter_client *c);
const struct milter_result *milter_client_result(
    const struct milter_client *c);
/* With the answer to a message: GO_ON or TAKE. */
const struct milter_edit *milter_client_edits(const struct milter_client *c,
    size_t *ret_n);
/* The new body, when an edit is MILTER_EDIT_BODY. */
struct view milter_client_body(const struct milter_client *c);
/* Hold the message; false: no.  *ret: the reason. */
bool milter_client_quarantine(const struct milter_client *c,
    struct view *ret);
/* What was negotiated: enum milter_step. */
uint32_t milter_client_steps(const struct milter_client *c);

#endif
