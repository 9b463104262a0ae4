/*
 * Preloaded into a role: system calls that fail as a test wants it.
 *
 * FAULT names a file that is mapped and shared with the test, which may change
 * it at any time; t/system/fault.py is the other side and knows the layout.
 * After it has been mapped nothing is opened, so it works in the jail.
 *
 * A rule names a call, a part of the path ("journal/", "incoming/"; empty: any)
 * and what shall happen from its skip'th call on, times times (0: always).
 * Paths are known from how a descriptor was opened.  The action is an errno
 * value, or
 *   SHORT  write half of it
 *   DROP   for fsync and fdatasync: EIO, once, and what was written since the
 *	    last sync is gone, as when the kernel gave up on those pages
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define RULES	8
#define FDS	16384
#define NAME	64
#define SHORT	1001
#define DROP	1002

enum call {
	CALL_NONE, CALL_WRITE, CALL_SYNC, CALL_RENAME, CALL_UNLINK, CALL_OPEN,
	CALL_CREATE, CALL_TRUNCATE, CALL_MEMFD, CALL_TIMES, CALL_CHMOD,
	CALL_READ
};

struct rule {
	uint32_t call, action, skip, times;
	char match[NAME];
	uint32_t seen, done;		/* counted here */
};

static struct control {
	int64_t clock_us;		/* added to the time of day */
	struct rule rule[RULES];
} *control;

/* What a write replaced, until the next sync. */
struct undo {
	struct undo *next;
	ino_t ino;
	off_t at;
	size_t n;
	char old[];
};

static char names[FDS][NAME];
static struct undo *undos;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
	int (*openat)(int, const char *, int, ...);
	int (*open)(const char *, int, ...);
	int (*close)(int);
	ssize_t (*pwrite)(int, const void *, size_t, off_t);
	ssize_t (*pwritev)(int, const struct iovec *, int, off_t);
	ssize_t (*pread)(int, void *, size_t, off_t);
	int (*fsync)(int), (*fdatasync)(int);
	int (*renameat)(int, const char *, int, const char *);
	int (*unlinkat)(int, const char *, int);
	int (*ftruncate)(int, off_t);
	int (*memfd_create)(const char *, unsigned);
	int (*futimens)(int, const struct timespec *);
	int (*fchmod)(int, mode_t);
	int (*clock_gettime)(clockid_t, struct timespec *);
} real;

#define FIND(name)	(*(void **)&real.name = dlsym(RTLD_NEXT, #name))

__attribute__((constructor))
static void
start(void)
{
	const char *path = getenv("FAULT");
	int fd;

	FIND(openat), FIND(open), FIND(close), FIND(pwrite), FIND(pwritev);
	FIND(pread), FIND(fsync), FIND(fdatasync), FIND(renameat);
	FIND(unlinkat), FIND(ftruncate), FIND(memfd_create), FIND(futimens);
	FIND(fchmod), FIND(clock_gettime);
	fd = path != NULL ? real.open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd >= 0) {
		control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE,
		    MAP_SHARED, fd, 0);
		if (control == MAP_FAILED)
			control = NULL;
		real.close(fd);
	}
}

static const char *
name_of(int fd)
{
	return fd >= 0 && fd < FDS ? names[fd] : "";
}

/* The action for this call, 0: none. */
static uint32_t
fault(enum call call, const char *dir, const char *name)
{
	char path[2 * NAME];
	uint32_t action = 0, seen;
	struct rule *r;

	if (control == NULL)
		return 0;
	snprintf(path, sizeof path, "%s%s%.60s", dir, *dir ? "/" : "", name);
	for (r = control->rule; r < control->rule + RULES; r++) {
		if (__atomic_load_n(&r->call, __ATOMIC_ACQUIRE) != call ||
		    strstr(path, r->match) == NULL)
			continue;
		seen = __atomic_fetch_add(&r->seen, 1, __ATOMIC_RELAXED);
		if (seen < r->skip || (r->times != 0 &&
		    seen >= r->skip + r->times))
			continue;
		__atomic_fetch_add(&r->done, 1, __ATOMIC_RELAXED);
		action = r->action;
	}
	return action;
}

static bool
dropping(void)
{
	int i;

	for (i = 0; control != NULL && i < RULES; i++)
		if (control->rule[i].call == CALL_SYNC &&
		    control->rule[i].action == DROP)
			return true;
	return false;
}

static ino_t
ino_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

static void
remember(int fd, size_t n, off_t at)
{
	struct undo *u;
	ssize_t k;

	if (!dropping() || n > 64u << 20 || (u = calloc(1, sizeof *u + n)) ==
	    NULL)
		return;
	/* What it did not have reads as zeros. */
	k = real.pread(fd, u->old, n, at);
	(void)k;
	u->ino = ino_of(fd);
	u->at = at;
	u->n = n;
	pthread_mutex_lock(&lock);
	u->next = undos;
	undos = u;
	pthread_mutex_unlock(&lock);
}

/* Newest first: undone, or just forgotten. */
static void
settle(int fd, bool undo)
{
	struct undo **p = &undos, *u;
	ino_t ino = ino_of(fd);

	pthread_mutex_lock(&lock);
	while ((u = *p) != NULL) {
		if (u->ino != ino) {
			p = &u->next;
			continue;
		}
		if (undo && real.pwrite(fd, u->old, u->n, u->at) < 0)
			abort();
		*p = u->next;
		free(u);
	}
	pthread_mutex_unlock(&lock);
}

