#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "queue/maildir.h"

struct drop {
	const struct maildir *m;
	int dir;		/* of the maildir */
	int fd;			/* of the message */
	uint64_t written;
	char tmp[256], name[256];
};

/* Its parts are made one by one: none is there before its parents. */
static bool
drop_make_path(char *path)
{
	char *p;

	for (p = path + 1; *p != '\0'; p++) {
		if (*p != '/' || p[1] == '\0')
			continue;
		*p = '\0';
		if (mkdir(path, 0700) != 0 && errno != EEXIST &&
		    access(path, F_OK) != 0)
			return false;
		*p = '/';
	}
	return mkdir(path, 0700) == 0 || errno == EEXIST;
}

static bool
drop_open(struct drop *d)
{
	static const char *const parts[] = { "tmp", "new", "cur" };
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	char *path = mem_strdup(d->m->path);
	bool ok;
	size_t i;

	d->dir = open(path, flags);
	if (d->dir < 0 && errno == ENOENT && drop_make_path(path))
		d->dir = open(path, flags);
	free(path);
	ok = d->dir >= 0;
	for (i = 0; ok && i < sizeof parts / sizeof parts[0]; i++)
		ok = mkdirat(d->dir, parts[i], 0700) == 0 || errno == EEXIST;
	return ok;
}

static bool
drop_write(struct view v, void *arg)
{
	struct drop *d = arg;
	ssize_t k;

	if (d->m->limit > 0 && d->written + v.n > (uint64_t)d->m->limit) {
		errno = EFBIG;
		return false;
	}
	while (v.n > 0) {
		k = write(d->fd, v.p, v.n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			if (k == 0)
				errno = ENOSPC;
			return false;
		}
		d->written += (uint64_t)k;
		v = view_from(v, (size_t)k);
	}
	return true;
}

/* A name nobody else uses: the time, this host, and the file's own number. */
static bool
drop_create(struct drop *d)
{
	int64_t us = clock_wall().us;
	struct stat st;

	(void)snprintf(d->tmp, sizeof d->tmp, "tmp/%lld.M%lldP%d.%.60s",
	    (long long)(us / 1000000), (long long)(us % 1000000),
	    (int)getpid(), d->m->hostname);
	d->fd = openat(d->dir, d->tmp, O_WRONLY | O_CREAT | O_EXCL |
	    O_NOFOLLOW | O_CLOEXEC, 0600);
	if (d->fd < 0 || fstat(d->fd, &st) != 0)
		return false;
	(void)snprintf(d->name, sizeof d->name,
	    "new/%lld.V%llxI%llxM%lld.%.60s", (long long)(us / 1000000),
	    (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
	    (long long)(us % 1000000), d->m->hostname);
	return true;
}

static bool
drop_sync_dir(const struct drop *d, const char *name)
{
	int fd = openat(d->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok = fd >= 0 && fsync(fd) == 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* Never over another one; NFS knows only links. */
static bool
drop_name(const struct drop *d)
{
	if (renameat2(d->dir, d->tmp, d->dir, d->name,
	    RENAME_NOREPLACE) == 0)
		return true;
	if ((errno != EINVAL && errno != ENOSYS) ||
	    linkat(d->dir, d->tmp, d->dir, d->name, 0) != 0)
		return false;
	(void)unlinkat(d->dir, d->tmp, 0);
	return true;
}

/* From its first byte to its name. */
static enum text_end
drop_fill(struct drop *d, const struct local_text *t)
{
	enum text_end end;

	if (!drop_write(d->m->header, d))
		return TEXT_REFUSED;
	end = local_text_send(t, 0, NULL, drop_write, d);
	if (end != TEXT_DONE)
		return end;
	if (fsync(d->fd) != 0 || !drop_name(d))
		return TEXT_REFUSED;
	/* From here it is the reader's: a failure to sync is told, and may
	 * mean a second copy, but not that this one is taken away. */
	d->tmp[0] = '\0';
	return drop_sync_dir(d, "new") ? TEXT_DONE : TEXT_REFUSED;
}

void
maildir_deliver(const struct maildir *m, const struct local_text *t,
    struct fate *ret)
{
	struct drop d = { .m = m, .dir = -1, .fd = -1 };
	enum text_end end = TEXT_REFUSED;
	int error;

	if (drop_open(&d) && drop_create(&d))
		end = drop_fill(&d, t);
	error = errno;
	if (end == TEXT_DONE)
		fate_set(ret, RCPT_DELIVERED, "2.0.0",
		    "delivered to maildir");
	else if (end == TEXT_UNREADABLE)
		fate_errno(ret, "4.3.0", error, "queue file read error");
	else if (error == EFBIG && m->limit > 0)
		fate_set(ret, RCPT_BOUNCED, "5.2.2", "message is larger than "
		    "the limit of %lld bytes", (long long)m->limit);
	else
		fate_errno(ret, error == EDQUOT ? "4.2.2" : "4.2.0", error,
		    "cannot deliver to maildir %s", m->path);
	if (d.fd >= 0) {
		if (end != TEXT_DONE && d.tmp[0] != '\0')
			(void)unlinkat(d.dir, d.tmp, 0);
		close(d.fd);
	}
	if (d.dir >= 0)
		close(d.dir);
}
