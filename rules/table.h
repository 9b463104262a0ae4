/*
 * Lookup tables, "type:name" as in Postfix.  They are opened before the jail
 * and do not change in a role instance; when a source file changes, master
 * starts a new generation (table_spec_files() says which files to watch).
 *
 * In memory: static: inline: texthash: cidr: regexp: pcre: environ: unix:
 * randmap: fail: and sendmail's own files (rules/sendmail_table.h).  Made of
 * other tables: unionmap: pipemap: debug: proxy: (which does nothing).
 * Indexed: lmdb:, and hash: btree: dbm: cdb: sdbm: as other names of it.
 *
 * An indexed table FILE is FILE.lmdb.  When the text FILE is newer, it is
 * built again before it is opened, if that is safe (rules/table_build.h); a
 * text with a mistake leaves the old one in force; a place where nothing can
 * be built safely means that the text is read into memory.  What another
 * process changes inside FILE.lmdb is seen at once.
 *
 * regexp: and pcre: files have Postfix's syntax: "/pattern/flags result",
 * any delimiter, "!" negates, if/endif blocks, $1 ${1} $(1) and $$ in the
 * result, lines continued by leading white space, # comments; case is
 * ignored by default (flag i toggles).
 */
#ifndef RULES_TABLE_H
#define RULES_TABLE_H

#include "lib/buf.h"
#include "lib/mem.h"
#include "lib/view.h"

struct table;

/* An indexed table FILE is in the file FILE.lmdb. */
#define TABLE_INDEX_SUFFIX	".lmdb"

enum table_answer { TABLE_FOUND = 1, TABLE_NOT_FOUND, TABLE_FAILED };

/* Reads all of it.  On a mistake: each is reported as "file:line: text"
 * through report, and NULL is returned.  Relative names are resolved against
 * config_dir. */
typedef void table_report(bool error, const char *text, void *arg);
struct table *table_open(struct view spec, const char *config_dir,
    table_report *report, void *arg);
void table_free(struct table **t);
const char *table_name(const struct table *t);

/*
 * Look up one key.  The value is appended to value (cleared first); *ret_line
 * is the line of the rule that matched (0: no lines, as static:).  No
 * allocation happens but in value.
 */
enum table_answer table_find(const struct table *t, struct view key,
    struct buf *value, unsigned *ret_line);
/* All entries of a texthash: or inline: table, keys in lower case. */
void table_entries(const struct table *t,
    void (*fn)(struct view key, struct view value, void *arg), void *arg);
/* True for regexp: and pcre:, and what has one inside, and sendmail's files:
 * they are asked with whole strings only, never with parts of an address. */
bool table_is_pattern(const struct table *t);
/* The file behind it, or NULL (static:, inline:). */
const char *table_file(const struct table *t);
/* What messages name: the file, or the table's name without one. */
const char *table_origin(const struct table *t);

/*
 * The regexp:/pcre: rules one by one, for filters/ (which needs to go on
 * after a match).  table_rules() is the number of rules incl. if/endif.
 * table_find_from() starts at rule *pos and sets *pos behind the match, so
 * that a caller may continue; it returns as table_find().
 */
enum table_answer table_find_from(const struct table *t, size_t *pos,
    struct view key, struct buf *value, unsigned *ret_line);

/*
 * How many steps one pcre: pattern may take on one key, for tables opened
 * from now on; call it once, before table_open().  A pattern that reaches it
 * counts as not matching, which is logged once per rule and counted.
 */
void table_pattern_limits(uint32_t match_limit);
uint64_t table_limit_hits(const struct table *t);

/*
 * How regexp: and pcre: tables opened from now on ask many rules at once:
 * pattern_sets() of rules/pattern_set.h; NULL, and before the first call: one
 * by one.  The answers are the same, but for this: a pattern that cannot match
 * is not asked, and so does not reach its limit either.  database:
 * literal_databases() of rules/literal_database.h, for a program that has much
 * to ask, or NULL; cache: a directory where it keeps what it compiled
 * (rules/pattern_cache.h), NULL or "": none.  The string is not copied.
 */
struct pattern_sets;
struct literal_databases;
void table_pattern_sets(const struct pattern_sets *how,
    const struct literal_databases *database, const char *cache);

/*
 * For `postern check`, before table_open(): nothing is built, and an indexed
 * table whose text has a mistake is not opened, even if there is an old one.
 */
void table_check_only(void);

/*
 * Build the index of a text again if it is older, as table_open() does, but
 * without a report: true if that was done.
 */
bool table_rebuild(const char *file);

/* The types there are; NULL behind the last. */
const char *table_kind_name(size_t i);
/* Call each for every file that this "type:name" is read from, whether it is
 * there or not; other words have none. */
void table_spec_files(struct view spec, const char *config_dir,
    void (*each)(const char *file, void *arg), void *arg);

/*
 * Call fn for every result of the table, for checks at load.  In a result
 * with $1 and the like these are replaced by a sample that can stand for an
 * address, a header, or a next hop.  line is 0 where there are no lines.
 */
void table_each_result(const struct table *t,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg);
/*
 * regexp: and pcre: rules may come with samples, in comments before the rule
 * (or "if") they belong to:
 *
 *	# match: Subject: ILOVEYOU
 *	# pass: Subject: I love you
 *	/^Subject:.*ILOVEYOU/	REJECT
 *
 * Other files, those of cidr: and all that are keys and values, may have them
 * in front of a row: its match: samples must be answered by this row (with
 * the result, if "=> RESULT" follows), its pass: samples must not.
 *
 * True if each rule's pattern matches its match: samples and none of its
 * pass: samples; else each breach is reported.
 */
bool table_check_samples(const struct table *t, table_report *report,
    void *arg);

/* Has the text of this "type:name" any?  It is read, but not as a table. */
bool table_has_samples(struct view spec, const char *config_dir);

/* A list of tables as in "header_checks = a, b": the first answer wins. */
struct table_list {
	struct table **list;
	size_t n;
};
bool table_list_open(const char *specs, const char *config_dir,
    struct table_list *ret, table_report *report, void *arg);
void table_list_free(struct table_list *l);
enum table_answer table_list_find(const struct table_list *l,
    struct view key, struct buf *value, const struct table **ret_table,
    unsigned *ret_line);

#endif
