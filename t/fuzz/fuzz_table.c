/*
 * Tables and match lists.  An input is text in three parts, divided by lines
 * "==": a kind ("regexp", "pcre", "cidr", "texthash", "sendmail-...", "nets",
 * "domains", "aliases", or the whole name of a table, as "inline:{a=b}"),
 * what the file holds, and keys, one on a line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/log.h"
#include "rules/addr_list.h"
#include "rules/pattern_set.h"
#include "rules/table_impl.h"
#include "rules/verdict.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next part, up to a line "==". */
static struct view
part(struct view *rest)
{
	struct view all = *rest;

	for (size_t i = 0; i + 4 <= all.n; i++) {
		if (memcmp(all.p + i, "\n==\n", 4) == 0) {
			*rest = view_from(all, i + 4);
			return view_head(all, i + 1);
		}
	}
	*rest = view_from(all, all.n);
	return all;
}

static struct view
line(struct view *rest)
{
	struct view l = view_head(*rest, view_find(*rest, '\n'));

	*rest = view_from(*rest, l.n + 1);
	return l;
}

static void
report(bool error, const char *text, void *arg)
{
	unsigned *errors = arg;

	ensure(strlen(text) > 0);
	*errors += error;
}

static void
one_result(struct view result, unsigned n, void *arg)
{
	unsigned *results = arg;

	(void)n;
	for (size_t i = 0; i < result.n; i++)
		*results += result.p[i] != '\0';
}

/* What access(5) asks for; the same key twice gives the same. */
static void
use_access(const struct table *t, struct view key, struct buf *value)
{
	const struct access_style style = { key.n % 2 == 0, "+-" };
	enum table_answer a, b;
	unsigned line = 0;

	for (int k = ACCESS_NONE; k <= ACCESS_CLIENT_ADDR; k++) {
		a = access_find(t, (enum access_key)k, key, &style, value,
		    &line, NULL);
		ensure(a == TABLE_FOUND || a == TABLE_NOT_FOUND ||
		    a == TABLE_FAILED);
		b = access_find(t, (enum access_key)k, key, &style, value,
		    &line, NULL);
		ensure(a == b);
	}
}

static void
use_table(struct table *t, struct view keys)
{
	unsigned n = 0;
	struct buf value;

	buf_init(&value, 1000);
	table_each_result(t, one_result, &n);
	table_check_samples(t, report, &n);
	verdict_check_table(t, DIALECT_CHECKS, report, &n);
	verdict_check_table(t, DIALECT_ACCESS, report, &n);
	while (keys.n > 0) {
		struct view key = line(&keys);
		struct verdict v;
		const char *why;
		unsigned at = 0;
		size_t pos = 0;
		enum table_answer first = table_find(t, key, &value, &at);

		ensure(first != TABLE_FOUND || value.n <= 1000);
		if (first == TABLE_FOUND && verdict_parse(buf_view(&value),
		    DIALECT_CHECKS, &v, &why))
			ensure(v.action != ACTION_NONE);
		ensure(table_find_from(t, &pos, key, &value, &at) == first);
		use_access(t, key, &value);
		for (unsigned i = 0; i < 20 && table_find_from(t, &pos, key,
		    &value, &at) == TABLE_FOUND; i++)
			;
	}
	buf_free(&value);
}

/*
 * The C library compiles some patterns of an administrator into gigabytes or
 * minutes of work.  That is not what is looked for here.
 */
static bool
too_hard(struct view text)
{
	unsigned repeats = 0;

	for (size_t i = 0; i < text.n; i++) {
		/* Each "+" doubles what it repeats. */
		if (text.p[i] == '+' && ++repeats > 8)
			return true;
		if (text.p[i] == '{' && (i == 0 || text.p[i - 1] != '$'))
			return true;
		if (text.p[i] == '\\' && i + 1 < text.n &&
		    text.p[i + 1] >= '1' && text.p[i + 1] <= '9')
			return true;
	}
	return text.n > 400;
}

