/*
 * Locking a role in: chroot, user and group, no_new_privs, resource limits,
 * and a seccomp allow-list, in one call after everything is loaded.  A call
 * that is not on the list ends the process and is named in the log
 * ("panic: forbidden system call openat").
 *
 * What every role may do: read, write and close what it holds (the log may be
 * a file, so writing is not limited to sockets), memory without execution,
 * poll, time, signals to itself, exit.  The sets below add to it.
 */
#ifndef LIB_JAIL_H
#define LIB_JAIL_H

#include <stdbool.h>
#include <stdint.h>

enum jail_set {
	JAIL_FILES = 1 << 0,	/* open, rename, unlink, stat, fsync: qmgr */
	JAIL_ACCEPT = 1 << 1,	/* accept connections: gate */
	JAIL_CONNECT = 1 << 2,	/* socket and connect: relay, lookup */
	JAIL_THREADS = 1 << 3,	/* start threads: qmgr's sync pool, lookup */
	JAIL_MEMFD = 1 << 4,	/* make memfds: qmgr */
	JAIL_READ_FILES = 1 << 5,	/* open read-only: lookup (/etc/hosts) */
	JAIL_MAILDROP = 1 << 6,	/* list, open read-only, unlink: pickup */
	JAIL_READ_DIRS = 1 << 7,	/* list directories: showq */
	JAIL_RESOLVE = 1 << 8,	/* the C library's resolver: lookup-TYPE */
	JAIL_FORK = 1 << 9,	/* start and end processes, narrow: a keeper */
	JAIL_WORK = 1 << 10,	/* no signals: what a keeper starts */
	JAIL_LIBMILTER = 1 << 11,	/* accept; a thread waits for signals */
	JAIL_SYNC = 1 << 12,	/* sync a file that is open: sts */
};

struct jail_spec {
	uint32_t allow;		/* enum jail_set */
	uint64_t max_files;	/* RLIMIT_NOFILE; 0: as inherited */
	bool groups;		/* the account's other groups too: for sockets
				 * of others */
};

/*
 * user: the account to become (its primary group too, no others but if asked
 * for, and root's never).  root: the
 * directory to chroot to.  Either NULL: skipped (an ordinary user started
 * us).  Failure is fatal: a role never runs half locked.  Under ASan the
 * seccomp list is widened by what the sanitizer needs to report.
 */
void jail_enter(const struct jail_spec *spec, const char *user,
    const char *root);
/* The same without the system call filter (parameter sandbox = no). */
void jail_enter_unfiltered(const struct jail_spec *spec, const char *user,
    const char *root);

/*
 * For root who starts roles: start them as others, bind ports, kill, and care
 * for the directories.  The rest goes, and from the bounding set too, so that
 * a role between exec and its jail has no more than we have.  namespaces: one of
 * them makes a user namespace that root is in.
 */
void jail_drop_capabilities(bool namespaces);

/*
 * A second, narrower list, for a process that one in a jail with JAIL_FORK
 * starts; in both, a file that is looked for is not there.  It is made before
 * the jail is entered, since that costs more than the process may: one per
 * program, for good.
 */
struct jail_list;
struct jail_list *jail_compile(const struct jail_spec *spec);
/*
 * Both lists hold from here on, and no process can be started.  l NULL: limits
 * only.  memory: the most bytes of address space (0, and under ASan: any);
 * seconds: of CPU time.  Failure is fatal.
 */
void jail_narrow(const struct jail_list *l, uint64_t memory,
    uint32_t seconds);
/* Bytes of address space in use: before the jail.  0: not known. */
uint64_t jail_memory(void);

#endif
