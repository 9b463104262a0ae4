/*
 * postconf: shows and changes main.cf, shows master.cf.  One file per thing
 * it does; postconf.c reads the command line.
 */
#ifndef PROXY_POSTCONF_H
#define PROXY_POSTCONF_H

#include "lib/buf.h"
#include "lib/view.h"

enum postconf_edit { POSTCONF_KEEP = 0, POSTCONF_SET, POSTCONF_EXCLUDE,
    POSTCONF_COMMENT };

enum postconf_master { POSTCONF_MAIN = 0, POSTCONF_SERVICES, POSTCONF_FIELDS,
    POSTCONF_OVERRIDES };

enum postconf_class { POSTCONF_BUILTIN = 1, POSTCONF_SERVICE = 2,
    POSTCONF_USER = 4, POSTCONF_ALL = 7 };

struct postconf {
	const char *dir;
	bool defaults, changed_only, expand, fold, json;
	bool no_names, no_values, quiet;
	unsigned classes;		/* enum postconf_class */
	enum postconf_edit edit;
	enum postconf_master master;
	char **overrides;
	size_t n_overrides;
	char **args;
	size_t n_args;
	bool failed;			/* the exit status will be 1 */
};

/* "postconf: warning: ..." to standard error, unless quiet. */
void postconf_warn(const struct postconf *pc, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* "postconf: error: ..."; the exit status will be 1. */
void postconf_error(struct postconf *pc, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* A conf_report; arg is the struct postconf. */
void postconf_report(bool error, const char *text, void *arg);

/* Each does one kind of request. */
void postconf_main(struct postconf *pc);
void postconf_services(struct postconf *pc);
void postconf_change(struct postconf *pc);

/*
 * Print "name = value" with single spaces between words, as the options say.
 */
void postconf_print(const struct postconf *pc, struct view name,
    struct view value);
/* A JSON string with its quotes (RFC 8259). */
void postconf_print_json(struct view v);

#define POSTCONF_LINE	80	/* folded lines stay below this */

#endif
