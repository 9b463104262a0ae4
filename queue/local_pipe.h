/*
 * What stands behind "pipe" in master.cf: name=value up to argv=, then a
 * command line.  Pure.
 */
#ifndef QUEUE_LOCAL_PIPE_H
#define QUEUE_LOCAL_PIPE_H

#include "lib/master_cf.h"

enum pipe_flag {
	PIPE_BLANK = 1 << 0,		/* B */
	PIPE_DELIVERED_TO = 1 << 1,	/* D */
	PIPE_FROM = 1 << 2,		/* F */
	PIPE_ORIGINAL_TO = 1 << 3,	/* O */
	PIPE_RETURN_PATH = 1 << 4,	/* R */
	PIPE_FINAL = 1 << 5,		/* X */
	PIPE_LOWER_DOMAIN = 1 << 6,	/* h */
	PIPE_QUOTE = 1 << 7,		/* q */
	PIPE_LOWER_LOCAL = 1 << 8,	/* u */
	PIPE_DOT = 1 << 9,		/* . */
	PIPE_QUOTE_FROM = 1 << 10,	/* > */
};

struct pipe_service {
	unsigned flags;
	int64_t size;			/* bytes; 0: any */
	char *user, *group;		/* group NULL: the user's */
	char *directory;		/* NULL: / */
	char *eol;			/* "\n" */
	const char *null_sender;
	char *const *argv;		/* in the service; with macros */
	size_t argc;
};

/* NULL, or what is wrong with it. */
const char *pipe_service_read(const struct service *s,
    struct pipe_service *ret);
void pipe_service_free(struct pipe_service *p);

#endif