/* A "/" that is not the one before the length of a network. */
static bool
names_file(struct view text)
{
	for (size_t i = 0; i < text.n; i++)
		if (text.p[i] == '/' && (i == 0 ||
		    (text.p[i - 1] != ']' && !isxdigit(
		    (unsigned char)text.p[i - 1]))))
			return true;
	return false;
}

static void
use_list(struct view kind, struct view text, struct view keys)
{
	char *patterns = mem_copy(text);
	unsigned errors = 0;
	bool nets = view_is(kind, "nets");
	struct addr_list *l = nets ?
	    net_list_open("nets", patterns, "/nowhere", report, &errors) :
	    domain_list_open("domains", patterns, text.n % 2 == 0, "/nowhere",
	    report, &errors);

	ensure((l == NULL) == (errors > 0));
	while (l != NULL && keys.n > 0) {
		struct view key = line(&keys);
		struct netaddr a = { 0 };

		if (!nets) {
			ensure(domain_list_match(l, key) != TABLE_FAILED ||
			    text.n > 0);
			continue;
		}
		(void)netaddr_parse(key, &a);
		(void)net_list_match(l, key, &a);
	}
	addr_list_free(&l);
	free(patterns);
}

/* An alias file: every entry that is kept is found again. */
static void
use_aliases(const char *path)
{
	unsigned errors = 0, line;
	struct table_loader l = { .origin = "aliases", .report = report,
	    .arg = &errors };
	struct memory_table *m = memory_new(false);
	struct table_source s = { 0 };
	struct view key, value, again;

	if (table_source_file(&s, path, &l))
		table_read_entries(&s, &l, FORMAT_GUESS, DUPLICATE_REPLACE,
		    false, m);
	table_source_free(&s);
	for (size_t i = 0; i < memory_count(m); i++) {
		memory_entry(m, i, &key, &value, &line);
		ensure(key.n > 0 && value.n > 0 && line > 0);
		ensure(memory_has(m, key, &again, &line));
		ensure(view_eq(again, value));
	}
	memory_release(m);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view rest = view_make(data, size);
	struct view kind = view_trim(part(&rest)), text = part(&rest);
	char spec[100];
	struct table *t;
	unsigned errors = 0;
	int fd = -1;

	table_pattern_limits(1000);
	table_pattern_sets(pattern_sets(), literal_databases(), NULL);
	if (view_is(kind, "nets") || view_is(kind, "domains")) {
		/* Files could be anything on this machine. */
		if (!names_file(text) && !too_hard(text))
			use_list(kind, text, rest);
		return 0;
	}
	if (view_is(kind, "regexp") || view_is(kind, "pcre") ||
	    view_is(kind, "cidr") || view_is(kind, "texthash") ||
	    view_is(kind, "aliases") ||
	    (view_starts_nocase(kind, "sendmail-") &&
	    view_find(kind, ':') == kind.n)) {
		if (view_is(kind, "regexp") && too_hard(text))
			return 0;
		fd = memfd_create("table", MFD_CLOEXEC);
		if (fd < 0 || (text.n > 0 && write(fd, text.p, text.n) < 0) ||
		    lseek(fd, 0, SEEK_SET) < 0)
			abort();
		snprintf(spec, sizeof(spec), "%.*s:/proc/self/fd/%d",
		    VIEW_ARGS(kind), fd);
		if (view_is(kind, "aliases")) {
			use_aliases(spec + sizeof "aliases");
			close(fd);
			return 0;
		}
		t = table_open(view_of(spec), NULL, report, &errors);
	} else {
		size_t colon = view_find(kind, ':');

		/* No file of this machine, and no hard pattern. */
		if (view_find(kind, '/') < kind.n || colon + 1 >= kind.n ||
		    kind.p[colon + 1] != '{')
			return 0;
		for (size_t i = 0; i < kind.n; i++)
			if (view_starts_nocase(view_from(kind, i), "regexp"))
				return 0;
		t = table_open(kind, "/nowhere", report, &errors);
	}
	ensure((t == NULL) == (errors > 0));
	if (t != NULL)
		use_table(t, rest);
	table_free(&t);
	if (fd >= 0)
		close(fd);
	return 0;
}
