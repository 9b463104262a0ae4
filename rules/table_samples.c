/*
 * Samples in the text of tables whose rows are keys and values, and of cidr:
 * tables: what is asked, and which row must be the answer.  Patterns have
 * samples of single rules instead (rules/table_pattern.c).
 */
#include <stdlib.h>

#include "lib/netaddr.h"
#include "rules/sendmail_table.h"
#include "rules/table_impl.h"
#include "rules/table_row.h"

#define VALUE_MAX	(1u << 20)

struct sample {
	bool match;
	unsigned line;
	struct view key, result;	/* in the text of the source */
	bool has_result;
};

struct samples {
	const struct table *table;
	const struct table_kind *kind;
	struct table_loader *l;
	struct sample *list;	/* that wait for their row */
	size_t n;
	bool begun;
	bool aliases;		/* rows are "name: value" */
	struct buf value, name;
};

/* "match: ..." or "pass: ..." behind '#' */
static bool
is_sample(struct view text, bool *ret_match)
{
	text = view_trim(text);
	*ret_match = view_starts_nocase(text, "match:");
	return *ret_match || view_starts_nocase(text, "pass:");
}

/* "match: KEY [=> RESULT]", "pass: KEY" */
static void
sample_comment(struct view text, unsigned line, void *arg)
{
	struct samples *s = arg;
	struct sample one = { .line = line };
	size_t i;

	if (!is_sample(text, &one.match))
		return;
	text = view_trim(text);
	one.key = view_trim(view_from(text, view_find(text, ':') + 1));
	for (i = 0; one.match && i + 1 < one.key.n; i++)
		if (one.key.p[i] == '=' && one.key.p[i + 1] == '>') {
			one.result = view_trim(view_from(one.key, i + 2));
			one.key = view_trim(view_head(one.key, i));
			one.has_result = true;
			break;
		}
	if (one.key.n == 0) {
		table_complain(s->l, line, true, "this sample has no key");
		return;
	}
	s->list = mem_resize(s->list, s->n + 1, sizeof *s->list);
	s->list[s->n++] = one;
}

/* -- asking ---------------------------------------------------------------- */

static bool
ask_as(struct samples *s, enum access_key kind, struct view key,
    const struct access_style *style, uint64_t *ret_row)
{
	unsigned line;

	return access_find(s->table, kind, key, style, &s->value, &line,
	    ret_row) == TABLE_FOUND;
}

/* The tag says whom sendmail's entries are about; without one, anybody. */
static bool
ask_sendmail(struct samples *s, struct view key, uint64_t *ret_row)
{
	static const struct {
		const char *tag;
		enum access_key kinds[4];
	} tags[] = {
		{ "Connect:", { ACCESS_CLIENT_NAME, ACCESS_CLIENT_ADDR } },
		{ "From:", { ACCESS_SENDER } },
		{ "To:", { ACCESS_RECIPIENT } },
		{ "", { ACCESS_CLIENT_NAME, ACCESS_CLIENT_ADDR, ACCESS_SENDER,
		    ACCESS_RECIPIENT } },
	};
	const struct access_style style = { .parent_matches = true };
	size_t i = 0, k;

	while (!view_starts_nocase(key, tags[i].tag))
		i++;
	key = view_from(key, strlen(tags[i].tag));
	for (k = 0; k < 4 && tags[i].kinds[k] != ACCESS_NONE; k++) {
		bool address = view_find(key, '@') < key.n;

		/* A client is a name or an address, not one of mail. */
		if (address && (tags[i].kinds[k] == ACCESS_CLIENT_NAME ||
		    tags[i].kinds[k] == ACCESS_CLIENT_ADDR))
			continue;
		if (ask_as(s, tags[i].kinds[k], key, &style, ret_row))
			return true;
	}
	return false;
}

/*
 * The key as it is, then its parts as access(5) asks for them, whichever of
 * its two forms the parents of domains have there, then "@domain".
 */
static bool
ask(struct samples *s, struct view key, uint64_t *ret_row)
{
	const struct access_style styles[] = { { .parent_matches = true },
		{ .parent_matches = false } };
	size_t at = view_find(key, '@'), i;
	struct netaddr addr;
	unsigned line;
	enum access_key kind = at < key.n ? ACCESS_ADDRESS :
	    netaddr_parse(key, &addr) ? ACCESS_CLIENT_ADDR : ACCESS_DOMAIN;

	if (s->kind->access != NULL)
		return ask_sendmail(s, key, ret_row);
	if (table_find(s->table, key, &s->value, &line) == TABLE_FOUND) {
		*ret_row = table_row_hash(s->table, line, key,
		    buf_view(&s->value));
		return true;
	}
	for (i = 0; i < sizeof styles / sizeof styles[0]; i++)
		if (ask_as(s, kind, key, &styles[i], ret_row))
			return true;
	return at < key.n && ask_as(s, ACCESS_NONE, view_from(key, at),
	    &styles[0], ret_row);
}

