#include <stdarg.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/import_report.h"

struct entry {
	struct import_place at;
	enum import_outcome outcome;
	char *text, *why;
};

struct import_report {
	struct entry *list;
	size_t n, cap;
	size_t count[IMPORT_OUTCOMES];
	struct import_names names;
};

static const char *const outcomes[IMPORT_OUTCOMES] = {
	[IMPORT_CARRIED] = "carried over",
	[IMPORT_CHANGED] = "changed",
	[IMPORT_DROPPED] = "not carried over",
	[IMPORT_UNKNOWN] = "unknown",
};

const char *
import_outcome_name(enum import_outcome outcome)
{
	ensure(outcome > 0 && outcome < IMPORT_OUTCOMES);
	return outcomes[outcome];
}

const char *
import_name(struct import_names *names, const char *file)
{
	size_t i;

	if (file == NULL)
		return NULL;
	/* the last one again, as a rule */
	for (i = names->n; i > 0; i--)
		if (strcmp(names->list[i - 1], file) == 0)
			return names->list[i - 1];
	names->list = mem_resize(names->list, names->n + 1,
	    sizeof *names->list);
	names->list[names->n] = mem_strdup(file);
	return names->list[names->n++];
}

void
import_names_free(struct import_names *names)
{
	while (names->n > 0)
		free(names->list[--names->n]);
	free(names->list);
	names->list = NULL;
}

struct import_report *
import_report_new(void)
{
	return mem_alloc(sizeof(struct import_report));
}

void
import_report_free(struct import_report **r)
{
	struct import_report *old = *r;
	size_t i;

	*r = NULL;
	if (old == NULL)
		return;
	for (i = 0; i < old->n; i++) {
		free(old->list[i].text);
		free(old->list[i].why);
	}
	free(old->list);
	import_names_free(&old->names);
	free(old);
}

/* One line, with a blank for white space; what was cut is shown. */
static char *
report_text(struct view v)
{
	struct view head = view_head(v, IMPORT_TEXT_MAX);
	char *raw = mem_alloc(head.n + 1), *text;
	size_t i, n = 0;

	for (i = 0; i < head.n; i++)
		if (!view_space(head.p[i]))
			raw[n++] = head.p[i];
		else if (n > 0 && raw[n - 1] != ' ')
			raw[n++] = ' ';
	text = mem_printf("%s%s", log_safe(view_make(raw, n)),
	    head.n < v.n ? "..." : "");
	free(raw);
	return text;
}

void
import_note(struct import_report *r, struct import_place at,
    struct view text, enum import_outcome outcome, const char *why, ...)
{
	struct entry *e;
	struct buf b;
	va_list ap;

	ensure(outcome > 0 && outcome < IMPORT_OUTCOMES);
	r->count[outcome]++;
	if (r->n == IMPORT_ENTRIES_MAX)
		return;
	if (r->n == r->cap) {
		r->cap = r->cap == 0 ? 64 : r->cap * 2;
		r->list = mem_resize(r->list, r->cap, sizeof *r->list);
	}
	buf_init(&b, 4096);
	va_start(ap, why);
	if (!buf_vprintf(&b, why, ap))
		(void)buf_puts(&b, "?");
	va_end(ap);
	at.file = import_name(&r->names, at.file);
	e = &r->list[r->n++];
	*e = (struct entry){ .at = at, .outcome = outcome,
	    .text = report_text(text),
	    .why = mem_strdup(log_safe(buf_view(&b))) };
	buf_free(&b);
}

size_t
import_report_count(const struct import_report *r,
    enum import_outcome outcome)
{
	ensure(outcome > 0 && outcome < IMPORT_OUTCOMES);
	return r->count[outcome];
}

bool
import_report_has(const struct import_report *r, struct import_place at)
{
	size_t i;

	/* what is asked for was noted a moment ago, if it was */
	for (i = r->n; i > 0; i--)
		if (r->list[i - 1].at.line == at.line && at.file != NULL &&
		    r->list[i - 1].at.file != NULL &&
		    strcmp(r->list[i - 1].at.file, at.file) == 0)
			return true;
	return false;
}

static bool
print_entry(const struct entry *e, struct buf *out)
{
	bool ok = true;

	if (e->at.file != NULL)
		ok = buf_puts(out, e->at.file);
	if (ok && e->at.file != NULL && e->at.line > 0)
		ok = buf_printf(out, ":%u", e->at.line);
	return ok && buf_printf(out, "%s%s: %s\n",
	    e->at.file != NULL ? ": " : "", outcomes[e->outcome], e->text) &&
	    (e->why[0] == '\0' || buf_printf(out, "\t%s\n", e->why));
}

bool
import_report_print(const struct import_report *r, const char *title,
    struct buf *out)
{
	static const enum import_outcome order[] = { IMPORT_UNKNOWN,
		IMPORT_DROPPED, IMPORT_CHANGED, IMPORT_CARRIED };
	bool ok = buf_printf(out, "%s\n\n", title);
	size_t i, j;

	for (i = 0; i < sizeof order / sizeof order[0]; i++)
		ok = ok && buf_printf(out, "%6zu %s\n", r->count[order[i]],
		    outcomes[order[i]]);
	if (ok && r->n == IMPORT_ENTRIES_MAX)
		ok = buf_printf(out, "Only the first %u are listed.\n",
		    IMPORT_ENTRIES_MAX);
	for (i = 0; i < sizeof order / sizeof order[0]; i++) {
		if (r->count[order[i]] > 0)
			ok = ok && buf_puts(out, "\n");
		for (j = 0; j < r->n; j++)
			if (r->list[j].outcome == order[i])
				ok = ok && print_entry(&r->list[j], out);
	}
	return ok;
}
