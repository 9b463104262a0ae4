#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "lib/mem.h"
#include "rules/pattern_cache.h"

#define MAGIC		"PSTNSET1"
#define SUFFIX		".set"
#define HASH_TEXT	32u	/* 128 bits in hexadecimal */
#define LIST_MAX	4096u

/* As the machine has numbers: no other machine reads it. */
struct header {
	char magic[8];
	uint64_t question_n, answer_n;
	XXH128_hash_t check;	/* of question and answer */
};

/* -- the directory ------------------------------------------------------- */

static bool
only_ours(const struct stat *st)
{
	return st->st_uid == geteuid() &&
	    (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* -1 with errno. */
static int
directory_open(const char *dir, bool make)
{
	struct stat st;
	int fd;

	if (make && mkdir(dir, 0700) != 0 && errno != EEXIST)
		return -1;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && only_ours(&st))
		return fd;
	(void)close(fd);
	errno = EPERM;
	return -1;
}

static void
file_name(struct view question, char ret[HASH_TEXT + sizeof(SUFFIX)])
{
	XXH128_hash_t h = XXH3_128bits(question.p, question.n);
	struct buf b = { .p = ret, .cap = HASH_TEXT + sizeof(SUFFIX),
		.max = HASH_TEXT + sizeof(SUFFIX) };

	(void)buf_printf(&b, "%016llx%016llx" SUFFIX,
	    (unsigned long long)h.high64, (unsigned long long)h.low64);
	(void)buf_cstr(&b);
}

static XXH128_hash_t
check_of(struct view question, struct view answer)
{
	XXH3_state_t *s = XXH3_createState();
	XXH128_hash_t h = { 0, 0 };

	if (s == NULL)
		return h;
	XXH3_128bits_reset(s);
	XXH3_128bits_update(s, question.p, question.n);
	XXH3_128bits_update(s, answer.p, answer.n);
	h = XXH3_128bits_digest(s);
	XXH3_freeState(s);
	return h;
}

/* -- reading ------------------------------------------------------------- */

static bool
read_exactly(int fd, char *to, size_t n)
{
	while (n > 0) {
		ssize_t got = read(fd, to, n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		to += got;
		n -= (size_t)got;
	}
	return true;
}

/* The file as a whole must be what its header says. */
static bool
file_read(int fd, struct view question, struct buf *ret)
{
	struct header h;
	struct stat st;
	struct view answer;
	char *text;
	size_t n;
	bool ok;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || !only_ours(&st) ||
	    !read_exactly(fd, (char *)&h, sizeof(h)) ||
	    memcmp(h.magic, MAGIC, sizeof(h.magic)) != 0 ||
	    h.question_n != question.n || h.answer_n > PATTERN_CACHE_MAX ||
	    (uint64_t)st.st_size != sizeof(h) + h.question_n + h.answer_n)
		return false;
	n = (size_t)(h.question_n + h.answer_n);
	text = mem_alloc(n + 1);
	ok = read_exactly(fd, text, n);
	answer = view_make(text + question.n, (size_t)h.answer_n);
	ok = ok && view_eq(view_make(text, question.n), question) &&
	    XXH128_isEqual(check_of(question, answer), h.check) &&
	    buf_putv(ret, answer);
	free(text);
	return ok;
}

bool
pattern_cache_get(const char *dir, struct view question, struct buf *ret)
{
	char name[HASH_TEXT + sizeof(SUFFIX)];
	int at = directory_open(dir, false), fd;
	bool ok;

	if (at < 0)
		return false;
	file_name(question, name);
	fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ok = fd >= 0 && file_read(fd, question, ret);
	/* It was of use today. */
	if (ok)
		(void)futimens(fd, NULL);
	if (fd >= 0)
		(void)close(fd);
	(void)close(at);
	return ok;
}

/* -- making room --------------------------------------------------------- */

struct entry {
	char name[NAME_MAX + 1];
	struct timespec used;
	uint64_t size;
};

static int
entry_newer(const void *a, const void *b)
{
	const struct timespec *x = &((const struct entry *)a)->used;
	const struct timespec *y = &((const struct entry *)b)->used;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec > y->tv_sec ? -1 : 1;
	return (x->tv_nsec < y->tv_nsec) - (x->tv_nsec > y->tv_nsec);
}

/* A result, or what a role left that was killed while it wrote one. */
static bool
name_is_ours(const char *name)
{
	size_t n = strspn(name, "0123456789abcdef");

	return n == HASH_TEXT && strncmp(name + n, SUFFIX,
	    sizeof(SUFFIX) - 1) == 0;
}

static size_t
directory_list(DIR *d, struct entry *list)
{
	const struct dirent *e;
	struct stat st;
	size_t n = 0;

	while (n < LIST_MAX && (e = readdir(d)) != NULL) {
		if (!name_is_ours(e->d_name) || fstatat(dirfd(d),
		    e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		memcpy(list[n].name, e->d_name, strlen(e->d_name) + 1);
		list[n].used = st.st_mtim;
		list[n].size = (uint64_t)st.st_size;
		n++;
	}
	return n;
}

static void
make_room(int at, uint64_t size)
{
	int fd = dup(at);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct entry *list;
	size_t n;

	if (d == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	rewinddir(d);
	list = mem_array(LIST_MAX, sizeof(*list));
	n = directory_list(d, list);
	qsort(list, n, sizeof(*list), entry_newer);
	for (size_t i = 0; i < n; i++) {
		size += list[i].size;
		if (i + 1 >= PATTERN_CACHE_FILES_MAX ||
		    size > PATTERN_CACHE_MAX)
			(void)unlinkat(at, list[i].name, 0);
	}
	free(list);
	(void)closedir(d);
}

/* -- writing ------------------------------------------------------------- */

static bool
write_all(int fd, const void *from, size_t n)
{
	const char *p = from;

	while (n > 0) {
		ssize_t put = write(fd, p, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return false;
		p += put;
		n -= (size_t)put;
	}
	return true;
}

static bool
file_write(int at, const char *temporary, const char *name,
    struct view question, struct view answer)
{
	struct header h = { .magic = MAGIC, .question_n = question.n,
		.answer_n = answer.n, .check = check_of(question, answer) };
	int fd, why;
	bool ok;

	(void)unlinkat(at, temporary, 0);
	fd = openat(at, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
	    O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	/* Without fsync(): what a crash leaves half is found out. */
	ok = write_all(fd, &h, sizeof(h)) &&
	    write_all(fd, question.p, question.n) &&
	    write_all(fd, answer.p, answer.n);
	why = errno;
	(void)close(fd);
	if (ok && renameat(at, temporary, at, name) == 0)
		return true;
	why = ok ? errno : why;
	(void)unlinkat(at, temporary, 0);
	errno = why;
	return false;
}

bool
pattern_cache_put(const char *dir, struct view question, struct view answer)
{
	char name[HASH_TEXT + sizeof(SUFFIX)], *temporary;
	uint64_t size = sizeof(struct header) + question.n + answer.n;
	int at, why;
	bool ok;

	if (size > PATTERN_CACHE_MAX) {
		errno = EFBIG;
		return false;
	}
	at = directory_open(dir, true);
	if (at < 0)
		return false;
	make_room(at, size);
	file_name(question, name);
	temporary = mem_printf("%s.%d", name, (int)getpid());
	ok = file_write(at, temporary, name, question, answer);
	why = errno;
	free(temporary);
	(void)close(at);
	errno = why;
	return ok;
}
