/*
 * What must be true of the machine before anything is started: accounts,
 * directories, programs, who may write the configuration.  Used by master
 * and by `postern check`.
 */
#ifndef PROXY_MASTER_SETUP_H
#define PROXY_MASTER_SETUP_H

#include <sys/types.h>

#include "proxy/master_plan.h"

/* The four accounts, in the order of setup_account_params(). */
#define SETUP_ACCOUNTS	5u
const char *const *setup_account_params(void);
const char *setup_account(const struct conf *cf, size_t i);
/* Is it that of one of them? */
bool setup_account_is_own(const struct conf *cf, uid_t uid);

/* The modes of maildrop/ with which users other than the owner submit. */
#define SETUP_MAILDROP_GROUP	01730	/* set-gid postdrop */
#define SETUP_MAILDROP_ALL	01733	/* everybody */

/*
 * As root: each account exists, is not root, has no group 0, shares its uid
 * with no other account, and all four differ.  False after an error.
 */
bool setup_check_accounts(const struct conf *cf, const struct reporter *r);
/*
 * Create the directories that are missing, with a warning each, and warn of a
 * wrong owner or mode (all but pid and the empty root: corrected by hand
 * only).  False after an error.
 */
bool setup_directories(const struct conf *cf, const struct reporter *r);
/* Warn when others than the owner may change the configuration. */
void setup_check_permissions(const char *config_dir,
    const struct reporter *r);
/* The programs of the plan are in daemon_directory.  False after an error. */
bool setup_check_programs(const struct conf *cf, const struct plan *p,
    const struct reporter *r);

#endif
