/*
 * The keeper: the only process of local that stays root.  It reads no mail,
 * no configuration and nothing else that comes from outside: a number and two
 * descriptors for each delivery, which it hands to a process of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/local.h"

#define KEEPER_FD	3
#define LOG_FD		4

static void
keeper_say(int fd, uint64_t delivery, int error, int report)
{
	struct keeper_answer w = { .delivery = delivery, .error = error };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} c = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)),
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec v = { &w, sizeof w };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	if (report >= 0) {
		memcpy(CMSG_DATA(&c.head), &report, sizeof report);
		m.msg_control = &c;
		m.msg_controllen = sizeof c.room;
	}
	while (sendmsg(fd, &m, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			_exit(0);	/* the role is gone */
}

/* What the agent has of the keeper: its rights, and nothing else. */
__attribute__((noreturn))
static void
keeper_child(int fd, int text, int fields, int report)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };
	sigset_t none;

	(void)close(fd);
	sigemptyset(&none);
	(void)sigaction(SIGCHLD, &sa, NULL);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	/* A mailbox that grows too large is an error, not an end. */
	sa.sa_handler = SIG_IGN;
	(void)sigaction(SIGXFSZ, &sa, NULL);
	(void)prctl(PR_SET_NAME, "local-agent", 0, 0, 0);
	agent_run(text, fields, report);
}

static void
keeper_start(int fd, uint64_t delivery, int text, int fields)
{
	int pair[2], error;
	pid_t pid;

	if (pipe2(pair, O_CLOEXEC) != 0) {
		keeper_say(fd, delivery, errno, -1);
		return;
	}
	pid = fork();
	if (pid == 0) {
		(void)close(pair[0]);
		keeper_child(fd, text, fields, pair[1]);
	}
	error = errno;
	keeper_say(fd, delivery, pid < 0 ? error : 0,
	    pid < 0 ? -1 : pair[0]);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

/* False: the role is gone. */
static bool
keeper_order(int fd)
{
	struct keeper_order o;
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} c;
	struct iovec v = { &o, sizeof o };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1,
		.msg_control = &c, .msg_controllen = sizeof c.room };
	ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *h = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	int got[2];

	if (n < 0 && errno == EINTR)
		return true;
	if (n != (ssize_t)sizeof o || h == NULL ||
	    h->cmsg_len != CMSG_LEN(sizeof got) ||
	    (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
		return false;
	memcpy(got, CMSG_DATA(h), sizeof got);
	keeper_start(fd, o.delivery, got[0], got[1]);
	(void)close(got[0]);
	(void)close(got[1]);
	return true;
}

static void
keeper_on_child(int sig)
{
	(void)sig;	/* it ends ppoll() */
}

static void
keeper_reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (WIFSIGNALED(status))
			log_warn("delivery process %d killed by signal %d",
			    (int)pid, WTERMSIG(status));
}

/* All ids mean what they mean outside. */
static bool
keeper_map(pid_t pid, const char *file)
{
	static const char all[] = "0 0 4294967295\n";
	char path[64];
	bool ok;
	int fd;

	(void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ok = fd >= 0 && write(fd, all, sizeof all - 1) ==
	    (ssize_t)sizeof all - 1;
	if (fd >= 0)
		(void)close(fd);
	return ok;
}

/* From outside: when told that it is there, say which ids it has. */
__attribute__((noreturn))
static void
keeper_mapper(pid_t pid, int told)
{
	char c;

	_exit(read(told, &c, 1) == 1 && keeper_map(pid, "uid_map") &&
	    keeper_map(pid, "gid_map") ? 0 : 1);
}

/*
 * A network of its own is in the gift of who administers the system, which
 * master does not; but also of who administers a user namespace.  In this one
 * users are themselves, and what root's rights there are reach no further
 * than it does.
 */
static bool
keeper_own_network(void)
{
	pid_t self = getpid(), pid;
	int tell[2], status = 1;
	bool ok;

	if (pipe2(tell, O_CLOEXEC) != 0)
		return false;
	pid = fork();
	if (pid == 0) {
		(void)close(tell[1]);
		keeper_mapper(self, tell[0]);
	}
	ok = pid > 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 &&
	    write(tell[1], "", 1) == 1;
	(void)close(tell[0]);
	(void)close(tell[1]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (ok && status != 0)
		fatal("cannot name the users of a user namespace");
	return ok;
}

/* Nobody reaches the network from here on, whoever it becomes. */
static void
keeper_no_network(void)
{
	if (local.cf->delivery_network || !local.root)
		return;
	if (!keeper_own_network())
		log_warn("commands can reach the network: cannot make a "
		    "network namespace: %s", strerror(errno));
}

/* Of root's rights those are left that becoming another takes. */
static void
keeper_drop(void)
{
	static const cap_value_t kept[] = { CAP_SETUID, CAP_SETGID };
	cap_t caps = cap_init();
	cap_value_t v;

	/* Nobody gets others here, by whatever program. */
	for (v = 0; local.root && v <= CAP_LAST_CAP; v++)
		if (v != CAP_SETUID && v != CAP_SETGID)
			(void)cap_drop_bound(v);
	if (local.root && (caps == NULL ||
	    cap_set_flag(caps, CAP_PERMITTED, 2, kept, CAP_SET) != 0 ||
	    cap_set_flag(caps, CAP_EFFECTIVE, 2, kept, CAP_SET) != 0 ||
	    cap_set_proc(caps) != 0))
		fatal("cannot drop capabilities: %s", strerror(errno));
	if (caps != NULL)
		(void)cap_free(caps);
}

void
keeper_run(int fd)
{
	struct sigaction sa = { .sa_handler = keeper_on_child };
	struct pollfd p = { .fd = KEEPER_FD, .events = POLLIN };
	sigset_t child, none;
	int role = fd;

	/* What belongs to the role stays with it alone. */
	log_context(NULL, NULL);
	log_on_lost(NULL);
	fd = fcntl(role, F_DUPFD_CLOEXEC, 16);
	if (fd < 0)
		_exit(1);
	(void)close(role);
	log_child(LOG_FD);
	if (dup3(fd, KEEPER_FD, O_CLOEXEC) < 0)
		_exit(1);
	(void)close(fd);
	(void)prctl(PR_SET_NAME, "local-keeper", 0, 0, 0);
	keeper_no_network();
	keeper_drop();
	/* A user who becomes an agent must not look into it. */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	sigemptyset(&none);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	(void)sigprocmask(SIG_SETMASK, &child, NULL);
	(void)sigaction(SIGCHLD, &sa, NULL);
	for (;;) {
		keeper_reap();
		log_flush();
		if (ppoll(&p, 1, NULL, &none) <= 0)
			continue;
		if (!keeper_order(KEEPER_FD))
			break;
	}
	/* Agents go on: half a delivery helps nobody. */
	_exit(0);
}
