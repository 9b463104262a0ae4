/*
 * A role with another skeleton: it takes the role's own jail_spec, enters the
 * jail, and then tries what the role must not do.  Linked with the objects
 * of each role in place of lib/role.c, so what is tested is the list that is
 * in force.
 *
 *	forbidden-ROLE CALL USER ROOT
 *
 * Prints "survived" and ends with 0 if the call did not end the process.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/role.h"

static int sock = -1;		/* made before the jail */

static void
try_open(void)
{
	(void)!open("/", O_RDONLY | O_CLOEXEC);
}

static void
try_create(void)
{
	(void)!open("/made", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

static void
try_socket(void)
{
	(void)!socket(AF_INET, SOCK_STREAM, 0);
}

static void
try_connect(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = 9 };

	(void)!connect(sock, (struct sockaddr *)&sin, sizeof sin);
}

static void
try_listen(void)
{
	(void)!listen(sock, 1);
}

static void
try_accept(void)
{
	(void)!accept(sock, NULL, NULL);
}

/* Inside the C library, with its lock of the time zone held. */
static void
try_zone(void)
{
	time_t now = time(NULL);
	struct tm tm;

	if (setenv("TZ", "Europe/Berlin", 1) == 0) {
		tzset();
		(void)localtime_r(&now, &tm);
	}
}

static void
try_exec(void)
{
	char name[] = "/bin/true", *argv[] = { name, NULL };

	(void)!execve(name, argv, NULL);
}

static void
try_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
}

static void
try_mmap_exec(void)
{
	(void)!mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void
try_ptrace(void)
{
	(void)!ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}

static void
try_setuid(void)
{
	(void)!setuid(0);
}

static void
try_kill(void)
{
	(void)!kill(getppid(), 0);
}

static void
try_mount(void)
{
	(void)!mount("none", "/", "tmpfs", 0, NULL);
}

static void
try_prctl(void)
{
	(void)!prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static void
try_nothing(void)
{
	char *p = malloc(1u << 20);

	/* What every role does all the time. */
	free(p);
	(void)!write(STDERR_FILENO, "", 0);
}

static const struct {
	const char *name;
	void (*call)(void);
} tries[] = {
	{ "open", try_open }, { "create", try_create },
	{ "socket", try_socket }, { "connect", try_connect },
	{ "listen", try_listen }, { "accept", try_accept },
	{ "exec", try_exec }, { "fork", try_fork }, { "zone", try_zone },
	{ "mmap-exec", try_mmap_exec }, { "ptrace", try_ptrace },
	{ "setuid", try_setuid }, { "kill", try_kill },
	{ "mount", try_mount }, { "prctl", try_prctl },
	{ "nothing", try_nothing },
};

int
role_main(const struct role_def *def, int argc, char **argv)
{
	if (argc != 4) {
		fputs("usage: forbidden-ROLE CALL USER ROOT\n", stderr);
		return 2;
	}
	log_open("postern/forbidden", "localhost");
	sock = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	jail_enter(&def->jail, argv[2], argv[3]);
	for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++)
		if (view_is(view_of(argv[1]), tries[i].name)) {
			tries[i].call();
			puts("survived");
			fflush(stdout);
			return 0;
		}
	fprintf(stderr, "no call named %s\n", argv[1]);
	return 2;
}

/* The rest of lib/role.h: nothing of it runs here. */

const struct conf *
role_conf(void)
{
	return NULL;
}

struct chan *
role_control(void)
{
	return NULL;
}

void
role_answer(uint32_t tag, const char *refused, struct view lines)
{
	(void)tag;
	(void)refused;
	(void)lines;
}

uint32_t
role_index(void)
{
	return 0;
}

uint32_t
role_service(void)
{
	return 0;
}

const char *
role_service_name(void)
{
	return "";
}

uint32_t
role_generation(void)
{
	return 0;
}

bool
role_jailed(void)
{
	return true;
}

bool
role_lmtp(void)
{
	return false;
}

const char *
role_root(void)
{
	return "";
}

bool
role_jail(const struct jail_spec *spec)
{
	(void)spec;
	return true;
}

enum role_phase
role_phase(void)
{
	return PHASE_STARTING;
}

void
role_exit(void)
{
	exit(0);
}
