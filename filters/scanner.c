#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "filters/scanner_wire.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/mem.h"

#define KEEP_MAX	(1u << 20)	/* of a slot's memory, for the next */
#define ON_THE_WAY	2000u	/* members in a socket's buffers */
#define WAIT_MAX_MS	5000		/* for one message, by the clock */

struct scanner {
	struct scan_limits limits;
	struct scan *scan;
	struct wire_room room;
	size_t n[SCANNER_SLOTS];	/* bytes of the file */
	size_t high[SCANNER_SLOTS];	/* of any since it was wiped */
	int keeper;			/* -1: all is done here */
	int work;			/* -1: there is none */
	pid_t pid;			/* of work */
	/* of the message */
	uint64_t size;
	uint64_t failed;		/* flags of files that are not read */
	uint64_t waited_ms;
	uint32_t members;
	struct scanner_cost cost;
};

/* -- the room -------------------------------------------------------------- */

/* A memfd takes no memory before it is written to. */
static bool
room_make(struct wire_room *r, uint64_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), all;
	int fd = memfd_create("attachments", MFD_CLOEXEC);
	char *p = MAP_FAILED;

	r->size = ((size_t)bytes + page) / page * page;
	all = SCANNER_SLOTS * r->size + page;
	if (fd >= 0 && ftruncate(fd, (off_t)all) == 0)
		p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		(void)close(fd);
	if (p == MAP_FAILED)
		return false;
	r->files = p;
	r->stop = (_Atomic uint32_t *)(void *)(p + SCANNER_SLOTS * r->size);
	return true;
}

static void
room_free(struct wire_room *r)
{
	if (r->files != NULL)
		(void)munmap(r->files, SCANNER_SLOTS * r->size +
		    (size_t)sysconf(_SC_PAGESIZE));
	r->files = NULL;
}

static char *
file_of(struct scanner *s, unsigned slot)
{
	ensure(slot < SCANNER_SLOTS);
	return s->room.files + slot * s->room.size;
}

void
scanner_clear(struct scanner *s, unsigned slot)
{
	char *p = file_of(s, slot);

	if (s->high[slot] > KEEP_MAX && madvise(p, s->room.size,
	    MADV_REMOVE) == 0)
		s->high[slot] = 0;
	s->n[slot] = 0;
}

bool
scanner_put(struct scanner *s, unsigned slot, struct view bytes)
{
	char *p = file_of(s, slot);

	if (bytes.n > s->limits.bytes - s->n[slot])
		return false;
	if (bytes.n > 0)
		memcpy(p + s->n[slot], bytes.p, bytes.n);
	s->n[slot] += bytes.n;
	if (s->n[slot] > s->high[slot])
		s->high[slot] = s->n[slot];
	return true;
}

/* A process sees nothing of other messages. */
static void
wipe(struct scanner *s)
{
	unsigned k;

	for (k = 0; k < SCANNER_SLOTS; k++)
		if (s->high[k] > s->n[k]) {
			memset(file_of(s, k) + s->n[k], 0,
			    s->high[k] - s->n[k]);
			s->high[k] = s->n[k];
		}
}

/* -- the keeper ------------------------------------------------------------ */

static bool
keeper_fork(struct scanner *s, scanner_jail *jail)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return false;
	log_flush();
	pid = fork();
	if (pid == 0)
		scanner_keep(pair[1], s->scan, &s->limits, &s->room, jail);
	(void)close(pair[1]);
	if (pid < 0) {
		(void)close(pair[0]);
		return false;
	}
	s->keeper = pair[0];
	return true;
}

/* The next word of the keeper; with a socket, or -1. */
static void
keeper_hear(struct scanner *s, struct wire_keeper *ret, int *ret_fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} c;
	struct iovec v = { ret, sizeof *ret };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1,
		.msg_control = &c, .msg_controllen = sizeof c.room };
	struct cmsghdr *head;
	ssize_t n;

	do
		n = recvmsg(s->keeper, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof *ret)
		fatal("the keeper of scanning processes is gone");
	*ret_fd = -1;
	head = CMSG_FIRSTHDR(&m);
	if (head != NULL && head->cmsg_level == SOL_SOCKET &&
	    head->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(head), sizeof *ret_fd);
	if (ret->word != KEEPER_ENDED)
		return;
	if (ret->pid == s->pid)
		s->pid = 0;
	s->cost.cpu_us += ret->cpu_us;
	if (ret->rss_kb > s->cost.rss_kb)
		s->cost.rss_kb = ret->rss_kb;
}

