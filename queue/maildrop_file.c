#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/mem.h"
#include "queue/maildrop_file.h"

/* The owner's execute bit says "complete".  pickup runs as another user, so
 * others must be able to read; nobody can list the directory or guess a
 * name. */
#define MODE_WRITING	0600
#define MODE_COMPLETE	0744

int
maildrop_open_directory(const char *queue_directory)
{
	char *path = mem_printf("%s/maildrop", queue_directory);
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int error = errno;

	free(path);
	errno = error;
	return fd;
}

bool
maildrop_writable(int dir)
{
	/* With the effective group: postdrop has its own. */
	return faccessat(dir, ".", W_OK | X_OK, AT_EACCESS) == 0;
}

int
maildrop_file_make(struct maildrop_file *f, int dir)
{
	static const char digit[] = "0123456789abcdef";
	unsigned char random[MAILDROP_NAME_DIGITS / 2];
	size_t i;

	*f = (struct maildrop_file){ .dir = dir, .fd = -1 };
	if (getrandom(random, sizeof random, 0) != sizeof random)
		return EIO;
	for (i = 0; i < sizeof random; i++) {
		f->name[2 * i] = digit[random[i] >> 4];
		f->name[2 * i + 1] = digit[random[i] & 15];
	}
	f->fd = openat(dir, f->name, O_WRONLY | O_CREAT | O_EXCL |
	    O_NOFOLLOW | O_CLOEXEC, MODE_WRITING);
	return f->fd < 0 ? errno : 0;
}

int
maildrop_file_commit(struct maildrop_file *f)
{
	int fd, rc = 0;

	/* pickup may take it from here on; what it takes it makes durable
	 * itself, so the order does not matter. */
	if (fchmod(f->fd, MODE_COMPLETE) != 0 || fsync(f->fd) != 0)
		rc = errno;
	if (rc == 0) {
		(void)close(f->fd);
		f->fd = -1;
	}
	/* The name too, if we may open the directory; else the file system
	 * has written it with its new file, as ext4, XFS and btrfs do. */
	fd = rc == 0 ? openat(f->dir, ".", O_RDONLY | O_DIRECTORY |
	    O_CLOEXEC) : -1;
	if (fd >= 0) {
		if (fsync(fd) != 0)
			rc = errno;
		(void)close(fd);
	}
	return rc;
}

void
maildrop_file_drop(struct maildrop_file *f)
{
	if (f->name[0] != '\0')
		(void)unlinkat(f->dir, f->name, 0);
	if (f->fd >= 0)
		(void)close(f->fd);
	f->fd = -1;
	f->name[0] = '\0';
}
