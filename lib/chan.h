/*
 * A channel: the socket between two roles, on which messages of lib/msg.def
 * travel, with descriptors.  Messages are collected and sent together at the
 * end of the loop's turn.  Incoming ones are checked against the list before
 * the handler sees them.
 *
 *	struct buf *b = chan_begin(c, MSG_SEALED);
 *	put_u64(b, id.n);
 *	...
 *	chan_end(c);
 *
 * One message holds at most CHAN_MSG_MAX bytes; a sender checks the size of
 * what a peer could grow.  Unsent output beyond CHAN_OUT_MAX means that the
 * other side does not read: fatal for this process.
 */
#ifndef LIB_CHAN_H
#define LIB_CHAN_H

#include <sys/types.h>

#include "lib/cursor.h"
#include "lib/msg.h"

#define CHAN_MSG_MAX	(4u << 20)
#define CHAN_OUT_MAX	(64u << 20)
#define CHAN_FDS_MAX	2

struct chan;

struct chan_in {
	enum msg_type type;
	struct cursor body;
	int fd[CHAN_FDS_MAX];	/* taken by setting to -1, else closed after */
};

/* A message arrived.  chan_free() of the same channel is allowed inside. */
typedef void chan_on_msg(struct chan *c, struct chan_in *m, void *arg);
/* The other side is gone (or broke the rules).  No more calls follow; the
 * handler (or a later moment) frees the channel. */
typedef void chan_on_close(struct chan *c, void *arg);

/* Takes over fd.  self and peer say whose rules to check. */
struct chan *chan_new(int fd, enum role_kind self, enum role_kind peer,
    pid_t peer_pid, chan_on_msg *on_msg, chan_on_close *on_close, void *arg);
/* Unsent messages are tried once more, then everything is closed. */
void chan_free(struct chan **c);

struct buf *chan_begin(struct chan *c, enum msg_type type);
/* A descriptor to go with the message begun.  It is duplicated if keep is
 * true, else given away (closed here once sent). */
void chan_put_fd(struct chan *c, int fd, bool keep);
void chan_end(struct chan *c);
/* A message without fields. */
void chan_send(struct chan *c, enum msg_type type);
/* Write what is queued now, blocking: before exit. */
void chan_drain(struct chan *c);

/* The sender broke the rules: log, tell master to end it, close. */
void chan_blame(struct chan *c, const char *why);
/* Check the fields of m: if they were not read exactly, blame and return
 * false. */
bool chan_check(struct chan *c, const struct chan_in *m);

enum role_kind chan_peer(const struct chan *c);
pid_t chan_peer_pid(const struct chan *c);
void *chan_arg(const struct chan *c);
/* Passwords travel here: what was sent and read is overwritten. */
void chan_secret(struct chan *c);
/* Bytes not yet taken by the other side. */
size_t chan_unsent(const struct chan *c);

/* Set by lib/role: the phase to check against, and who is told of blame. */
extern enum role_phase chan_phase;
extern void (*chan_on_blame)(pid_t pid, const char *why);

#endif
