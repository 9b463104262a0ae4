/*
 * Fill a spool with complete queue files, quickly: nothing is synced.
 *
 *     spoolgen SPOOL PLACE COUNT [option=value ...]
 *
 * SPOOL is a queue_directory, PLACE one of incoming, active, deferred, hold;
 * the gateway should not be running.  Options and what they are if not given:
 *
 *     due=86400          seconds from now to the next attempt (may be < 0)
 *     spread=0           due is spread over so many seconds more
 *     age=60             seconds since the arrival
 *     size=1000          bytes of the body
 *     rcpts=1            recipients of each message
 *     rcpt=user%@example.com    % is the number of the message
 *     sender=sender%@client.example
 *     subject=m%         subject of the message
 *     first=1            the first number
 *     hash="deferred"    hash_queue_names
 *
 * The files belong to the owner of the directory.  Prints the ids of the
 * first and the last file.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "queue/spool_path.h"

struct plan {
	enum spool_place place;
	int64_t count, due, spread, age, size, rcpts, first;
	const char *rcpt, *sender, *subject, *hash;
};

/* In place of queue/spool_sync.c: a test that loses power makes it anew. */
int
spool_sync_fd(int fd)
{
	(void)fd;
	return 0;
}

int
spool_sync_dir(const struct spool *s, struct queue_id id,
    enum spool_place place)
{
	(void)s;
	(void)id;
	(void)place;
	return 0;
}

__attribute__((noreturn))
static void
usage(const char *what)
{
	fprintf(stderr, "spoolgen: %s\n"
	    "usage: spoolgen SPOOL PLACE COUNT [option=value ...]\n", what);
	exit(2);
}

static int64_t
number(const char *text, int64_t min, int64_t max)
{
	char *end;
	int64_t n;

	errno = 0;
	n = strtoimax(text, &end, 10);
	if (errno != 0 || *text == '\0' || *end != '\0' || n < min || n > max)
		usage(text);
	return n;
}

static void
option(struct plan *p, const char *text)
{
	const struct {
		const char *name;
		int64_t *n;
		int64_t min, max;
		const char **s;
	} known[] = {
		{ "due", &p->due, -1000000000, 1000000000, NULL },
		{ "spread", &p->spread, 0, 1000000000, NULL },
		{ "age", &p->age, 0, 1000000000, NULL },
		{ "size", &p->size, 0, 1 << 30, NULL },
		{ "rcpts", &p->rcpts, 1, ENVELOPE_RCPTS_MAX, NULL },
		{ "first", &p->first, 0, 1000000000, NULL },
		{ "rcpt", NULL, 0, 0, &p->rcpt },
		{ "sender", NULL, 0, 0, &p->sender },
		{ "subject", NULL, 0, 0, &p->subject },
		{ "hash", NULL, 0, 0, &p->hash },
	};
	size_t i, n;

	for (i = 0; i < sizeof known / sizeof known[0]; i++) {
		n = strlen(known[i].name);
		if (strncmp(text, known[i].name, n) != 0 || text[n] != '=')
			continue;
		if (known[i].s != NULL)
			*known[i].s = text + n + 1;
		else
			*known[i].n = number(text + n + 1, known[i].min,
			    known[i].max);
		return;
	}
	usage(text);
}

/* pattern with the number of the message for its first % */
static char *
fill_in(const char *pattern, int64_t n, int64_t rcpt)
{
	const char *at = strchr(pattern, '%');

	if (at == NULL)
		return mem_strdup(pattern);
	if (rcpt > 0)
		return mem_printf("%.*s%" PRId64 ".%" PRId64 "%s",
		    (int)(at - pattern), pattern, n, rcpt, at + 1);
	return mem_printf("%.*s%" PRId64 "%s", (int)(at - pattern), pattern,
	    n, at + 1);
}

static uint64_t
write_text(const struct plan *p, int64_t n, int fd)
{
	static const char row[] = "0123456789012345678901234567890123456789"
	    "01234567890123456789012345678901234567\r\n";
	char *subject = fill_in(p->subject, n, 0);
	struct buf b;
	int64_t left;
	size_t k;

	buf_init(&b, (size_t)p->size + 4096);
	(void)buf_printf(&b, "Subject: %s\r\nFrom: sender@client.example\r\n"
	    "\r\n", subject);
	for (left = p->size; left > 0; left -= (int64_t)k) {
		/* A whole row, or as much from the row's end. */
		k = sizeof row - 1;
		if ((int64_t)k > left)
			k = (size_t)left;
		(void)buf_put(&b, row + sizeof row - 1 - k, k);
	}
	if (ftruncate(fd, 0) != 0 || spool_write(fd, b.p, b.n, 0) != 0)
		fatal("cannot write a text");
	left = (int64_t)b.n;
	buf_free(&b);
	free(subject);
	return (uint64_t)left;
}

