/*
 * What master shall run, worked out from the service table without touching
 * anything: which roles, how many of each, with which overrides; when a role
 * that died is started again; which files a configuration depends on.
 *
 * master.cf of an existing Postfix is accepted: commands that Postern does
 * not need (rewrite, proxymap, anvil, ...) are listed and ignored.
 */
#ifndef PROXY_MASTER_PLAN_H
#define PROXY_MASTER_PLAN_H

#include "lib/clock.h"
#include "lib/master_cf.h"
#include "lib/msg.h"
#include "proxy/master_report.h"
#include "rules/milters.h"

struct plan_entry {
	enum role_kind kind;
	/* smtpd: number of its inet service, from 1.  lookup-TYPE: the type's
	 * number.  auth-TYPE: enum auth_type.  relay and local:
	 * service_relays(); credentials: that of its relay.  0 for all others. */
	uint32_t service;
	const char *name;	/* first column of master.cf */
	unsigned count;		/* instances that always run */
	int64_t maxproc;	/* as in master.cf; 0: none given */
	bool on_demand;		/* bounce, showq: one, when it is wanted */
	bool chroot;
	bool lmtp;		/* a relay that speaks it */
	enum milter_sockets sockets;	/* milter */
	/* These belong to the service table. */
	char *const *overrides;
	size_t n_overrides;
	unsigned line;		/* 0: not in master.cf */
};

struct plan_tables {		/* of one type, behind a connection */
	char *program;		/* "lookup-ldap" */
	char *settings;		/* "lookup_tables=..." */
};

struct plan {
	struct plan_entry *list;
	size_t n;
	struct plan_tables *tables;	/* by service */
	size_t n_tables;
	char *auth_settings[AUTH_TYPES];	/* "auth_servers=..." */
	struct buf ignored;	/* "rewrite, anvil, ..." */
};

/* Processors this process may use. */
unsigned plan_cores(void);

/*
 * t must outlive the plan.  role_processes is the parameter of that name.
 * What is missing or cannot be honoured is a warning.
 */
struct plan *plan_make(const struct service_table *t, unsigned cores,
    int64_t role_processes, const struct reporter *r);
/* A lookup-TYPE for each type of table behind a connection that cf, or a "-o"
 * of a service, names.  False after a report: too many, or one is named where
 * there is no time to ask it. */
bool plan_add_tables(struct plan *p, const struct conf *cf,
    const struct service_table *t, const struct reporter *r);
/* The milter role runs if cf, or a "-o" of a service, has outside filters. */
void plan_add_milter(struct plan *p, const struct conf *cf,
    const struct service_table *t);
/* An auth-TYPE for the authentication servers that services name.  False after
 * a report. */
bool plan_add_auth(struct plan *p, const struct conf *cf,
    const struct service_table *t, const struct reporter *r);
/* So does sts, if cf or a "-o" of a service has smtp_tls_sts. */
void plan_add_sts(struct plan *p, const struct conf *cf,
    const struct service_table *t);
/* And credentials, one for each relay service that logs in to servers: with
 * the settings of that, so that a relay can ask for no other's logins. */
void plan_add_credentials(struct plan *p, const struct conf *cf);
/* And tlsrpt, with smtp_tlsrpt_enable. */
void plan_add_tlsrpt(struct plan *p, const struct conf *cf,
    const struct service_table *t);
void plan_free(struct plan **p);
/* The file in daemon_directory. */
const char *plan_program(const struct plan_entry *e);
const struct plan_entry *plan_find(const struct plan *p, enum role_kind kind,
    uint32_t service);

/* The name a role has in log lines: cleanup for the filter, smtp for relay. */
const char *plan_log_name(enum role_kind kind);

/*
 * Restarts: up to THROTTLE_BURST in THROTTLE_WINDOW at once, further ones
 * after the pause.
 */
#define THROTTLE_BURST		5u
#define THROTTLE_WINDOW_MS	10000

struct throttle {
	struct mono at[THROTTLE_BURST];
	unsigned next;
	unsigned used;
};

/* A restart is due; returns in how many milliseconds it may happen. */
int64_t throttle_delay(struct throttle *t, struct mono now, int64_t pause_ms);

/* Does some restriction ask a policy service at a socket in the file system?
 * Then lookup must be where it is: below queue_directory. */
bool plan_policy_sockets(const struct conf *cf);

#endif
