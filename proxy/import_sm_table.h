/*
 * Files of sendmail's tables as tables of ours: for import_sm_routes.c,
 * import_sm_addresses.c and import_sm_access.c.
 */
#ifndef PROXY_IMPORT_SM_TABLE_H
#define PROXY_IMPORT_SM_TABLE_H

#include "proxy/import_sm.h"

/* The text behind FEATURE(name, `hash -o /etc/mail/x.db'); false, with a
 * note, when there is none to read. */
bool sm_table_text(struct sm *s, struct sm_item *feature, const char *path,
    const char **ret_file, struct view *ret_text);

struct sm_row {
	struct import_place at;
	struct view key, value, text;
};
/* The next row; lines that are none are noted. */
bool sm_table_row(struct sm *s, const char *file, struct view *rest,
    unsigned *line, struct sm_row *ret);
/* Note it for a row. */
void sm_row_note(struct sm *s, const struct sm_row *row,
    enum import_outcome outcome, const char *why, ...)
    __attribute__((format(printf, 4, 5)));
/* The file as it is, with a table type that reads sendmail's syntax;
 * "sendmail-x:$config_directory/name" in the arena. */
const char *sm_table_copy(struct sm *s, const char *type, const char *name,
    const char *file, struct view text);

/* "mailer:host" or "host" as "transport:nexthop"; NULL: out has it, else
 * why not. */
const char *sm_transport(struct view v, struct buf *out);

#endif