static void
set_owner_and_time(const struct spool *s, struct queue_id id,
    enum spool_place place, const struct stat *owner, int64_t next)
{
	char path[SPOOL_PATH];
	struct timespec t[2] = { { .tv_sec = next }, { .tv_sec = next } };

	spool_path(s, id, place, path);
	if (utimensat(s->dir[place], path, t, AT_SYMLINK_NOFOLLOW) != 0 ||
	    (geteuid() == 0 && fchownat(s->dir[place], path, owner->st_uid,
	    owner->st_gid, AT_SYMLINK_NOFOLLOW) != 0))
		fatal("%s: %s", path, strerror(errno));
}

static void
make_one(const struct spool *s, const struct plan *p, int64_t i,
    struct queue_id id, int text, const struct stat *owner)
{
	int64_t n = p->first + i, now = clock_wall().us, due = p->due;
	struct recipient *r = mem_array((size_t)p->rcpts, sizeof *r);
	char *sender = fill_in(p->sender, n, 0);
	struct envelope e = { .sender = view_of(sender),
		.client_name = view_of("unknown"),
		.client_addr = view_of("127.0.0.1"),
		.helo = view_of("spoolgen"), .proto = view_of("ESMTP"),
		.rcpts = r, .nrcpts = (uint32_t)p->rcpts };
	struct spool_tail t = { .nrcpts = e.nrcpts };
	char **names = mem_array((size_t)p->rcpts, sizeof *names);
	struct buf b;
	uint64_t size = write_text(p, n, text);
	int64_t k;
	int rc;

	for (k = 0; k < p->rcpts; k++) {
		names[k] = fill_in(p->rcpt, n, p->rcpts > 1 ? k + 1 : 0);
		r[k].addr = view_of(names[k]);
	}
	buf_init(&b, SPOOL_TAIL_MAX);
	if (!envelope_put(&b, &e))
		fatal("the envelope is too large");
	t.envelope = buf_view(&b);
	rc = spool_seal(s, id, p->place, -1, text, 0, size,
	    (struct wall){ now - p->age * 1000000 }, &t, NULL);
	if (rc != 0)
		fatal("cannot make a queue file: %s", strerror(rc));
	if (p->spread > 0)
		due += i * p->spread / p->count;
	set_owner_and_time(s, id, p->place, owner, now / 1000000 + due);
	buf_free(&b);
	for (k = 0; k < p->rcpts; k++)
		free(names[k]);
	free(names);
	free(sender);
	free(r);
}

static void
own_subdirectories(const struct spool *s, enum spool_place place,
    const struct stat *owner)
{
	char name[2] = "?";
	const char *c;

	if (geteuid() != 0 || (s->hashed & 1u << place) == 0)
		return;
	for (c = "0123456789ABCDEF"; *c != '\0'; c++) {
		name[0] = *c;
		if (fchownat(s->dir[place], name, owner->st_uid,
		    owner->st_gid, AT_SYMLINK_NOFOLLOW) != 0)
			fatal("%s: %s", name, strerror(errno));
	}
}

int
main(int argc, char **argv)
{
	struct plan p = { .due = 86400, .age = 60, .size = 1000, .rcpts = 1,
		.first = 1, .rcpt = "user%@example.com",
		.sender = "sender%@client.example", .subject = "m%",
		.hash = "deferred" };
	char first[QUEUE_ID_TEXT], last[QUEUE_ID_TEXT];
	struct queue_id id = { 0 };
	struct spool s;
	struct stat owner;
	uint64_t base;
	int64_t i;
	int rc, text;

	if (argc < 4)
		usage("too few words");
	for (p.place = PLACE_INCOMING; p.place <= PLACE_HOLD; p.place++)
		if (strcmp(argv[2], spool_place_names[p.place]) == 0)
			break;
	if (p.place > PLACE_HOLD)
		usage(argv[2]);
	p.count = number(argv[3], 1, 100000000);
	for (i = 4; i < argc; i++)
		option(&p, argv[i]);
	rc = spool_open(&s, argv[1], p.hash);
	if (rc == 0)
		rc = spool_prepare(&s);
	text = memfd_create("text", MFD_CLOEXEC);
	if (rc != 0 || text < 0 || fstat(s.dir[p.place], &owner) != 0)
		fatal("%s: %s", argv[1], strerror(rc != 0 ? rc : errno));
	own_subdirectories(&s, p.place, &owner);
	/* As old as their arrival, and so not those of a later call. */
	base = (uint64_t)(clock_wall().us - p.age * 1000000 - p.count) &
	    ((UINT64_C(1) << 44) - 1);
	for (i = 0; i < p.count; i++) {
		id.n = base + (uint64_t)i;
		make_one(&s, &p, i, id, text, &owner);
	}
	printf("%s %s\n", queue_id_text((struct queue_id){ base }, first),
	    queue_id_text(id, last));
	return 0;
}