static void
keeper_tell(struct scanner *s, enum keeper_order order)
{
	struct wire_order o;

	memset(&o, 0, sizeof o);
	o.order = order;
	o.size = s->size;
	if (send(s->keeper, &o, sizeof o, MSG_NOSIGNAL) != sizeof o)
		fatal("the keeper of scanning processes is gone");
}

static void
work_close(struct scanner *s)
{
	if (s->work >= 0)
		(void)close(s->work);
	s->work = -1;
}

static bool
work_start(struct scanner *s)
{
	struct wire_keeper w;
	int fd;

	wipe(s);
	*s->room.stop = 0;
	keeper_tell(s, KEEPER_START);
	do
		keeper_hear(s, &w, &fd);
	while (w.word == KEEPER_ENDED);
	if (w.word != KEEPER_STARTED || fd < 0) {
		log_error("cannot start a process that scans: %s",
		    strerror(w.status));
		return false;
	}
	s->cost.started++;
	s->work = fd;
	s->pid = w.pid;
	return true;
}

static uint64_t
why_ended(int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == WORK_NO_MEMORY)
		return SCAN_LIMIT_MEMORY;
	/* SIGKILL: RLIMIT_CPU, for one that would not hear SIGPROF. */
	if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGPROF ||
	    WTERMSIG(status) == SIGKILL))
		return SCAN_LIMIT_TIME;
	return SCAN_FAILED;
}

enum outcome { ANSWERED = 1, WORK_ENDED, WORK_LATE, WORK_BAD };

/* It ended, or shall: how did it? */
static void
work_failed(struct scanner *s, enum outcome how)
{
	struct wire_keeper w;
	pid_t pid = s->pid;
	int fd;

	work_close(s);
	if (how != WORK_ENDED)
		keeper_tell(s, KEEPER_KILL);
	do {
		keeper_hear(s, &w, &fd);
		if (fd >= 0)
			(void)close(fd);
	} while (w.word != KEEPER_ENDED || w.pid != pid);
	s->cost.failed++;
	s->failed = how == WORK_LATE ? SCAN_LIMIT_TIME :
	    how == WORK_BAD ? SCAN_FAILED : why_ended(w.status);
	if (s->failed != SCAN_FAILED)
		return;
	if (how == WORK_BAD)
		log_error("a process that scans broke the rules");
	else if (WIFSIGNALED(w.status))
		log_error("a process that scans ended with signal %d",
		    WTERMSIG(w.status));
	else
		log_error("a process that scans ended with status %d",
		    WEXITSTATUS(w.status));
}

/* -- asking ---------------------------------------------------------------- */

/* False: it says nothing for too long. */
static bool
wait_for(struct scanner *s)
{
	struct pollfd p = { .fd = s->work, .events = POLLIN };
	struct mono begin = clock_mono();
	int n;

	if (s->waited_ms >= WAIT_MAX_MS)
		return false;
	do
		n = poll(&p, 1, (int)(WAIT_MAX_MS - s->waited_ms));
	while (n < 0 && errno == EINTR);
	s->waited_ms += (uint64_t)mono_since(begin,
	    clock_mono()) / 1000;
	return n > 0;
}

/* Check what came; views into w. */
static bool
item_of(const struct wire_item *w, ssize_t n, struct scan_item *ret)
{
	size_t text, used;

	if (n < (ssize_t)WIRE_ITEM_HEAD)
		return false;
	text = (size_t)n - WIRE_ITEM_HEAD;
	used = (size_t)w->kind_n + w->inside_n + w->name_n;
	if (w->kind_n == 0 || w->kind_n > WIRE_KIND_MAX ||
	    w->inside_n > WIRE_INSIDE_MAX || w->name_n > WIRE_NAME_MAX ||
	    used != text || (w->word != WIRE_MEMBER && w->word != WIRE_FILE))
		return false;
	ret->flags |= w->flags & SCAN_ALL;
	ret->size = w->size;
	ret->kind.groups = w->groups & GROUP_ALL;
	ret->inside = view_make(w->text + w->kind_n, w->inside_n);
	ret->name = view_make(w->text + w->kind_n + w->inside_n, w->name_n);
	return true;
}

