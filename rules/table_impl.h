/*
 * What the kinds of tables share among themselves; everybody else uses
 * rules/table.h.  A kind is a row of functions over data of its own.
 */
#ifndef RULES_TABLE_IMPL_H
#define RULES_TABLE_IMPL_H

#include "rules/access.h"
#include "rules/table.h"

#define TABLE_FILE_MAX		(256u << 20)	/* bytes of a source */
#define TABLE_LINE_MAX		(1u << 20)	/* bytes of a logical line */
#define TABLE_NESTING_MAX	100u		/* if blocks */
#define TABLE_DEPTH_MAX		10u		/* tables in tables */

/* Where a mistake is reported; counts the errors. */
struct table_loader {
	const char *origin;
	table_report *report;
	void *arg;
	unsigned errors;
	const char *config_dir;
	unsigned depth;		/* of a table in tables */
};

/* "origin:line: text"; without the line if it is 0. */
void table_complain(struct table_loader *l, unsigned line, bool error,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/*
 * The text of a table, split into logical lines: a line that begins with
 * white space continues the one before; comments and blank lines between do
 * not end it.  An "inline" source is written as one line for each rule.
 */
struct table_source {
	struct buf text;
	struct view rest;
	unsigned line;		/* of the physical line read last */
	struct buf logical;
	/* Is called with what follows '#' of each comment; may be NULL. */
	void (*comment)(struct view text, unsigned line, void *arg);
	void *comment_arg;
};

/* False after a report: no such file, too large, a NUL in it. */
bool table_source_file(struct table_source *s, const char *path,
    struct table_loader *l);
/* spec is "{ {rule} {rule} }". */
bool table_source_inline(struct table_source *s, struct view spec,
    struct table_loader *l);
/*
 * The next logical line, without white space at its end, and the number of
 * its first line; valid until the next call.  False at the end.  Mistakes
 * are reported and skipped.
 */
bool table_source_next(struct table_source *s, struct table_loader *l,
    struct view *ret, unsigned *ret_line);
void table_source_free(struct table_source *s);

/* "endif", "IF": the word at the start of a line, not followed by a letter
 * or digit; *rest moves behind it and the white space after it. */
bool table_keyword(struct view *rest, const char *word);
/* Any number of "!" and blanks; true if they negate. */
bool table_negation(struct view *rest);
/* Length of the balanced {...} at the start of text; 0: there is none. */
size_t table_braces(struct view text);
/* The next element of the inside of "{...}": a word or a {group}, both
 * without blanks around and braces; false at the end.  *ret_bad: braces that
 * do not balance. */
bool table_inline_word(struct view *rest, struct view *ret, bool *ret_group,
    bool *ret_bad);

/*
 * Where an "if" goes when its pattern does not match: filled in when its
 * "endif" comes.
 */
struct table_blocks {
	size_t rule[TABLE_NESTING_MAX];
	unsigned line[TABLE_NESTING_MAX];
	unsigned depth;
};
bool table_block_open(struct table_blocks *b, size_t rule, unsigned line,
    struct table_loader *l);
/* The rule of the "if" that this "endif" closes. */
bool table_block_close(struct table_blocks *b, struct view after,
    unsigned line, struct table_loader *l, size_t *ret_rule);
void table_blocks_end(const struct table_blocks *b, struct table_loader *l);

/*
 * Append what was found to value; TABLE_FAILED: it has no room.
 */
enum table_answer table_found(struct buf *value, struct view text,
    unsigned line, unsigned *ret_line);

/* -- entries -------------------------------------------------------------- */

/*
 * "key value", as postmap(1) splits it: the key ends at white space that is
 * neither escaped nor inside quotes, and keeps its quotes.  False: open
 * quotes.
 */
bool table_entry(struct view line, struct view *ret_key,
    struct view *ret_value);
/*
 * "name: value" of aliases(5).  The key goes into key, which is cleared
 * first, without its quotes.  False: *ret_why (static text) says why.
 */
bool table_entry_alias(struct view line, struct buf *key,
    struct view *ret_value, const char **ret_why);
/* Is this first line one of an alias file?  "name:" with white space behind
 * the colon, which no key of another table has. */
bool table_entry_is_alias(struct view line);

enum table_format { FORMAT_GUESS = 0, FORMAT_MAP, FORMAT_ALIASES };
/* A duplicate key: an error; a warning, the first stays; nothing, the first
 * stays; nothing, the last stays. */
enum table_duplicates { DUPLICATE_ERROR = 1, DUPLICATE_WARN,
	DUPLICATE_IGNORE, DUPLICATE_REPLACE };

struct memory_table;
/* All entries of a source; mistakes are reported, as errors or as warnings
 * (lenient), and skipped. */
void table_read_entries(struct table_source *s, struct table_loader *l,
    enum table_format format, enum table_duplicates duplicates, bool lenient,
    struct memory_table *m);

/* -- a table in memory ------------------------------------------------------ */

enum memory_added { MEMORY_ADDED = 1, MEMORY_DUPLICATE, MEMORY_FULL };

/* exact: upper and lower case are different. */
struct memory_table *memory_new(bool exact);
enum memory_added memory_add(struct memory_table *m, struct view key,
    struct view value, unsigned line, bool replace);
/* The same; what goes wrong is an error. */
void memory_put(struct memory_table *m, struct view key, struct view value,
    unsigned line, struct table_loader *l);
size_t memory_count(const struct memory_table *m);
/* The views are valid until the next memory_add(). */
void memory_entry(const struct memory_table *m, size_t i,
    struct view *ret_key, struct view *ret_value, unsigned *ret_line);
bool memory_has(const struct memory_table *m, struct view key,
    struct view *ret_value, unsigned *ret_line);
/* Of the entry on this line; 0: not known. */
uint64_t memory_row_hash(void *data, unsigned line);
/* For a struct table_kind. */
void memory_release(void *data);
enum table_answer memory_find(void *data, size_t *pos, struct view key,
    struct buf *value, unsigned *ret_line);
void memory_each(void *data,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg);

/* -- kinds ------------------------------------------------------------------ */

struct table_kind {
	const char *type;
	bool pattern;
	bool source;		/* load() gets an open source */
	/* The name is that of a file, which load() opens by itself; it gets
	 * the path as the name. */
	bool file;
	/* The name ends with ".lmdb" behind what was given. */
	bool indexed;
	/* The data of the table; errors are counted in l.  name: behind the
	 * colon. */
	void *(*load)(const char *type, struct view name,
	    struct table_source *s, struct table_loader *l);
	void (*release)(void *data);
	enum table_answer (*find)(void *data, size_t *pos, struct view key,
	    struct buf *value, unsigned *ret_line);
	void (*each)(void *data,
	    void (*fn)(struct view result, unsigned line, void *arg),
	    void *arg);
	/* Both may be NULL. */
	bool (*samples)(void *data, struct table_loader *l);
	uint64_t (*limit_hits)(void *data);
	/* NULL: as the member pattern says. */
	bool (*is_pattern)(void *data);
	/* rules/table_row.h: by line; NULL: of key and value. */
	uint64_t (*row_hash)(void *data, unsigned line);
	/* What a line gives, if a row is a whole line; else it is a key and a
	 * value. */
	struct view (*line_result)(struct view text);
	bool plain_lines;	/* no line is continued by the next */
	/* sendmail's keys for access_find(); NULL: those of access(5). */
	enum table_answer (*access)(void *data, enum access_key key_kind,
	    struct view key, struct buf *value, unsigned *ret_line);
	/* All that access() may give; NULL: as each(). */
	void (*access_each)(void *data,
	    void (*fn)(struct view result, unsigned line, void *arg),
	    void *arg);
};

extern const struct table_kind table_static, table_inline, table_texthash,
    table_cidr, table_regexp, table_pcre, table_lmdb, table_hash,
    table_btree, table_dbm, table_cdb, table_sdbm, table_unionmap,
    table_pipemap, table_randmap, table_environ, table_unix, table_fail,
    table_debug, sendmail_access, sendmail_mailertable, sendmail_virtusertable,
    sendmail_genericstable, sendmail_domaintable, sendmail_relay_domains,
    sendmail_cw, table_ldap, table_mysql, table_pgsql, table_sqlite,
    table_redis, table_memcache, table_socketmap, table_tcp;

/* A table inside a table: as table_open(), but it counts its errors in l. */
struct table *table_open_inner(struct view spec, struct table_loader *l);
const struct table_kind *table_kind_of(const struct table *t);
void *table_data_of(const struct table *t);

/* table_check_samples() of the kinds without one of their own. */
bool table_samples(const struct table *t, struct table_loader *l);
/* The kind of a "type:file" with a text, and that file; NULL: it is none. */
const struct table_kind *table_spec_kind(struct view spec,
    const char *config_dir, char **ret_file);
/* Of a row (rules/table_row.h). */
uint64_t row_hash_text(struct view text);
uint64_t row_hash_entry(struct view key, struct view value);

/* The limit that table_pattern_limits() set. */
uint32_t table_match_limit(void);
/* What table_pattern_sets() set. */
const struct pattern_sets *table_pattern_sets_used(void);
const struct literal_databases *table_literal_databases(void);
const char *table_pattern_cache(void);

#endif
