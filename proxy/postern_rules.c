/*
 * postern rules: the rows of rule files and the restrictions, and how often
 * each has fired.  The rows come from the files as they are now, the counts
 * from master; a row and its counts meet by file and hash, so that a row that
 * was edited since, or is gone, stands by itself.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lib/conf_source.h"
#include "lib/hits.h"
#include "lib/mem.h"
#include "proxy/postern.h"
#include "rules/policy.h"
#include "rules/table_row.h"
#include "rules/verdict.h"

#define SUMS_MAX	(16u << 20)	/* bytes of master's answer */
#define ROWS_SHOWN	1000u		/* of a file, without hits */
#define TEXT_SHOWN	500u

struct sum {
	uint64_t hash, n, trial, hour, day;
	long long last_us;
	struct view who, where;
	bool used;
};

struct rules {
	const struct conf *cf;
	bool all, json, trials;
	char **files;		/* show these only; ends with NULL */
	struct buf answer;
	struct sum *sums;	/* by hash */
	size_t n;
	char **seen;		/* tables and restrictions, once each */
	size_t n_seen;
	struct conf_source *source;
	char *main_cf;
	/* the file at work */
	char *file;
	enum verdict_dialect dialect;
	bool trial;		/* it is only asked on trial */
	size_t rows, left_out;
};

/* -- master's answer ------------------------------------------------------- */

static bool
sum_parse(struct view line, struct sum *ret)
{
	struct sum s = { 0 };
	uint64_t *const numbers[] = { &s.n, &s.trial, &s.hour, &s.day };
	struct view word = view_word(&line, " ");
	int64_t n;
	size_t i;

	for (i = 0; i < word.n; i++) {
		size_t d = view_find(view_of("0123456789abcdef"), word.p[i]);

		if (d == 16)
			return false;
		s.hash = s.hash << 4 | d;
	}
	for (i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		if (!conf_parse_int(view_word(&line, " "), 0, INT64_MAX, &n))
			return false;
		*numbers[i] = (uint64_t)n;
	}
	if (!conf_parse_int(view_word(&line, " "), 0, INT64_MAX, &n))
		return false;
	s.last_us = n;
	s.who = view_word(&line, " ");
	s.where = view_trim(line);
	*ret = s;
	return s.who.n > 0 && s.where.n > 0;
}

static int
sum_compare(const void *a, const void *b)
{
	const struct sum *x = a, *y = b;

	return (x->hash > y->hash) - (x->hash < y->hash);
}

static void
sums_read(struct rules *r)
{
	struct view rest = buf_view(&r->answer), line;
	size_t room = 0;
	struct sum s;

	while (rest.n > 0) {
		line = view_head(rest, view_find(rest, '\n'));
		rest = view_from(rest, line.n + 1);
		if (!sum_parse(line, &s))
			continue;
		if (r->n == room) {
			room = room > 0 ? 2 * room : 64;
			r->sums = mem_resize(r->sums, room, sizeof *r->sums);
		}
		r->sums[r->n++] = s;
	}
	if (r->n > 0)
		qsort(r->sums, r->n, sizeof *r->sums, sum_compare);
}

/* Is this place in the log a row of the file? */
static bool
where_in_file(struct view where, const char *file)
{
	struct view line;
	size_t n = strlen(file), i;

	if (where.n < n || memcmp(where.p, file, n) != 0)
		return false;
	line = view_from(where, n);
	for (i = 1; i < line.n; i++)
		if (line.p[i] < '0' || line.p[i] > '9')
			return false;
	return line.n == 0 || (line.n > 1 && line.p[0] == ':');
}

/* All that was counted of a row: it may have stood on several lines. */
static void
sum_of(struct rules *r, uint64_t hash, const char *file, struct view where,
    struct sum *ret)
{
	size_t low = 0, high = r->n, mid;
	struct sum *s;

	*ret = (struct sum){ .hash = hash };
	while (low < high) {
		mid = low + (high - low) / 2;
		if (r->sums[mid].hash < hash)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < r->n && r->sums[low].hash == hash; low++) {
		s = &r->sums[low];
		if (s->used || (file != NULL ? !where_in_file(s->where, file) :
		    !view_eq(s->where, where)))
			continue;
		s->used = true;
		ret->n += s->n;
		ret->trial += s->trial;
		ret->hour += s->hour;
		ret->day += s->day;
		if (s->last_us >= ret->last_us) {
			ret->last_us = s->last_us;
			ret->who = s->who;
		}
	}
}

/* -- showing --------------------------------------------------------------- */

