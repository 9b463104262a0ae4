/*
 * The keeper of processes that scan, and these processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "filters/scanner_wire.h"
#include "lib/log.h"
#include "lib/mem.h"

#define KEEPER_FD	3	/* in the keeper */
#define LOG_FD		4

struct keeper {
	int fd;
	struct scan *scan;
	const struct scan_limits *limits;
	const struct wire_room *room;
	const struct jail_list *list;
	uint64_t memory;	/* address space in use; 0: not known */
	pid_t newest;		/* of them; 0: ended */
};

/* -- scanning -------------------------------------------------------------- */

struct work {
	int fd;
	const struct wire_room *room;
};

/* The filter is gone, or wants no more. */
__attribute__((noreturn))
static void
work_end(void)
{
	_exit(0);
}

__attribute__((noreturn))
static void
work_no_memory(void)
{
	_exit(WORK_NO_MEMORY);
}

static uint32_t
put_text(struct wire_item *w, size_t *n, struct view v, size_t max)
{
	v = view_head(v, max);
	if (v.n > 0)
		memcpy(w->text + *n, v.p, v.n);
	*n += v.n;
	return (uint32_t)v.n;
}

static void
work_say(const struct work *k, enum wire_word word, const struct scan_item *i)
{
	static struct wire_item w;
	size_t n = 0;

	w.word = word;
	w.groups = i->kind.groups;
	w.flags = i->flags;
	w.size = i->size;
	w.kind_n = put_text(&w, &n, view_of(i->kind.name), WIRE_KIND_MAX);
	w.inside_n = put_text(&w, &n, i->inside, WIRE_INSIDE_MAX);
	w.name_n = put_text(&w, &n, i->name, WIRE_NAME_MAX);
	if (send(k->fd, &w, WIRE_ITEM_HEAD + n, MSG_NOSIGNAL) < 0)
		work_end();
}

static bool
work_tell(void *arg, const struct scan_item *i)
{
	const struct work *k = arg;

	work_say(k, WIRE_MEMBER, i);
	return *k->room->stop == 0;
}

/* SIGPROF ends this process when that much time is used. */
static void
work_timer(uint64_t us)
{
	struct itimerval t = { .it_value = {
		.tv_sec = (time_t)(us / 1000000u),
		.tv_usec = (suseconds_t)(us % 1000000u) } };
	struct sigaction sa = { .sa_handler = SIG_DFL };

	if (sigaction(SIGPROF, &sa, NULL) != 0 ||
	    setitimer(ITIMER_PROF, &t, NULL) != 0)
		_exit(1);
}

__attribute__((noreturn))
static void
work_run(const struct keeper *keeper, int fd, uint64_t size)
{
	struct work k = { .fd = fd, .room = keeper->room };
	const struct scan_limits *l = keeper->limits;
	static struct wire_file f;
	struct scan_item i;
	uint64_t cpu_ms = scan_cpu_ms(l, size);
	struct sigaction sa = { .sa_handler = SIG_DFL };
	ssize_t n;

	/* A line in the log may need a lock that a library holds. */
	(void)sigaction(SIGSYS, &sa, NULL);
	mem_on_failure(work_no_memory);
	work_timer(cpu_ms * 1000);
	/* By the second, for one that took its timer away. */
	jail_narrow(keeper->list, keeper->memory > 0 ? keeper->memory +
	    scan_memory(l, size) : 0, 2 + (uint32_t)(cpu_ms / 1000));
	scan_begin(keeper->scan, size);
	while ((n = recv(fd, &f, sizeof f, 0)) > 0) {
		if ((size_t)n < offsetof(struct wire_file, name) ||
		    f.slot >= SCANNER_SLOTS || f.size > k.room->size ||
		    f.name_n > (size_t)n - offsetof(struct wire_file, name))
			_exit(1);
		i = (struct scan_item){ .name = view_make(f.name, f.name_n) };
		scan_file(keeper->scan, view_make(k.room->files +
		    f.slot * k.room->size, (size_t)f.size), &i, work_tell, &k);
		i.inside = view_make("", 0);
		work_say(&k, WIRE_FILE, &i);
	}
	work_end();
}

/* -- keeping --------------------------------------------------------------- */

