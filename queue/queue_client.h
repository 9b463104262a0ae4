/*
 * The commands' side of queue/queue_request.h, and the same straight from the
 * files for when the system is down.  Mistakes of the environment end the
 * command with fatal().
 */
#ifndef QUEUE_QUEUE_CLIENT_H
#define QUEUE_QUEUE_CLIENT_H

#include "lib/conf.h"
#include "queue/queue_match.h"
#include "queue/queue_request.h"

#define EXIT_USAGE	64	/* sysexits.h */
#define EXIT_DATA	65
#define EXIT_NO_USER	67
#define EXIT_UNAVAILABLE 69
#define EXIT_SOFTWARE	70
#define EXIT_SYSTEM	71
#define EXIT_NO_PERM	77

/* -c's argument, $MAIL_CONFIG or the default; the configuration there.
 * Mistakes in it that are none of the command's business are ignored. */
struct conf *queue_conf(const char *option);
/* An error, and the end with this status; "name: fatal: ...". */
void queue_fatal(int status, const char *fmt, ...)
    __attribute__((format(printf, 2, 3), noreturn));

/*
 * Options that narrow what a command is about; those of getopt_long() and
 * their codes, which are below ' '.  A wrong value is the end of the command.
 */
enum match_code { MATCH_SENDER = 1, MATCH_RECIPIENT, MATCH_NEXT_HOP,
	MATCH_OLDER, MATCH_NEWER, MATCH_REASON };
#define MATCH_OPTIONS \
	{ "sender", required_argument, NULL, MATCH_SENDER }, \
	{ "recipient", required_argument, NULL, MATCH_RECIPIENT }, \
	{ "next-hop", required_argument, NULL, MATCH_NEXT_HOP }, \
	{ "older", required_argument, NULL, MATCH_OLDER }, \
	{ "newer", required_argument, NULL, MATCH_NEWER }, \
	{ "reason", required_argument, NULL, MATCH_REASON }
void queue_option(struct queue_match *m, enum match_code code,
    const char *value);

struct queue_client;
/* NULL: the mail system is down, or may not be reached (errno). */
struct queue_client *queue_connect(const struct conf *cf);
void queue_disconnect(struct queue_client **c);

/* A request: begin, put fields, send. */
struct buf *queue_request(struct queue_client *c, enum request_type type);
void queue_send(struct queue_client *c);
/*
 * The next frame of the answer; the fields are valid until the next call.
 * REPLY_NONE: the connection broke.  *ret_fd (may be NULL): what came with
 * REPLY_OPENED, the caller's.
 */
enum reply_type queue_reply(struct queue_client *c, struct cursor *ret,
    int *ret_fd);
/* A REPLY_END: its status; *ret_text is valid as the fields are. */
enum reply_status queue_end(struct cursor *end, struct view *ret_text);

/* Each message that matches, decoded. */
typedef void queue_each(const struct queue_entry *e, void *arg);
/* What came of LIST. */
enum reply_status queue_list(struct queue_client *c,
    const struct queue_match *m, queue_each *each, void *arg,
    const char **ret_error);
/* The same from the files.  Returns how many could not be read. */
unsigned queue_scan(const struct spool *s, const struct queue_match *m,
    const struct router *router, queue_each *each, void *arg);
/* Give ids to showq; result[i] for id[i]. */
enum reply_status queue_order(struct queue_client *c, enum queue_op op,
    const struct queue_id *id, uint32_t n, uint8_t *result,
    const char **ret_error);

#endif
