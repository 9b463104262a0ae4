/*
 * The role pickup: what its files share.  A drop is one file of maildrop/ on
 * its way to qmgr: it waits for a slot, perhaps for a file that takes a large
 * text, and for the reply.  See queue/MAILDROP.md.
 */
#ifndef QUEUE_PICKUP_H
#define QUEUE_PICKUP_H

#include <sys/types.h>

#include "lib/chan.h"
#include "lib/clock.h"
#include "lib/conf.h"
#include "queue/maildrop.h"

/* -- pickup_file.c: one file ----------------------------------------------- */

#define REFUSED_TEXT_MAX	65536u	/* of a text that is returned */
#define LETTER_ENVELOPE_MAX	(CHAN_MSG_MAX - 4096u)	/* encoded */

struct letter {
	char name[MAILDROP_NAME];
	int fd;
	uid_t uid;
	dev_t dev;
	ino_t ino;
	struct arena *arena;
	char *records;			/* what env points into */
	struct envelope env;
	struct view sender;		/* as it was given, for the log */
	off_t size;			/* of the file when it was opened; no
					 * byte behind that is ever read */
	uint64_t text_size;		/* as it will be sealed, less Received */
	uint64_t limit;			/* bytes of it that are sent */
	const char *refusal;		/* goes back to its sender; or NULL */
};

enum letter_status {
	LETTER_OK = 1,
	LETTER_GONE,		/* nothing there (any more) */
	LETTER_UNFINISHED,	/* its writer is not done */
	LETTER_STRANGE,		/* no regular file, no good name: leave it */
	LETTER_MALFORMED	/* remove it */
};

/*
 * Open and read all of maildrop/name.  Unless LETTER_OK, nothing is held and
 * *ret_why may say why; *ret_uid is the owner, if that was found out.
 */
enum letter_status letter_open(struct letter *l, int dir, const char *name,
    const struct conf *cf, const char **ret_why, uid_t *ret_uid);
void letter_close(struct letter *l);
/* Write Received: and the text, with CRLF, to fd; *ret_size is the bytes.
 * False: the file is not what it was, or the system failed (*ret_error, an
 * errno value, is not 0). */
bool letter_write(struct letter *l, const struct conf *cf,
    struct queue_id id, int fd, uint64_t *ret_size, int *ret_error);

/* -- pickup_dir.c: the directory ------------------------------------------- */

/* Before the jail: open and watch. */
void dir_load(const struct conf *cf);
/* Called with each name that may be a file to take; ask dir_next(). */
void dir_start(void (*ready)(void));
/* The next name to look at, NULL: none now.  Good until the next call. */
const char *dir_next(void);
/* Only one pickup at a time.  False: another one still works. */
bool dir_lock(void);
int dir_fd(void);
/* Look through all of it again. */
void dir_rescan(void);
/* Not this name before so much time, which doubles each time. */
void dir_later(const char *name);
/* Not this name any more. */
void dir_never(const char *name);
/* Warn once of a name that stays where it is. */
void dir_warn(const char *name, uid_t uid, const char *why);
/* Its trouble is over. */
void dir_forget(const char *name);
void dir_stop(void);

#endif
