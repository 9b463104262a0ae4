/*
 * The other side of lib/role.h: what a process that starts a role does.  It
 * makes a socketpair, forks, calls role_child_exec() in the child, and sends
 * INIT.
 */
#ifndef LIB_ROLE_CHILD_H
#define LIB_ROLE_CHILD_H

#include "lib/chan.h"
#include "lib/log.h"

/* All texts may be "", none is NULL; see MSG_INIT in lib/msg.def. */
struct role_init {
	uint32_t generation, index, service;
	bool jailed, lmtp;
	const char *user, *root;
	const char *config_dir;
	const char *service_name, *log_name;
	enum log_sink sink;
	int log_level;
};

/* What a role gets of our environment; before fork().  The caller frees the
 * strings; the array is static. */
char **role_child_environment(void);
/*
 * In the child.  Descriptors: 0 and 1 nothing, 2 where the log goes (what the
 * C library or a sanitizer has to say), 3 the control channel; 4, in a qmgr
 * only, the lock that shows the next master that it still runs (-1: none).
 * Nothing else.
 */
void role_child_exec(const char *path, const char *name, char **env,
    int control, int errors, int lock) __attribute__((noreturn));
/* A sealed memory file with the settings (conf_snapshot()); -1 with errno. */
int role_child_snapshot(struct view text);
/* The first message on the control channel; both descriptors are given away. */
void role_child_init(struct chan *c, const struct role_init *in, int snapshot,
    int log);

#endif
