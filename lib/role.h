/*
 * The skeleton of every role: a program is a table of hooks.
 *
 * master starts it (fork and exec) with its control channel on descriptor 3
 * and sends INIT.  role_main() then reads the configuration it was given,
 * calls load() (open tables, compile patterns, read keys: still with the
 * rights to do so), then jail() in lib/jail.h - chroot, user, no_new_privs,
 * limits, seccomp - then start(), reports READY and runs the loop.  Channels
 * to other roles arrive through peer() before and after READY.
 *
 * An instance never changes its configuration.  When a new generation takes
 * over, retire() is called: take no new work, and call role_exit() when
 * nothing is left.  A closed control channel means that master is gone: the
 * role retires by itself.
 */
#ifndef LIB_ROLE_H
#define LIB_ROLE_H

#include "lib/chan.h"
#include "lib/conf.h"
#include "lib/jail.h"

struct role_peer {
	enum role_kind kind;
	pid_t pid;
	uint32_t generation;
	uint32_t service;	/* which master.cf service it serves */
	struct view settings;	/* of that, see MSG_PEER; void after the hook */
};

struct role_def {
	enum role_kind kind;
	struct jail_spec jail;
	void (*load)(void);		/* may be NULL, as all hooks */
	void (*start)(void);
	/* A channel to another role; fd is the hook's. */
	void (*peer)(const struct role_peer *peer, int fd);
	void (*retire)(void);
	/* RETIRE came again, or master is gone: all of Postern stops.  End
	 * what only waits for somebody outside, such as idle sessions. */
	void (*hurry)(void);
	/* LISTEN, FLUSH, HANDOVER: what the skeleton does not know. */
	void (*control)(struct chan_in *m);
	/* Add lines "key value\n" for `postern status`. */
	void (*status)(struct buf *b);
};

int role_main(const struct role_def *def, int argc, char **argv);

const struct conf *role_conf(void);
/* The channel to master. */
struct chan *role_control(void);
/* Answer its ORDER: with lines, or, unless refused is NULL, with why not. */
void role_answer(uint32_t tag, const char *refused, struct view lines);
uint32_t role_index(void);
uint32_t role_service(void);
/* As in the first column of master.cf. */
const char *role_service_name(void);
uint32_t role_generation(void);
bool role_jailed(void);
/* The service is "lmtp". */
bool role_lmtp(void);
/* The directory it is locked into; "": none. */
const char *role_root(void);
/* For a process that load() forked: the role's own user and root directory,
 * with a list of system calls of its own.  Says whether there is one. */
bool role_jail(const struct jail_spec *spec);
enum role_phase role_phase(void);
/* Flush the log and end with status 0. */
void role_exit(void) __attribute__((noreturn));

#endif