static bool
ask(struct scanner *s, unsigned slot, const struct scan_item *i)
{
	static struct wire_file f;
	struct view name = view_head(i->name, sizeof f.name);

	f.slot = slot;
	f.size = s->n[slot];
	f.name_n = (uint32_t)name.n;
	if (name.n > 0)
		memcpy(f.name, name.p, name.n);
	return send(s->work, &f, offsetof(struct wire_file, name) + name.n,
	    MSG_NOSIGNAL) > 0;
}

static enum outcome
answers(struct scanner *s, struct scan_item *ret, scan_tell *tell, void *arg)
{
	static struct wire_item w;
	static char kind[WIRE_KIND_MAX + 1];
	struct scan_item i;
	ssize_t n;

	for (;;) {
		if (!wait_for(s))
			return WORK_LATE;
		n = recv(s->work, &w, sizeof w, 0);
		i = (struct scan_item){ 0 };
		if (n <= 0)
			return WORK_ENDED;
		if (!item_of(&w, n, &i))
			return WORK_BAD;
		memcpy(kind, w.text, w.kind_n);
		kind[w.kind_n] = '\0';
		i.kind.name = kind;
		if (w.word == WIRE_FILE) {
			ret->flags |= i.flags;
			ret->kind = i.kind;
			return ANSWERED;
		}
		/* Its own limit holds, but for what is on its way. */
		if (++s->members > s->limits.members + ON_THE_WAY)
			return WORK_BAD;
		if (*s->room.stop == 0 && !tell(arg, &i))
			*s->room.stop = 1;
	}
}

void
scanner_file(struct scanner *s, unsigned slot, struct scan_item *ret,
    scan_tell *tell, void *arg)
{
	struct view v = view_make(file_of(s, slot), s->n[slot]);
	enum outcome how = WORK_ENDED;

	if (s->keeper < 0) {
		scan_file(s->scan, v, ret, tell, arg);
		return;
	}
	if (scan_shallow(v, ret))
		return;
	if (ret->kind.name == NULL)
		ret->kind.name = "unknown";
	if (s->failed == 0 && s->work < 0 && !work_start(s))
		s->failed = SCAN_FAILED;
	*s->room.stop = 0;
	if (s->failed == 0) {
		if (ask(s, slot, ret))
			how = answers(s, ret, tell, arg);
		if (how != ANSWERED)
			work_failed(s, how);
	}
	ret->flags |= s->failed;
}

/* -- life ------------------------------------------------------------------ */

struct scanner *
scanner_new(const struct scan_limits *l, scanner_jail *jail,
    const char **ret_error)
{
	struct scanner *s = mem_alloc(sizeof *s);

	s->limits = *l;
	s->keeper = s->work = -1;
	s->scan = scan_new(l, ret_error);
	if (s->scan != NULL && !room_make(&s->room, l->bytes))
		*ret_error = "no memory for attachments";
	else if (s->scan != NULL && jail != NULL && !keeper_fork(s, jail))
		*ret_error = "no process to scan attachments";
	else if (s->scan != NULL)
		return s;
	scanner_free(&s);
	return NULL;
}

void
scanner_free(struct scanner **s)
{
	if (*s == NULL)
		return;
	work_close(*s);
	if ((*s)->keeper >= 0)
		(void)close((*s)->keeper);
	scan_free(&(*s)->scan);
	room_free(&(*s)->room);
	free(*s);
	*s = NULL;
}

void
scanner_begin(struct scanner *s, uint64_t size)
{
	s->size = size < WIRE_MESSAGE_MAX ? size : WIRE_MESSAGE_MAX;
	scan_begin(s->scan, s->size);
	scanner_end(s);
	s->failed = 0;
	s->waited_ms = 0;
	s->members = 0;
}

void
scanner_end(struct scanner *s)
{
	work_close(s);
}

struct scanner_cost
scanner_cost(const struct scanner *s)
{
	return s->cost;
}

void
scanner_wait(struct scanner *s)
{
	struct wire_keeper w;
	int fd;

	work_close(s);
	while (s->pid != 0) {
		keeper_hear(s, &w, &fd);
		if (fd >= 0)
			(void)close(fd);
	}
}

int
scanner_fd(const struct scanner *s)
{
	return s->keeper;
}

void
scanner_heard(struct scanner *s)
{
	struct pollfd p = { .fd = s->keeper, .events = POLLIN };
	struct wire_keeper w;
	int fd;

	while (poll(&p, 1, 0) > 0) {
		keeper_hear(s, &w, &fd);
		if (fd >= 0)
			(void)close(fd);
	}
}
