#include <stdlib.h>

#include "rules/sendmail_table.h"
#include "rules/table_impl.h"
#include "rules/table_row.h"

/* FNV-1a, 64 bits. */
#define HASH_START	14695981039346656037ull
#define HASH_PRIME	1099511628211ull

uint64_t
row_hash_text(struct view text)
{
	uint64_t h = HASH_START;
	size_t i;

	for (i = 0; i < text.n; i++)
		h = (h ^ (unsigned char)text.p[i]) * HASH_PRIME;
	return h;
}

/* A key means the same in upper and lower case, and indexes fold it. */
uint64_t
row_hash_entry(struct view key, struct view value)
{
	uint64_t h = HASH_START;
	size_t i;

	for (i = 0; i < key.n; i++)
		h = (h ^ (unsigned char)tolower((unsigned char)key.p[i])) *
		    HASH_PRIME;
	h = (h ^ '\t') * HASH_PRIME;
	for (i = 0; i < value.n; i++)
		h = (h ^ (unsigned char)value.p[i]) * HASH_PRIME;
	return h;
}

uint64_t
table_row_hash(const struct table *t, unsigned line, struct view key,
    struct view value)
{
	const struct table_kind *k = table_kind_of(t);

	return k->row_hash != NULL ? k->row_hash(table_data_of(t), line) :
	    row_hash_entry(key, value);
}

/* -- all rows -------------------------------------------------------------- */

struct rows {
	const struct table_kind *kind;
	void (*each)(const struct table_row *row, void *arg);
	void *arg;
};

/* Behind the pattern; what "if" and "endif" have none of. */
static struct view
row_result(const struct table_kind *k, struct view text)
{
	struct view key, value;

	return k->line_result != NULL ? k->line_result(text) :
	    table_entry(text, &key, &value) ? value : view_make("", 0);
}

static void
rows_one(const struct rows *r, struct view text, unsigned line)
{
	struct table_row row = { .text = text, .line = line,
		.result = row_result(r->kind, text) };
	struct view key, value;

	if (r->kind->line_result != NULL)
		row.hash = row_hash_text(text);
	else if (table_entry(text, &key, &value))
		row.hash = row_hash_entry(key, value);
	r->each(&row, r->arg);
}

bool
table_rows(struct view spec, const char *config_dir,
    void (*each)(const struct table_row *row, void *arg), void *arg,
    char **ret_file)
{
	struct rows r = { .each = each, .arg = arg };
	struct table_loader l = { .config_dir = config_dir };
	struct table_source s = { 0 };
	struct view text;
	unsigned line;
	bool ok;

	r.kind = table_spec_kind(spec, config_dir, ret_file);
	if (r.kind == NULL)
		return false;
	l.origin = *ret_file;
	ok = table_source_file(&s, *ret_file, &l);
	if (ok && r.kind->plain_lines)
		while (sendmail_line(&s, &text))
			rows_one(&r, text, s.line);
	else if (ok)
		while (table_source_next(&s, &l, &text, &line))
			rows_one(&r, text, line);
	table_source_free(&s);
	if (!ok) {
		free(*ret_file);
		*ret_file = NULL;
	}
	return ok;
}
