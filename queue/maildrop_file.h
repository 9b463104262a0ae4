/*
 * Making a file in maildrop/: by postdrop, or by sendmail where everybody may
 * write there.  The directory is usually not readable for us.  See
 * queue/MAILDROP.md for what makes a file complete.
 */
#ifndef QUEUE_MAILDROP_FILE_H
#define QUEUE_MAILDROP_FILE_H

#include "queue/maildrop.h"

struct maildrop_file {
	int dir;
	int fd;
	char name[MAILDROP_NAME];
};

/* queue_directory/maildrop; -1 and errno. */
int maildrop_open_directory(const char *queue_directory);
/* May this process make files there? */
bool maildrop_writable(int dir);

/* All return 0 or an errno value. */
int maildrop_file_make(struct maildrop_file *f, int dir);
/* The text is written: make it durable and complete, and close it. */
int maildrop_file_commit(struct maildrop_file *f);
/* Remove and close it. */
void maildrop_file_drop(struct maildrop_file *f);

#endif
