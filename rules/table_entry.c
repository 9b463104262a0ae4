#include "lib/log.h"
#include "rules/table_impl.h"

bool
table_entry(struct view line, struct view *ret_key, struct view *ret_value)
{
	bool quoted = false;
	size_t i = 0;

	for (; i < line.n; i++) {
		if (line.p[i] == '\\') {
			if (i + 1 < line.n)
				i++;
		} else if (line.p[i] == '"') {
			quoted = !quoted;
		} else if (!quoted && view_space(line.p[i])) {
			break;
		}
	}
	*ret_key = view_head(line, i);
	*ret_value = view_trim(view_from(line, i));
	return !quoted;
}

/* The name in front of ':', quoted or plain; *ret_rest is behind the colon
 * and keeps its blanks. */
static bool
alias_name(struct view line, struct buf *key, struct view *ret_rest,
    const char **ret_why)
{
	bool quoted = false;
	size_t i;

	for (i = 0; i < line.n; i++) {
		char c = line.p[i];

		if (c == '"') {
			quoted = !quoted;
			continue;
		}
		if (!quoted && (c == ':' || view_space(c)))
			break;
		if (c == '\\' && i + 1 < line.n)
			c = line.p[++i];
		if (key != NULL && !buf_putc(key, c)) {
			*ret_why = "the name is too long";
			return false;
		}
	}
	if (quoted) {
		*ret_why = "unbalanced '\"'";
		return false;
	}
	while (i < line.n && view_space(line.p[i]))
		i++;
	if (i == line.n || line.p[i] != ':' || i == 0) {
		*ret_why = "need name:value pair";
		return false;
	}
	*ret_rest = view_from(line, i + 1);
	return true;
}

bool
table_entry_is_alias(struct view line)
{
	struct view rest;
	const char *why;

	return alias_name(line, NULL, &rest, &why) &&
	    (rest.n == 0 || view_space(rest.p[0]) || line.p[0] == '"');
}

bool
table_entry_alias(struct view line, struct buf *key, struct view *ret_value,
    const char **ret_why)
{
	struct view rest;

	buf_clear(key);
	if (!alias_name(line, key, &rest, ret_why))
		return false;
	if (key->n == 0 || view_trim(rest).n == 0) {
		*ret_why = "need name:value pair";
		return false;
	}
	if (view_find(buf_view(key), '@') < key->n) {
		*ret_why = "name must be local";
		return false;
	}
	*ret_value = view_trim(rest);
	return true;
}

/* -- whole files ----------------------------------------------------------- */

static void
entry_put(struct memory_table *m, struct view key, struct view value,
    unsigned line, enum table_duplicates duplicates, bool lenient,
    struct table_loader *l)
{
	switch (memory_add(m, key, value, line,
	    duplicates == DUPLICATE_REPLACE)) {
	case MEMORY_ADDED:
		break;
	case MEMORY_DUPLICATE:
		if (duplicates != DUPLICATE_IGNORE)
			table_complain(l, line, duplicates == DUPLICATE_ERROR
			    && !lenient, "duplicate entry: \"%.*s\"",
			    VIEW_ARGS(view_head(key, 200)));
		break;
	case MEMORY_FULL:
		table_complain(l, line, true, "the table is too large");
		break;
	}
}

void
table_read_entries(struct table_source *s, struct table_loader *l,
    enum table_format format, enum table_duplicates duplicates, bool lenient,
    struct memory_table *m)
{
	struct view line, key, value;
	const char *why;
	struct buf name;
	unsigned number;
	bool good;

	buf_init(&name, 4096);
	while (table_source_next(s, l, &line, &number)) {
		if (format == FORMAT_GUESS)
			format = table_entry_is_alias(line) ?
			    FORMAT_ALIASES : FORMAT_MAP;
		if (format == FORMAT_ALIASES) {
			good = table_entry_alias(line, &name, &value, &why);
			key = buf_view(&name);
		} else if (!(good = table_entry(line, &key, &value))) {
			why = "unbalanced '\"'";
		} else if (key.n == 0 || value.n == 0) {
			good = false;
			why = "expected format: key whitespace value";
		} else if (key.p[key.n - 1] == ':') {
			table_complain(l, number, false, "record is in "
			    "\"key: value\" format; is this an alias file?");
		}
		if (good)
			entry_put(m, key, value, number, duplicates, lenient,
			    l);
		else
			table_complain(l, number, !lenient, "%s", why);
	}
	buf_free(&name);
}
