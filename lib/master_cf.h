/*
 * master.cf: the service table (Postfix's master(5) form).
 *
 *   service  type  private  unpriv  chroot  wakeup  maxproc  command + args
 *
 * Continuation by leading white space, # comments.  "-" is the default of a
 * column; the default of chroot is y.  Arguments understood: -o name=value,
 * -o { name = value }, -v, -D.
 */
#ifndef LIB_MASTER_CF_H
#define LIB_MASTER_CF_H

#include "lib/conf.h"

struct service {
	char *name;		/* "smtp", "127.0.0.1:2525", "relay" */
	char *type;		/* inet unix fifo pass unix-dgram */
	bool private_socket;
	bool unprivileged;
	bool chroot;
	int64_t wakeup;		/* seconds, 0 none */
	int64_t maxproc;	/* -1: default_process_limit or one per core; 0: no limit */
	char *command;		/* smtpd, relay, ... */
	char **overrides;	/* "name=value" */
	size_t n_overrides;
	char **argv;		/* remaining arguments after the command */
	size_t argc;
	unsigned verbose;	/* number of -v */
	unsigned line;
};

struct service_table {
	struct service *list;
	size_t n;
};

/* NULL after at least one error was reported. */
struct service_table *master_cf_load(const char *dir, conf_report *report,
    void *arg);
struct service_table *master_cf_parse(struct view text, const char *origin,
    conf_report *report, void *arg);
void master_cf_free(struct service_table **t);

/* Is it a client: "smtp", "relay" or "lmtp", as a unix service? */
bool service_is_relay(const struct service *s);
/* One of them that speaks LMTP. */
bool service_is_lmtp(const struct service *s);
/* Does it deliver on this host: "local", "virtual" or "pipe", the same? */
bool service_is_local(const struct service *s);
/* No name's number, see below. */
#define SERVICE_LOCAL	2u
/*
 * Which processes serve it, of those that deliver mail.  SMTP clients: 0,
 * those of the first such service; those that deliver on this host:
 * SERVICE_LOCAL, the same; else, and for LMTP, a number that belongs to its
 * name, or to the first service of its sort with the same settings ("-o").  It does not depend
 * on where in master.cf it stands.
 */
uint32_t service_relays(const struct service_table *t,
    const struct service *s);

#endif
