/*
 * sendmail's own files as tables, read as text: what makemap(8) would make
 * into a database.  Keys and values are in memory; a change of the file is a
 * new generation.
 *
 *	sendmail-access:	access_find() with sendmail's keys and tags
 *	sendmail-mailertable:	for transport_maps
 *	sendmail-virtusertable:	for virtual_alias_maps; access_find() tells
 *				what its "error:" entries say
 *	sendmail-genericstable:	for smtp_generic_maps, canonical maps
 *	sendmail-domaintable:	for canonical_maps
 *	sendmail-relay-domains:	for relay_domains and mynetworks
 *	sendmail-cw:		for mydestination (local-host-names)
 *
 * The rules for keys are those of sendmail's cf/README.
 */
#ifndef RULES_SENDMAIL_TABLE_H
#define RULES_SENDMAIL_TABLE_H

#include "rules/table_impl.h"

#define SENDMAIL_KEY_MAX	1100u

/* The next line with text; the number of it is in s->line. */
bool sendmail_line(struct table_source *s, struct view *ret);
/* The entries of a file as makemap reads it: "key value", no line continues
 * another.  check, if not NULL, says what is wrong with a value. */
struct memory_table *sendmail_read(struct table_source *s,
    struct table_loader *l, const char *(*check)(struct view value));

/*
 * "error:D.S.N:code text", "error:code text", "error:nouser code text",
 * behind "error:" (or "ERROR:"), as an access(5) action: "550 5.7.0 text".
 * status: what is meant when there is none; "": none.
 */
bool sendmail_error(struct view text, const char *status, struct buf *out);

/* What an argument of a map stands for: %0 to %9 in value. */
#define SENDMAIL_ARGS		4u
bool sendmail_fill(struct view value, const struct view *args, size_t n,
    struct buf *out);

#endif
