/*
 * postmap(1) and postalias(1): one program, two names.  It is in filters/
 * because -hmq and -bmq walk a message as the content filter does.
 */
#ifndef FILTERS_POSTMAP_H
#define FILTERS_POSTMAP_H

#include "lib/conf.h"
#include "rules/table_build.h"

#define POSTMAP_VALUE_MAX	(1u << 20)

struct postmap {
	bool aliases;		/* called postalias */
	const struct conf *cf;
	const char *config_dir;
	/* options */
	bool body, header, mime, incremental, json, list, keep_root;
	const char *query, *remove;
	enum table_duplicates duplicates;
	struct table_style style;
};

/* "type:name" of an argument, with $default_database_type and a path. */
char *postmap_spec(const struct postmap *pm, const char *argument);
/* The path behind the type; fatal if such a table is not an index. */
const char *postmap_index(const char *spec);
/* Report of a table: an error ends the program. */
void postmap_report(bool error, const char *text, void *arg);
struct table_loader postmap_loader(void);

/* postmap_query.c: each returns whether something was found. */
bool postmap_query(const struct postmap *pm, char **specs, int n);
void postmap_list(const struct postmap *pm, const char *spec);
/* postmap_build.c */
void postmap_build(const struct postmap *pm, const char *spec);
bool postmap_remove(const struct postmap *pm, char **specs, int n);

/* Lines of standard input, without their ends. */
void postmap_lines(void (*fn)(struct view line, void *arg), void *arg);

#endif
