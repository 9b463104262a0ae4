/*
 * postern import postfix: what its files share.  The source is read with the
 * readers of our own main.cf, whose syntax is the same; names of Postfix that
 * Postern gives another value (queue_directory, ...) have Postfix's.
 */
#ifndef PROXY_IMPORT_POSTFIX_H
#define PROXY_IMPORT_POSTFIX_H

#include "lib/conf_source.h"
#include "proxy/postern_import.h"

struct import_postfix {
	const struct import_order *o;
	struct import_config *c;
	struct import_report *r;
	struct conf_source *src;
	char *main_cf, *master_cf;	/* paths */
	char *queue;		/* Postfix's queue_directory */
	bool jailed;		/* its smtpd sees only that */
};

/* The value with its $names; "" if it cannot be expanded.  For free(). */
char *import_postfix_expand(struct import_postfix *x, struct view text);

/*
 * A value as it is here: tables and lists in the source's directory are copied
 * and named as copies, sockets have the names that they have outside of
 * Postfix's jail.  The report has what changed.  name: the parameter.
 */
char *import_postfix_value(struct import_postfix *x, struct import_place at,
    const char *name, struct view value);

/* Was this file, or something below it, copied? */
bool import_postfix_copied(const struct import_postfix *x, const char *rel);

/* May this "-o" be carried over as it is?  If not, the report has why. */
bool import_postfix_override(struct import_postfix *x,
    struct import_place at, struct view name, struct view value);

/* master.cf, after main.cf. */
bool import_postfix_services(struct import_postfix *x);

#endif
