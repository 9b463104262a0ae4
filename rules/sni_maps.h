/*
 * tls_server_sni_maps: which PEM files belong to which name of this server.
 * The tables are gone through, not asked: all that they name is read before
 * the jail.
 */
#ifndef RULES_SNI_MAPS_H
#define RULES_SNI_MAPS_H

#include "lib/conf.h"
#include "rules/table.h"

#define SNI_NAMES_MAX	10000u

/*
 * Call fn for each name (in lower case; ".example.com" is for those below
 * it) with its list of files.  False after a report: a table cannot be read,
 * or is of a type that cannot be gone through.
 */
bool sni_maps_each(const struct conf *cf,
    void (*fn)(struct view name, struct view files, void *arg), void *fn_arg,
    table_report *report, void *arg);

#endif
