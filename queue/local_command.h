/*
 * A program that gets a message on its standard input.  It runs as who the
 * caller has become, in a session of its own, with the environment given and
 * nothing of ours: no descriptor but 0, 1 and 2, no signal handled.
 *
 * What it says and how it ends becomes the recipient's fate (sysexits.h): 0 is
 * delivered, 75 and its like come again, what else it may be is returned.
 * Output that begins with "4.x.y " or "5.x.y " decides, if it failed.
 */
#ifndef QUEUE_LOCAL_COMMAND_H
#define QUEUE_LOCAL_COMMAND_H

#include "queue/local_fate.h"
#include "queue/local_text.h"

struct command {
	const char *name;	/* for messages */
	const char *shell;	/* a program and its arguments that runs every
				 * text; "" or NULL: see text */
	char *const *argv;	/* NULL: text, by a shell if it needs one */
	const char *text;	/* else NULL */
	char *const *env;
	const char *directory;	/* NULL: / */
	bool must_be_there;	/* without directory it is not run */
	int64_t time_limit;	/* ms */
	int64_t file_limit;	/* bytes of a file it writes; 0: any */
	struct view head, tail;	/* around the text */
	unsigned flags;		/* enum text_flag */
	const char *eol;	/* as local_text_send() */
};

/* ret->status is RCPT_DELIVERED if it took the message. */
void command_run(const struct command *c, const struct local_text *t,
    struct fate *ret);

/* NAME=value pairs, in which each byte of value that is not in allowed is
 * '_'. */
struct environment {
	char **list;		/* NULL behind the last */
	size_t n;
};
void environment_add(struct environment *e, const char *name,
    struct view value, const char *allowed);
void environment_free(struct environment *e);

#endif
