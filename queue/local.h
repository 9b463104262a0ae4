/*
 * Delivery on this host: the transports local, virtual and pipe.
 *
 *	local		the role: qmgr's deliveries, in a jail like others
 *	local_keeper	its child, root: starts a process for each delivery
 *	local_agent	that process: finds out for itself whose mail it is,
 *			becomes that user, delivers, and says what came of it
 *	local_order	what both read of a delivery
 *	local_seal	the role again: makes messages of what a list names
 *	local_alias	what a name of this host stands for
 *	local_user	mail for a user of this host, .forward files
 *	local_expand	what is done for a list of addresses, files, commands
 *	local_list	such a list
 *	local_command	a program that gets a message
 *	local_virtual	mail for virtual_mailbox_maps
 *	local_pipe	the transport pipe, of local_pipe_service's settings
 *	mbox, maildir	the mailboxes
 *
 * The role parses what comes from outside and has no rights; the keeper has
 * them and reads nothing: it gets descriptors and a number.  Whose mail it is
 * and where it goes is decided by the agent alone, from tables and accounts
 * that it looks up itself.  It opens no file and runs no program before it
 * has become the user it found, and has no network.
 */
#ifndef QUEUE_LOCAL_H
#define QUEUE_LOCAL_H

#include <sys/types.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/conf.h"
#include "lib/envelope.h"
#include "lib/master_cf.h"
#include "queue/local_fate.h"
#include "queue/local_text.h"
#include "rules/addr_find.h"

#define LOCAL_ORDER_MAX	(6u << 20)	/* bytes of a delivery's fields */

/* What is read before the jail, for agents to come. */
struct local {
	const struct conf *cf;
	struct service_table *services;
	struct addr_keys keys;
	struct table_list mailboxes, uids, gids;	/* of virtual */
	bool virtual_failed;	/* one of them cannot be used */
	struct alias_table *aliases;
	size_t n_aliases;
	bool aliases_failed;	/* the same */
	/* By user: mailbox_transport_maps and the like. */
	struct table_list transports, commands, fallbacks;
	bool users_failed;	/* the same */
	uid_t nobody_uid;	/* default_privs */
	gid_t nobody_gid;
	bool root;		/* agents can become others */
};
extern struct local local;
void local_load(const struct conf *cf);
/* Tables of a parameter; false after an error was logged. */
bool local_tables(const char *parameter, const char *specs,
    struct table_list *ret);
/* alias_maps and default_privs. */
void alias_load(void);
/* mailbox_transport_maps, mailbox_command_maps, fallback_transport_maps. */
void user_load(void);

/* -- a delivery ------------------------------------------------------------- */

struct order {
	uint64_t number;	/* qmgr's */
	char id[QUEUE_ID_TEXT];
	struct view transport, nexthop;
	struct local_text text;
	struct wall arrival, active;
	uint64_t limit;		/* ms until the report has to be there */
	uint32_t n;		/* recipients to deliver to */
	uint32_t *rcpts;	/* indices into env */
	struct envelope env;
};
/* The fields of MSG_DELIVER; views point into body, the rest is in a. */
bool order_read(struct view body, int text, struct arena *a,
    struct order *ret) __attribute__((warn_unused_result));
/* What an arena for it must hold. */
#define ORDER_ARENA	(96u << 20)

/* -- the keeper ------------------------------------------------------------- */

/* From the role: with the text and the fields of a delivery. */
struct keeper_order { uint64_t delivery; };
/* To the role: with the end of a pipe on which the agent's report comes;
 * error: it could not be started, and there is none. */
struct keeper_answer { uint64_t delivery; int32_t error; };
/* In the keeper's process; fd: the role.  Never returns. */
void keeper_run(int fd) __attribute__((noreturn));

/* -- the agent -------------------------------------------------------------- */

/* Report: u32 n, n x (u32 index, fate as in queue/local_fate.h). */
#define REPORT_MAX	(8u << 20)
/* In the agent's process.  Never returns. */
void agent_run(int text, int fields, int report) __attribute__((noreturn));

/* An account: what a user is, from the system's own tables. */
struct account {
	char *name, *home, *shell;
	uid_t uid;
	gid_t gid;
};
enum account_answer { ACCOUNT_FOUND = 1, ACCOUNT_NONE, ACCOUNT_FAILED };
enum account_answer account_find(struct view name, struct account *ret);
void account_free(struct account *a);
/*
 * For good: with the group given, and no other.  False: *ret says why.  Where
 * agents cannot become others only ourselves will do.
 */
bool account_become(uid_t uid, gid_t gid, struct fate *ret);
/* The same, and later once account_join(): with the group "later". */
bool account_become_with(uid_t uid, gid_t gid, gid_t later,
    struct fate *ret);
bool account_join(gid_t later, struct fate *ret);

/* One recipient of an order. */
struct job {
	const struct order *order;
	const struct recipient *rcpt;
	struct view user, extension;	/* of it, in lower case; extension
					 * without its delimiter */
};
/* "Return-Path:" and what else stands above a text that is delivered. */
void job_header(const struct job *j, bool delivered_to, struct buf *out);

/* Into a file, or with a slash at its end a maildir, of uid. */
void job_mailbox(const struct job *j, const char *path, uid_t uid,
    struct view header, struct fate *f);
/* Do fn in a process of its own, and read what it says; addresses in a. */
typedef void agent_fn(const struct job *j, void *arg, struct arena *a,
    struct fate *ret);
void agent_as(agent_fn *fn, const struct job *j, void *arg, struct arena *a,
    struct fate *ret);

/* A name: what an alias says, else the user. */
void alias_deliver(const struct job *j, struct arena *a, struct fate *ret);
void user_deliver(const struct job *j, struct arena *a, struct fate *ret);
void virtual_deliver(const struct job *j, struct fate *ret);
/* All recipients of o with one command of s; one fate for all. */
void pipe_deliver(const struct order *o, const struct service *s,
    struct fate *ret);

#endif