static void
opened(int fd, const char *dir, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (fd < 0 || fd >= FDS)
		return;
	if (*dir == '\0' && slash != NULL)
		path = slash + 1;
	if (strcmp(path, ".") == 0)
		snprintf(names[fd], NAME, "%.60s", dir);
	else
		snprintf(names[fd], NAME, "%.30s%s%.30s", dir,
		    *dir ? "/" : "", path);
}

static int
answer(uint32_t action)
{
	errno = (int)action;
	return -1;
}

/* -- the calls ----------------------------------------------------------------- */

int
openat(int dir, const char *path, int flags, ...)
{
	const char *top = name_of(dir);
	uint32_t f = fault((flags & O_CREAT) != 0 || (flags & O_TMPFILE) ==
	    O_TMPFILE ? CALL_CREATE : CALL_OPEN, top, path);
	va_list ap;
	mode_t mode;
	int fd;

	va_start(ap, flags);
	mode = (mode_t)va_arg(ap, unsigned);
	va_end(ap);
	if (f != 0)
		return answer(f);
	fd = real.openat(dir, path, flags, mode);
	opened(fd, top, path);
	return fd;
}

int
open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;
	int fd;

	va_start(ap, flags);
	mode = (mode_t)va_arg(ap, unsigned);
	va_end(ap);
	fd = real.open(path, flags, mode);
	opened(fd, "", path);
	return fd;
}

int
close(int fd)
{
	if (fd >= 0 && fd < FDS)
		names[fd][0] = '\0';
	return real.close(fd);
}

ssize_t
pwrite(int fd, const void *p, size_t n, off_t at)
{
	uint32_t f = fault(CALL_WRITE, "", name_of(fd));

	if (f == SHORT)
		n = n > 1 ? n / 2 : n;
	else if (f != 0)
		return answer(f);
	remember(fd, n, at);
	return real.pwrite(fd, p, n, at);
}

ssize_t
pwritev(int fd, const struct iovec *iov, int count, off_t at)
{
	uint32_t f = fault(CALL_WRITE, "", name_of(fd));
	size_t n = 0;
	int i;

	if (f != 0 && f != SHORT)
		return answer(f);
	for (i = 0; i < count; i++)
		n += iov[i].iov_len;
	remember(fd, n, at);
	if (f == SHORT)
		return real.pwrite(fd, iov[0].iov_base, iov[0].iov_len / 2,
		    at);
	return real.pwritev(fd, iov, count, at);
}

ssize_t
pread(int fd, void *p, size_t n, off_t at)
{
	uint32_t f = fault(CALL_READ, "", name_of(fd));

	return f != 0 ? answer(f) : real.pread(fd, p, n, at);
}

static int
synced(int fd, int (*call)(int))
{
	uint32_t f = fault(CALL_SYNC, "", name_of(fd));
	int rc;

	if (f == DROP) {
		settle(fd, true);
		return answer(EIO);
	}
	if (f != 0)
		return answer(f);
	rc = call(fd);
	if (undos != NULL)
		settle(fd, false);
	return rc;
}

int
fsync(int fd)
{
	return synced(fd, real.fsync);
}

int
fdatasync(int fd)
{
	return synced(fd, real.fdatasync);
}

int
renameat(int from, const char *a, int to, const char *b)
{
	uint32_t f = fault(CALL_RENAME, name_of(to), b);

	return f != 0 ? answer(f) : real.renameat(from, a, to, b);
}

int
unlinkat(int dir, const char *path, int flags)
{
	uint32_t f = fault(CALL_UNLINK, name_of(dir), path);

	return f != 0 ? answer(f) : real.unlinkat(dir, path, flags);
}

int
ftruncate(int fd, off_t n)
{
	uint32_t f = fault(CALL_TRUNCATE, "", name_of(fd));

	return f != 0 ? answer(f) : real.ftruncate(fd, n);
}

int
memfd_create(const char *name, unsigned flags)
{
	uint32_t f = fault(CALL_MEMFD, "", name);

	return f != 0 ? answer(f) : real.memfd_create(name, flags);
}

int
futimens(int fd, const struct timespec t[2])
{
	uint32_t f = fault(CALL_TIMES, "", name_of(fd));

	return f != 0 ? answer(f) : real.futimens(fd, t);
}

int
fchmod(int fd, mode_t mode)
{
	uint32_t f = fault(CALL_CHMOD, "", name_of(fd));

	return f != 0 ? answer(f) : real.fchmod(fd, mode);
}

int
clock_gettime(clockid_t id, struct timespec *t)
{
	int rc = real.clock_gettime(id, t);
	int64_t us;

	if (rc == 0 && control != NULL && id == CLOCK_REALTIME &&
	    control->clock_us != 0) {
		us = (int64_t)t->tv_sec * 1000000 + t->tv_nsec / 1000 +
		    control->clock_us;
		t->tv_sec = us / 1000000;
		t->tv_nsec = us % 1000000 * 1000;
	}
	return rc;
}
