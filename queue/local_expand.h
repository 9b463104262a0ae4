/*
 * Delivery to what a list names, as who the caller has become: commands are
 * run and files written at once, addresses are gathered for a new message.
 */
#ifndef QUEUE_LOCAL_EXPAND_H
#define QUEUE_LOCAL_EXPAND_H

#include "queue/local.h"
#include "queue/local_list.h"

#define INCLUDES_DEEP	10u

struct expansion {
	const struct job *job;
	const struct account *account;	/* its environment; NULL: nobody's */
	const char *what;	/* "alias", "forward": allow_mail_to_ words */
	uid_t uid;		/* who it is done as */
	struct arena *arena;
	bool powerless;		/* neither commands nor files nor includes */
	bool self;		/* the user's own mailbox is one */
	unsigned depth;		/* of :include: */
	struct fate worst;	/* of commands and files; status 0: none */
	uint32_t n_direct;
	struct buf first;	/* commands and files to do: encoded */
	uint32_t n, room;
	struct view *addresses;
};

void expansion_begin(struct expansion *x, const struct job *j,
    const struct account *a, const char *what, uid_t uid, struct arena *arena);
/* Take in a list.  False: x->worst says why. */
bool expansion_add(struct expansion *x, struct view text);
/* Do what is to be done at once, and say what came of it: x->worst, or
 * RCPT_EXPANDED.  Nothing is gathered if something is to come again. */
void expansion_end(struct expansion *x, struct fate *ret);

/* NAME=value for what runs on behalf of a recipient. */
struct environment;
void expansion_environment(const struct job *j, const struct account *a,
    struct environment *e);

/* Read a small file that the caller may read; no device, nothing that others
 * can write to.  0, or errno; EPERM: *ret_why says which of these. */
int expansion_read(const char *path, uid_t owner, struct buf *b,
    const char **ret_why);
/* Append to a file, or drop into a maildir, as uid. */
void expansion_file(const struct job *j, const char *path, uid_t uid,
    struct fate *f);
void expansion_command(const struct job *j, const struct account *a,
    const char *text, struct fate *f);
/* The recipient is one of those the message has been delivered to. */
bool expansion_loop(const struct job *j, struct fate *f);

#endif
