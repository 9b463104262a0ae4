/*
 * The control command.  Each verb is a function that gets its words and
 * returns the exit status; mistakes of the caller and of the system end it
 * with fatal(), which prints "postern: fatal: ..." and exits with 1.
 */
#ifndef PROXY_POSTERN_H
#define PROXY_POSTERN_H

#include "lib/log.h"
#include "proxy/master.h"
#include "proxy/master_setup.h"

#define POSTERN_VERSION		"0.1.0"
#define POSTERN_NOT_RUNNING	3	/* exit status of status */

struct postern {
	char *config_dir;		/* absolute; NULL for init */
};

typedef int postern_verb(struct postern *p, int argc, char **argv);

postern_verb postern_init, postern_start, postern_start_fg, postern_stop,
    postern_reload, postern_status, postern_check, postern_flush, postern_log,
    postern_maildrop, postern_queue, postern_quarantine, postern_hold,
    postern_release, postern_delete, postern_explain, postern_replay,
    postern_rules, postern_pool, postern_install, postern_sts,
    postern_test, postern_tlsrpt, postern_import;
/* Without words. */
int postern_flush_all(struct postern *p);

/*
 * All that can be known before a start: both files, services, accounts,
 * programs, permissions, tables and their samples.  Errors and warnings go
 * to standard error.  NULL after an error.  Not full: before a start, where
 * master makes missing directories and reports the warnings itself.
 */
struct config *postern_check_all(struct postern *p, bool full);
/* The tables alone; false after an error. */
bool postern_check_tables(const struct config *c, const char *config_dir,
    const struct reporter *r);
/* Can the roles that deliver here ask the tables of cf that they need? */
bool postern_check_reach(const struct config *c, const struct conf *cf,
    const struct reporter *r);
/* alias_maps: mistakes, tables that are missing, and the required names. */
bool postern_check_aliases(const struct conf *cf, const char *config_dir,
    const struct reporter *r);
/* Whose sendmail, mailq and newaliases users of this host get: warnings, for an
 * instance that `postern install` made. */
void postern_check_commands(const struct conf *cf, const char *config_dir,
    const struct reporter *r);
/* The group setgid_group; made if make is set.  False: there is none. */
bool postern_maildrop_group(const struct conf *cf, bool make, gid_t *ret);
/* The path of our postdrop or sendmail, for free().  Not command_directory's,
 * which may be another mailer's. */
char *postern_own_program(const struct conf *cf, const char *name);
/* main.cf; a mistake in it is the end. */
struct conf *postern_conf(const struct postern *p);
/* Counts errors, prints both. */
extern const struct reporter postern_reporter;

/* The process that holds the lock of this instance; 0: none. */
pid_t postern_running(const struct conf *cf);
/*
 * Send one command to master and print the lines of its answer.  True: OK.
 * False: *ret_error says why (static, until the next call); NULL if the
 * connection ended without a last line.
 */
bool postern_ask(const struct conf *cf, const char *command,
    const char **ret_error);
/* The same, but the lines go to answer. */
bool postern_fetch(const struct conf *cf, const char *command,
    struct buf *answer, const char **ret_error);
/* Wait until each port greets with 220, by TLS where it begins with that; NULL
 * or what went wrong. */
const char *postern_wait_ports(const struct config *c, int64_t limit_ms);

#endif
