/*
 * A configuration directory in the making, for `postern import`: settings of
 * main.cf, each with the places it comes from, tables with the place of each
 * row, and whole files.  Nothing is written before import_config_write(),
 * which looks at all names first.  Texts are copied.  What does not fit any
 * more makes import_config_write() fail.
 */
#ifndef PROXY_IMPORT_CONFIG_H
#define PROXY_IMPORT_CONFIG_H

#include <sys/types.h>

#include "proxy/import_report.h"

#define IMPORT_SETTINGS_MAX	1000u
#define IMPORT_FILES_MAX	200u
#define IMPORT_VALUE_MAX	(64u * 1024)	/* of a setting */
#define IMPORT_FILE_MAX		(64u << 20)

struct import_config;
struct import_table;

struct import_config *import_config_new(void);
void import_config_free(struct import_config **c);

/* The value; what it was before is replaced, but its places stay. */
void import_set(struct import_config *c, const char *name,
    struct import_place at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* One more item of a list; nothing if it is there already. */
void import_add(struct import_config *c, const char *name,
    struct import_place at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* A comment for it, behind the places; it need not be set yet. */
void import_remark(struct import_config *c, const char *name,
    const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* NULL: not set. */
const char *import_value(const struct import_config *c, const char *name);

/* A table in the directory, made when first asked for.  type: "hash" and so
 * on, which are indexed, or "cidr", "pcre" and others, which are not.  The
 * same name has to have the same type each time. */
struct import_table *import_table(struct import_config *c, const char *type,
    const char *name);
/* NULL: not made yet. */
struct import_table *import_table_find(const struct import_config *c,
    const char *name);
/* False: there is a row with this key already (upper and lower case are the
 * same), or the key or value cannot be written in a table: the first stays. */
bool import_row(struct import_table *t, struct import_place at,
    struct view key, struct view value);
size_t import_table_rows(const struct import_table *t);
/* "hash:$config_directory/name" */
const char *import_table_spec(const struct import_table *t);

/* A file as it is, such as master.cf; fill the buffer before writing. */
struct buf *import_file(struct import_config *c, const char *name,
    mode_t mode);

/* main.cf as text.  False: it does not fit. */
bool import_main_cf(const struct import_config *c, const char *title,
    struct buf *out);

struct import_write {
	const char *dir;	/* made if it is not there */
	const char *title;	/* the first comment of main.cf and tables */
	bool force;		/* existing files are replaced */
	bool dry_run;		/* print what would be done */
};
/*
 * Write everything: the tables first, built too, main.cf last, each file in
 * whole and only then under its name.  Without force nothing is written when
 * any of the names exists; when something fails half-way the files that are
 * new are removed again.  False after reports to the log.
 */
bool import_config_write(struct import_config *c,
    const struct import_write *w);

#endif
