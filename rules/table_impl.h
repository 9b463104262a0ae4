/*
 * What the kinds of tables share among themselves; everybody else uses
 * rules/table.h.  A kind is a row of functions over data of its own.
 */
#ifndef RULES_TABLE_IMPL_H
#define RULES_TABLE_IMPL_H

#include "rules/table.h"

#define TABLE_FILE_MAX		(64u << 20)	/* bytes of a source */
#define TABLE_LINE_MAX		(1u << 20)	/* bytes of a logical line */
#define TABLE_NESTING_MAX	100u		/* if blocks */

/* Where a mistake is reported; counts the errors. */
struct table_loader {
	const char *origin;
	table_report *report;
	void *arg;
	unsigned errors;
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

struct table_kind {
	const char *type;
	bool pattern;
	bool source;		/* load() gets an open source */
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
};

extern const struct table_kind table_static, table_inline, table_texthash,
    table_cidr, table_regexp, table_pcre;

/* The limit that table_pattern_limits() set. */
uint32_t table_match_limit(void);

#endif