static void
keeper_say(const struct keeper *k, const struct wire_keeper *w, int fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} c = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)),
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec v = { (void *)(uintptr_t)w, sizeof *w };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&c.head), &fd, sizeof fd);
		m.msg_control = &c;
		m.msg_controllen = sizeof c.room;
	}
	if (sendmsg(k->fd, &m, MSG_NOSIGNAL) < 0)
		_exit(0);
}

static void
keeper_start(struct keeper *k, uint64_t size)
{
	struct wire_keeper w = { .word = KEEPER_FAILED };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
		w.status = errno;
		keeper_say(k, &w, -1);
		return;
	}
	k->newest = fork();
	if (k->newest == 0) {
		(void)close(k->fd);
		(void)close(pair[0]);
		work_run(k, pair[1], size);
	}
	w.status = errno;
	if (k->newest > 0) {
		w.word = KEEPER_STARTED;
		w.pid = k->newest;
		keeper_say(k, &w, pair[0]);
	} else {
		k->newest = 0;
		keeper_say(k, &w, -1);
	}
	(void)close(pair[0]);
	(void)close(pair[1]);
}

static void
keeper_reap(struct keeper *k)
{
	struct wire_keeper w = { .word = KEEPER_ENDED };
	struct rusage u;
	pid_t pid;
	int status;

	while ((pid = wait4(-1, &status, WNOHANG, &u)) > 0) {
		w.pid = pid;
		w.status = status;
		w.cpu_us = (uint64_t)(u.ru_utime.tv_sec +
		    u.ru_stime.tv_sec) * 1000000u +
		    (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
		w.rss_kb = (uint64_t)u.ru_maxrss;
		if (pid == k->newest)
			k->newest = 0;
		keeper_say(k, &w, -1);
	}
}

static void
keeper_on_child(int sig)
{
	(void)sig;	/* it ends ppoll() */
}

__attribute__((noreturn))
static void
keeper_run(struct keeper *k)
{
	struct sigaction sa = { .sa_handler = keeper_on_child };
	struct pollfd p = { .fd = k->fd, .events = POLLIN };
	sigset_t child, none;
	struct wire_order order;
	ssize_t n;

	sigemptyset(&none);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	(void)sigprocmask(SIG_SETMASK, &child, NULL);
	(void)sigaction(SIGCHLD, &sa, NULL);
	for (;;) {
		keeper_reap(k);
		if (ppoll(&p, 1, NULL, &none) <= 0)
			continue;
		n = recv(k->fd, &order, sizeof order, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n != (ssize_t)sizeof order ||
		    order.size > WIRE_MESSAGE_MAX)
			break;		/* the filter is gone */
		if (order.order == KEEPER_START)
			keeper_start(k, order.size);
		else if (order.order == KEEPER_KILL && k->newest > 0)
			(void)kill(k->newest, SIGKILL);
	}
	if (k->newest > 0)
		(void)kill(k->newest, SIGKILL);
	_exit(0);
}

void
scanner_keep(int fd, struct scan *scan, const struct scan_limits *l,
    const struct wire_room *room, scanner_jail *jail)
{
	static const struct jail_spec own = { .allow = JAIL_FORK },
	    narrow = { .allow = JAIL_WORK };
	struct keeper k = { .fd = KEEPER_FD, .scan = scan, .limits = l,
		.room = room };
	struct jail_list *list;

	/* What belongs to the filter stays with it alone. */
	log_context(NULL, NULL);
	log_on_lost(NULL);
	fd = fcntl(fd, F_DUPFD, 16);
	if (fd < 0)
		_exit(1);
	log_child(LOG_FD);
	if (dup2(fd, KEEPER_FD) < 0 || close_range(LOG_FD + 1, ~0u, 0) != 0)
		_exit(1);
	(void)prctl(PR_SET_NAME, "scan-keeper", 0, 0, 0);
	/* Or mktime() looks at /etc/localtime, each time. */
	if (setenv("TZ", "UTC0", 1) != 0)
		_exit(1);
	tzset();
	k.memory = jail_memory();
	list = jail_compile(&narrow);
	if (jail(&own))
		k.list = list;
	keeper_run(&k);
}