/* -- rows ------------------------------------------------------------------ */

static void
sample_check(struct samples *s, const struct sample *one, uint64_t row,
    unsigned line)
{
	uint64_t answer = 0;
	bool found = ask(s, one->key, &answer) && answer == row;

	if (found != one->match)
		table_complain(s->l, one->line, true, "this sample %s line %u",
		    one->match ? "is not answered by" :
		    "should pass, but is answered by", line);
	else if (one->has_result && !view_eq(buf_view(&s->value),
	    one->result))
		table_complain(s->l, one->line, true, "this sample gets "
		    "\"%.*s\"", VIEW_ARGS(view_head(buf_view(&s->value),
		    200)));
}

/* A comment behind the row may have been read already; it stays. */
static void
samples_row(struct samples *s, struct view text, unsigned line)
{
	struct view key, value;
	uint64_t row;
	size_t i, done = 0;

	const char *why;

	if (!s->begun)
		s->aliases = s->kind->indexed && table_entry_is_alias(text);
	s->begun = true;
	if (s->n == 0 || s->list[0].line > line)
		return;
	if (s->kind->line_result != NULL) {
		/* What stands before "if" is about the first row inside. */
		if (s->kind->line_result(text).n == 0)
			return;
		row = row_hash_text(text);
	} else if (s->aliases) {
		if (!table_entry_alias(text, &s->name, &value, &why))
			return;
		row = row_hash_entry(buf_view(&s->name), value);
	} else if (table_entry(text, &key, &value)) {
		row = row_hash_entry(key, value);
	} else {
		return;
	}
	while (done < s->n && s->list[done].line < line)
		sample_check(s, &s->list[done++], row, line);
	for (i = done; i < s->n; i++)
		s->list[i - done] = s->list[i];
	s->n -= done;
}

static void
samples_plain(struct samples *s, struct table_source *source)
{
	struct view line;

	while (sendmail_line(source, &line))
		samples_row(s, line, source->line);
}

static void
samples_logical(struct samples *s, struct table_source *source)
{
	struct table_loader quiet = { .origin = s->l->origin };
	struct view text;
	unsigned line;

	while (table_source_next(source, &quiet, &text, &line))
		samples_row(s, text, line);
}

bool
table_samples(const struct table *t, struct table_loader *l)
{
	struct samples s = { .table = t, .kind = table_kind_of(t), .l = l };
	struct table_loader quiet = { .origin = l->origin };
	struct table_source source = { 0 };
	size_t i;

	/* An index may have no text, and other tables have none. */
	if (table_file(t) == NULL ||
	    (!s.kind->source && !s.kind->indexed))
		return true;
	if (table_source_file(&source, table_file(t), &quiet)) {
		buf_init(&s.value, VALUE_MAX);
		buf_init(&s.name, VALUE_MAX);
		source.comment = sample_comment;
		source.comment_arg = &s;
		if (s.kind->plain_lines)
			samples_plain(&s, &source);
		else
			samples_logical(&s, &source);
		for (i = 0; i < s.n; i++)
			table_complain(l, s.list[i].line, true,
			    "no rule follows this sample");
		free(s.list);
		buf_free(&s.value);
		buf_free(&s.name);
	}
	table_source_free(&source);
	return l->errors == 0;
}

bool
table_has_samples(struct view spec, const char *config_dir)
{
	struct table_loader quiet = { .config_dir = config_dir };
	struct table_source source = { 0 };
	struct view rest;
	bool found = false, match;
	char *file;

	if (table_spec_kind(spec, config_dir, &file) == NULL)
		return false;
	quiet.origin = file;
	if (table_source_file(&source, file, &quiet)) {
		rest = buf_view(&source.text);
		while (!found && rest.n > 0) {
			rest = view_from(rest, view_find(rest, '#') + 1);
			found = is_sample(view_head(rest, view_find(rest,
			    '\n')), &match);
		}
	}
	table_source_free(&source);
	free(file);
	return found;
}
