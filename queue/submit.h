/*
 * What sendmail and postdrop have in common: programs that any user of the
 * host starts, one of them set-gid.  Mistakes are told on standard error and
 * by the exit statuses of <sysexits.h>.
 */
#ifndef QUEUE_SUBMIT_H
#define QUEUE_SUBMIT_H

#include <sysexits.h>

#include "lib/conf.h"

/* "NAME: fatal: text" on standard error; ends the process. */
void submit_fail(int status, const char *fmt, ...)
    __attribute__((format(printf, 2, 3), noreturn));
/* The program's name in these lines. */
void submit_name(const char *name);

/* Descriptors 0 to 2 open, nothing above them, signals as a program that
 * writes files wants them. */
void submit_safe_start(void);
/* HUP, INT, QUIT and TERM only set this; whoever reads input looks. */
bool submit_stopped(void);

/*
 * The configuration in dir, or $MAIL_CONFIG, or the default.  With a borrowed
 * group only if nobody but root could have written it or put it there; else
 * the group is given back first.
 */
struct conf *submit_conf(const char *dir);

/* authorized_submit_users; ends the process if it does not allow it. */
void submit_authorize(const struct conf *cf);

#endif