static void
json_string(struct view v)
{
	size_t i;

	putchar('"');
	for (i = 0; i < v.n; i++) {
		unsigned char c = (unsigned char)v.p[i];

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < ' ' || c == 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void
show_json(const struct sum *s, struct view file, unsigned line,
    struct view text, bool trial, bool gone)
{
	printf("{\"file\": ");
	json_string(file);
	if (line > 0)
		printf(", \"line\": %u", line);
	printf(", \"rule\": ");
	json_string(text);
	printf(", \"trial\": %s, \"hits\": %llu, \"warned\": %llu, "
	    "\"hour\": %llu, \"day\": %llu", trial ? "true" : "false",
	    (unsigned long long)s->n, (unsigned long long)s->trial,
	    (unsigned long long)s->hour, (unsigned long long)s->day);
	if (s->n > 0) {
		printf(", \"last\": %lld, \"by\": ", s->last_us / 1000000);
		json_string(s->who);
	}
	printf("%s}\n", gone ? ", \"gone\": true" : "");
}

static void
show(const struct rules *r, const struct sum *s, struct view file,
    unsigned line, struct view text, bool trial, bool gone)
{
	char last[32] = "-", place[16] = "";
	time_t t = (time_t)(s->last_us / 1000000);
	struct tm tm;

	if (r->trials && !trial && s->trial == 0)
		return;
	if (r->json) {
		show_json(s, file, line, text, trial, gone);
		return;
	}
	if (s->n > 0 && localtime_r(&t, &tm) != NULL)
		(void)strftime(last, sizeof last, "%Y-%m-%d %H:%M:%S", &tm);
	if (line > 0)
		(void)snprintf(place, sizeof place, ":%u", line);
	printf("%8llu %8llu %8llu %8llu  %-19s  %-15.*s  %.*s%s: %s\n",
	    (unsigned long long)s->n, (unsigned long long)s->trial,
	    (unsigned long long)s->hour, (unsigned long long)s->day, last,
	    (int)(s->n > 0 ? s->who.n : 1), s->n > 0 ? s->who.p : "-",
	    VIEW_ARGS(file), place, gone ? "(edited since, or gone)" :
	    log_safe(view_head(text, TEXT_SHOWN)));
}

static bool
wanted(const struct rules *r, const char *file)
{
	const char *base = strrchr(file, '/');
	char **f;

	for (f = r->files; *f != NULL; f++)
		if (strcmp(*f, file) == 0 ||
		    (base != NULL && strcmp(*f, base + 1) == 0))
			return true;
	return r->files[0] == NULL;
}

static bool
once(struct rules *r, struct view what)
{
	size_t i;

	for (i = 0; i < r->n_seen; i++)
		if (view_is(what, r->seen[i]))
			return false;
	r->seen = mem_resize(r->seen, r->n_seen + 1, sizeof *r->seen);
	r->seen[r->n_seen++] = mem_copy(what);
	return true;
}

/* -- rows of tables -------------------------------------------------------- */

static void
row_count(const struct table_row *row, void *arg)
{
	struct rules *r = arg;

	(void)row;
	r->rows++;
}

static void
row_show(const struct table_row *row, void *arg)
{
	struct rules *r = arg;
	const char *why;
	struct verdict v;
	struct sum s;
	bool trial;

	if (row->result.n == 0)
		return;
	trial = verdict_parse(row->result, r->dialect, &v, &why) &&
	    (v.action == ACTION_WARN || (r->trial &&
	    (v.action == ACTION_REJECT || v.action == ACTION_DEFER)));
	sum_of(r, row->hash, r->file, view_of(""), &s);
	if (s.n == 0 && r->rows > ROWS_SHOWN && !r->all && !trial)
		r->left_out++;
	else
		show(r, &s, view_of(r->file), row->line, row->text, trial,
		    false);
}

static void
rules_table(struct rules *r, struct view spec, enum verdict_dialect dialect)
{
	char *file;

	bool first;

	r->rows = r->left_out = 0;
	r->dialect = dialect;
	if (!table_rows(spec, r->cf->config_directory, row_count, r, &file))
		return;
	first = once(r, view_of(file)) && wanted(r, file);
	free(file);
	if (!first || !table_rows(spec, r->cf->config_directory, row_show, r,
	    &r->file))
		return;
	if (r->left_out > 0 && !r->json && !r->trials)
		printf("%zu more rows of %s have no hits (-a shows them)\n",
		    r->left_out, r->file);
	free(r->file);
	r->file = NULL;
}

static void
rules_tables(struct rules *r, const char *specs, enum verdict_dialect dialect)
{
	struct view rest = view_of(specs), word;

	while ((word = conf_word(&rest)).n > 0)
		rules_table(r, word, dialect);
}

/* Those of a policy class, or of recipients without one. */
static void
rules_filter_class(struct rules *r, const struct conf *cf, struct view class)
{
	const char *name, *specs;
	char *own;
	size_t i;

	for (i = 0; (name = conf_class_params[i]) != NULL; i++) {
		if (!view_ends_nocase(view_of(name), view_of("_checks")) ||
		    strcmp(name, "mime_ambiguity_checks") == 0)
			continue;
		own = mem_printf("%.*s%s%s", VIEW_ARGS(class),
		    class.n > 0 ? "_" : "", name);
		specs = conf_text(cf, view_of(own));
		if (specs != NULL)
			rules_tables(r, specs,
			    strcmp(name, "attachment_checks") == 0 ?
			    DIALECT_ATTACHMENTS :
			    strcmp(name, "decoded_body_checks") == 0 ?
			    DIALECT_DECODED : DIALECT_CHECKS);
		free(own);
	}
}

static void
rules_filter(struct rules *r, const struct conf *cf)
{
	struct view rest = view_of(cf->filter_policy_classes), class;

	rules_filter_class(r, cf, view_make("", 0));
	while ((class = conf_word(&rest)).n > 0)
		rules_filter_class(r, cf, class);
}

static void
rules_relay(struct rules *r, const struct conf *cf)
{
	rules_tables(r, cf->smtp_header_checks, DIALECT_DELIVERY);
	rules_tables(r, cf->smtp_mime_header_checks, DIALECT_DELIVERY);
	rules_tables(r, cf->smtp_nested_header_checks, DIALECT_DELIVERY);
	rules_tables(r, cf->smtp_body_checks, DIALECT_DELIVERY);
}

static void
rules_access(const char *spec, bool trial, void *arg)
{
	struct rules *r = arg;

	r->trial = trial;
	rules_table(r, view_of(spec), DIALECT_ACCESS);
	r->trial = false;
}

/* -- restrictions ---------------------------------------------------------- */

static void
rules_restriction(struct view where, bool trial, void *arg)
{
	struct rules *r = arg;
	const struct conf_setting *set = conf_source_find(r->source,
	    view_head(where, view_find(where, ':')));
	struct sum s;

	if (!wanted(r, r->main_cf) || !once(r, where))
		return;
	sum_of(r, 0, NULL, where, &s);
	if (s.n > 0 || trial || r->all)
		show(r, &s, view_of(r->main_cf), set != NULL ? set->line : 0,
		    where, trial, false);
}

static void
rules_smtpd(struct rules *r, const struct conf *cf)
{
	struct policy *p = policy_open(cf, NULL, 0, log_report_errors, NULL);

	if (p == NULL)
		return;
	policy_each_table(p, rules_access, r);
	policy_each_rule(p, rules_restriction, r);
	policy_free(&p);
}

/* -- the command ----------------------------------------------------------- */

static void
rules_main_cf(struct rules *r, const char *config_dir)
{
	struct conf_reporter quiet = { 0 };
	struct buf text;

	r->main_cf = mem_printf("%s/main.cf", config_dir);
	r->source = conf_source_new(r->main_cf);
	buf_init(&text, CONF_READ_MAX);
	if (conf_read_file(r->main_cf, &text))
		conf_source_read(r->source, buf_view(&text), &quiet);
	buf_free(&text);
}

static void
rules_gone(struct rules *r)
{
	size_t i;

	for (i = 0; i < r->n && r->files[0] == NULL; i++)
		if (!r->sums[i].used)
			show(r, &r->sums[i], r->sums[i].where, 0,
			    view_of(""), false, true);
}

static void
rules_show(struct rules *r, const struct config *c)
{
	const struct conf *cf;
	size_t i;

	if (!r->json)
		printf("%8s %8s %8s %8s  %-19s  %-15s  %s\n", "HITS",
		    "WARNED", "HOUR", "DAY", "LAST", "BY", "RULE");
	for (i = 0; i < c->n_teams; i++) {
		r->cf = cf = c->teams[i].cf;
		if (c->teams[i].entry->kind == ROLE_FILTER)
			rules_filter(r, cf);
		else if (c->teams[i].entry->kind == ROLE_SMTPD)
			rules_smtpd(r, cf);
		else if (c->teams[i].entry->kind == ROLE_RELAY)
			rules_relay(r, cf);
	}
	rules_gone(r);
}

static void
rules_options(struct rules *r, int argc, char **argv)
{
	static const struct option words[] = {
		{ "json", no_argument, NULL, 'j' }, { NULL, 0, NULL, 0 } };
	int ch;

	optind = 1;
	while ((ch = getopt_long(argc, argv, "ajt", words, NULL)) != -1) {
		r->all = r->all || ch == 'a';
		r->json = r->json || ch == 'j';
		r->trials = r->trials || ch == 't';
		if (ch == '?')
			fatal("usage: postern rules [-ajt] [FILE...]");
	}
	r->files = argv + optind;
}

int
postern_rules(struct postern *p, int argc, char **argv)
{
	struct rules r = { 0 };
	struct master m = { .config_dir = p->config_dir };
	const char *why = NULL;
	struct config *c;
	bool runs;
	size_t i;

	rules_options(&r, argc, argv);
	c = config_load(&m, &postern_reporter);
	if (c == NULL)
		return 1;
	table_check_only();
	buf_init(&r.answer, SUMS_MAX);
	runs = postern_running(c->cf) != 0;
	if (!runs)
		log_warn("Postern is not running: no rule has a hit");
	else if (!postern_fetch(c->cf, "rules", &r.answer, &why))
		fatal("%s", why != NULL ? why : "master ended meanwhile");
	sums_read(&r);
	rules_main_cf(&r, p->config_dir);
	rules_show(&r, c);
	conf_source_free(&r.source);
	for (i = 0; i < r.n_seen; i++)
		free(r.seen[i]);
	free(r.seen);
	free(r.main_cf);
	free(r.sums);
	buf_free(&r.answer);
	config_free(&c);
	return runs ? 0 : POSTERN_NOT_RUNNING;
}
