/*
 * The program that the administrator starts: see filters/pmilter.h.  It keeps
 * one pmilter and some filters running, and replaces the filters when what
 * they have read changes.  Started by root it stays root, with the
 * capabilities that this takes; nothing that came from outside reaches it.
 */
#ifndef FILTERS_POSTERN_MILTER_H
#define FILTERS_POSTERN_MILTER_H

#include "filters/pmilter.h"
#include "lib/log.h"

struct keeper_options {
	const char *config_dir;		/* absolute */
	struct pmilter_start start;
	const char *user;		/* instead of scan_user; NULL */
	int log_level;
	bool root;			/* started by root: jails */
};

/* -- processes (postern_milter_keep.c) ------------------------------------- */

/* cf and its text as a role reads it; keeper owns both from here on. */
struct keeper_conf {
	struct conf *cf;
	struct buf snapshot;
};
/* Start everything.  up() is called when mail can be judged, ended() when all
 * have finished, or (1) what cannot be done without does not start. */
void keeper_start(const struct keeper_options *o, struct keeper_conf *c,
    void (*up)(void), void (*ended)(int status));
/* New filters with these settings, and the old ones when they are ready;
 * while that goes on already: again after it. */
void keeper_reload(struct keeper_conf *c);
bool keeper_reloading(void);
/* SIGCHLD came. */
void keeper_reap(void);
/* Let them finish; ended() comes when they have. */
void keeper_stop(void);
/* Log files were moved away: open them anew. */
void keeper_log_again(void);
/* Write what the processes say about themselves to the log. */
void keeper_status(void);

/* -- configuration (postern_milter_conf.c) --------------------------------- */

/* False after reports. */
bool keeper_conf_load(const struct keeper_options *o, struct keeper_conf *ret);
void keeper_conf_free(struct keeper_conf *c);
/* Watch what was read; changed() is called once files are quiet again. */
void keeper_watch(const struct keeper_options *o, const struct conf *cf,
    void (*changed)(void));
/* As they are now, files are known. */
void keeper_watch_accept(void);

#endif
