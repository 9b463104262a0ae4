#include <errno.h>
#include <stdlib.h>

#include "lib/conf_line.h"
#include "lib/conf_source.h"
#include "lib/log.h"
#include "queue/bounce_template.h"

static const char *const names[TEMPLATES] = {
	[TEMPLATE_FAILURE] = "failure_template",
	[TEMPLATE_DELAY] = "delay_template",
	[TEMPLATE_SUCCESS] = "success_template",
	[TEMPLATE_VERIFY] = "verify_template",
};

/* Read as a file is. */
static const char builtin[] =
"failure_template = <<EOF\n"
"Charset: us-ascii\n"
"From: MAILER-DAEMON (Mail Delivery System)\n"
"Subject: Undelivered Mail Returned to Sender\n"
"Postmaster-Subject: Postmaster Copy: Undelivered Mail\n"
"\n"
"This is the mail system at host $myhostname.\n"
"\n"
"Your message could not be delivered to one or more recipients, and this\n"
"system will not try again.  The reasons are below, then come a report for\n"
"programs and your message or its headers.\n"
"\n"
"For help write to postmaster, and include this report.\n"
"EOF\n"
"delay_template = <<EOF\n"
"Charset: us-ascii\n"
"From: MAILER-DAEMON (Mail Delivery System)\n"
"Subject: Delayed Mail (still being retried)\n"
"Postmaster-Subject: Postmaster Warning: Delayed Mail\n"
"\n"
"This is the mail system at host $myhostname.\n"
"\n"
"THIS IS ONLY A WARNING.  YOU NEED NOT SEND YOUR MESSAGE AGAIN.\n"
"\n"
"Your message has been waiting for more than $delay_warning_time_hours hours."
"\n"
"Delivery will be tried until it is $maximal_queue_lifetime_days days old.\n"
"\n"
"For help write to postmaster, and include this report.\n"
"EOF\n"
"success_template = <<EOF\n"
"Charset: us-ascii\n"
"From: MAILER-DAEMON (Mail Delivery System)\n"
"Subject: Successful Mail Delivery Report\n"
"\n"
"This is the mail system at host $myhostname.\n"
"\n"
"Your message went to the recipients below, as you wanted to know.  Where it\n"
"was given to another system, that one may still tell you of failures.\n"
"EOF\n"
"verify_template = <<EOF\n"
"Charset: us-ascii\n"
"From: MAILER-DAEMON (Mail Delivery System)\n"
"Subject: Mail Delivery Status Report\n"
"\n"
"This is the mail system at host $myhostname.\n"
"\n"
"This is the delivery report that you asked for.\n"
"EOF\n";

struct reader {
	struct bounce_templates *to;
	const struct conf *cf;
	const char *origin;
	conf_report *report;
	void *arg;
	struct conf_lines lines;
	const char *name;		/* of the template being read */
	bool bad, seen[TEMPLATES];
};

static void
reader_say(struct reader *r, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void
reader_say(struct reader *r, unsigned line, const char *fmt, ...)
{
	struct buf b;
	va_list ap;

	r->bad = true;
	buf_init(&b, 4096);
	(void)buf_printf(&b, "%.1000s:%u: ", r->origin, line);
	va_start(ap, fmt);
	(void)buf_vprintf(&b, fmt, ap);
	va_end(ap);
	if (r->name != NULL)
		(void)buf_printf(&b, "; the built-in %s is used", r->name);
	if (r->report != NULL)
		r->report(false, buf_cstr(&b), r->arg);
	buf_free(&b);
}

/* -- $name ------------------------------------------------------------------ */

/* "delay_warning_time_hours" and the like: the time in that unit. */
static bool
time_value(const struct conf *cf, struct view name, int64_t *ret)
{
	static const struct {
		const char *suffix;
		int64_t seconds;
	} units[] = {
		{ "_seconds", 1 }, { "_minutes", 60 }, { "_hours", 3600 },
		{ "_days", 86400 }, { "_weeks", 7 * 86400 },
	};
	const struct {
		const char *name;
		int64_t ms;
	} times[] = {
		{ "delay_warning_time", cf->delay_warning_time },
		{ "maximal_queue_lifetime", cf->maximal_queue_lifetime },
	};
	struct view unit;
	size_t i, k;

	for (i = 0; i < sizeof times / sizeof times[0]; i++) {
		if (!view_starts_nocase(name, times[i].name))
			continue;
		unit = view_from(name, strlen(times[i].name));
		for (k = 0; k < sizeof units / sizeof units[0]; k++)
			if (view_is(unit, units[k].suffix)) {
				*ret = times[i].ms / 1000 / units[k].seconds;
				return true;
			}
	}
	return false;
}

/* The name behind a '$', in brackets or not; *used includes them. */
static struct view
dollar_name(struct view t, size_t *used)
{
	char close = t.n > 0 && t.p[0] == '{' ? '}' :
	    t.n > 0 && t.p[0] == '(' ? ')' : '\0';
	size_t i = close != '\0', start = i;

	while (i < t.n && (isalnum((unsigned char)t.p[i]) || t.p[i] == '_'))
		i++;
	if (close != '\0' && (i == t.n || t.p[i] != close))
		i = start;		/* nothing */
	*used = i + (close != '\0');
	return view_make(t.p + start, i - start);
}

/* A line of a template, expanded. */
static bool
line_expand(struct reader *r, unsigned line, struct view t, struct buf *out)
{
	struct view name;
	const char *value;
	size_t i, used;
	int64_t n;
	bool ok = true;

	for (i = 0; ok && i < t.n; i++) {
		if (t.p[i] != '$') {
			ok = buf_putc(out, t.p[i]);
			continue;
		}
		if (i + 1 < t.n && t.p[i + 1] == '$') {
			ok = buf_putc(out, '$');
			i++;
			continue;
		}
		name = dollar_name(view_from(t, i + 1), &used);
		if (name.n == 0) {
			reader_say(r, line, "a name must follow $");
			return false;
		}
		i += used;
		if (time_value(r->cf, name, &n)) {
			ok = buf_printf(out, "%lld", (long long)n);
			continue;
		}
		value = conf_text(r->cf, name);
		if (value == NULL) {
			reader_say(r, line, "undefined parameter %s",
			    log_safe(name));
			return false;
		}
		ok = buf_puts(out, value);
	}
	if (!ok)
		reader_say(r, line, "the text is too long");
	return ok;
}

/* -- one template ------------------------------------------------------------ */

/* "Label: value"; false after a report. */
static bool
header_read(struct reader *r, unsigned line, struct view text,
    enum template_kind kind, struct bounce_template *t)
{
	size_t colon = view_find(text, ':'), i;
	struct view label = view_head(text, colon);
	struct view value = view_trim(view_from(text, colon + 1)), *to;

	if (view_is_nocase(label, "Charset"))
		to = &t->charset;
	else if (view_is_nocase(label, "From"))
		to = &t->from;
	else if (view_is_nocase(label, "Subject"))
		to = &t->subject;
	else if (view_is_nocase(label, "Postmaster-Subject") &&
	    (kind == TEMPLATE_FAILURE || kind == TEMPLATE_DELAY))
		to = &t->postmaster_subject;
	else {
		reader_say(r, line, "no header of a template: %s",
		    log_safe(label));
		return false;
	}
	for (i = 0; i < value.n; i++)
		if ((unsigned char)value.p[i] < ' ' ||
		    (unsigned char)value.p[i] >= 0x7f ||
		    (to == &t->charset && strchr(" \"();:,<>[]@\\/?=",
		    value.p[i]) != NULL)) {
			reader_say(r, line, "a byte that cannot be in %s:",
			    log_safe(label));
			return false;
		}
	if (value.n == 0 || value.n > TEMPLATE_HEADER_MAX) {
		reader_say(r, line, "%s: is empty or too long",
		    log_safe(label));
		return false;
	}
	*to = arena_copy(r->to->arena, value);
	return true;
}

/* The lines up to the end mark.  *ret_end: it was there. */
static bool
template_lines(struct reader *r, struct view mark, enum template_kind kind,
    struct bounce_template *t, struct buf *text, bool *ret_end)
{
	bool headers = true, ok = true;
	struct view line;

	while (conf_line_physical(&r->lines, &line)) {
		if (view_eq(line, mark)) {
			*ret_end = true;
			return ok;
		}
		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		if (!ok)
			continue;	/* to the end of it */
		if (headers && line.n > 0) {
			ok = header_read(r, r->lines.line, line, kind, t);
			continue;
		}
		if (headers) {
			headers = false;
			continue;
		}
		ok = line_expand(r, r->lines.line, line, text);
		if (ok && line.n > TEMPLATE_LINE_MAX) {
			reader_say(r, r->lines.line, "the line is too long");
			ok = false;
		}
		if (ok && !buf_puts(text, "\r\n")) {
			reader_say(r, r->lines.line, "the text is too long");
			ok = false;
		}
	}
	return ok;
}

/* A value may bring line ends and any length with it. */
static bool
text_good(struct view text)
{
	size_t i, column = 0;

	for (i = 0; i < text.n; i++) {
		if (text.p[i] == '\r' && i + 1 < text.n &&
		    text.p[i + 1] == '\n') {
			i++;
			column = 0;
			continue;
		}
		if (text.p[i] == '\r' || text.p[i] == '\n' ||
		    text.p[i] == '\0' || ++column > TEMPLATE_LINE_MAX)
			return false;
	}
	return true;
}

static void
template_read(struct reader *r, unsigned line, enum template_kind kind,
    struct view mark)
{
	struct bounce_template t = r->to->list[kind];
	struct buf text;
	bool end = false, ok;

	/* Each once: so memory has a limit. */
	r->seen[kind] = true;
	r->name = names[kind];
	buf_init(&text, TEMPLATE_TEXT_MAX);
	ok = template_lines(r, mark, kind, &t, &text, &end);
	if (!end)
		reader_say(r, line, "no end mark %s", log_safe(mark));
	else if (ok && text.n == 0)
		reader_say(r, line, "there is no text");
	else if (ok && !text_good(buf_view(&text)))
		reader_say(r, line, "a line is too long when expanded");
	else if (ok && view_8bit(buf_view(&text)) &&
	    view_is_nocase(t.charset, "us-ascii"))
		reader_say(r, line, "8-bit text needs a Charset: other than "
		    "us-ascii");
	else if (ok) {
		t.text = arena_copy(r->to->arena, buf_view(&text));
		t.is_8bit = view_8bit(t.text);
		r->to->list[kind] = t;
	}
	buf_free(&text);
	r->name = NULL;
}

/* "name = <<MARK"; false: not that. */
static bool
begin_split(struct view line, struct view *ret_name, struct view *ret_mark)
{
	size_t eq = view_find(line, '=');
	struct view v = view_trim(view_from(line, eq + 1));

	*ret_name = view_trim(view_head(line, eq));
	if (eq == line.n || v.n < 3 || v.p[0] != '<' || v.p[1] != '<')
		return false;
	*ret_mark = view_trim(view_from(v, 2));
	return ret_mark->n > 0 && view_find(*ret_mark, ' ') == ret_mark->n;
}

bool
bounce_templates_read(struct bounce_templates *t, const struct conf *cf,
    struct view text, const char *origin, conf_report *report, void *arg)
{
	struct reader r = { .to = t, .cf = cf, .origin = origin,
		.report = report, .arg = arg, .lines = conf_lines_of(text) };
	struct view line, name, mark;
	unsigned at, i;
	bool end;

	while (conf_line_physical(&r.lines, &line)) {
		if (conf_line_blank(line))
			continue;
		at = r.lines.line;
		if (!begin_split(line, &name, &mark)) {
			reader_say(&r, at, "\"name = <<END\" is expected");
			continue;
		}
		for (i = 0; i < TEMPLATES && !view_is(name, names[i]); i++)
			;
		if (i < TEMPLATES && !r.seen[i]) {
			template_read(&r, at, i, mark);
			continue;
		}
		reader_say(&r, at, "%s template: %s", i < TEMPLATES ?
		    "another" : "unknown", log_safe(name));
		/* What follows up to its end is not for us. */
		for (end = false; !end && conf_line_physical(&r.lines, &line); )
			end = view_eq(line, mark);
	}
	return !r.bad;
}

void
bounce_templates_init(struct bounce_templates *t, const struct conf *cf)
{
	*t = (struct bounce_templates){
		.arena = arena_new(16 * TEMPLATE_TEXT_MAX) };
	ensure(bounce_templates_read(t, cf, view_of(builtin), "built-in",
	    log_report, NULL));
}

void
bounce_templates_free(struct bounce_templates *t)
{
	arena_free(&t->arena);
	*t = (struct bounce_templates){ 0 };
}

bool
bounce_templates_load(struct bounce_templates *t, const struct conf *cf,
    const char *file, conf_report *report, void *arg)
{
	char *path = file[0] == '/' ? mem_strdup(file) :
	    mem_printf("%s/%s", cf->config_directory, file), *why;
	struct buf text;
	bool ok;

	buf_init(&text, CONF_READ_MAX);
	ok = conf_read_file(path, &text);
	if (!ok || text.n > TEMPLATE_FILE_MAX) {
		why = mem_printf("%s: %s; the built-in templates are used",
		    path, ok ? "too large" : strerror(errno));
		report(false, why, arg);
		free(why);
		ok = false;
	} else {
		ok = bounce_templates_read(t, cf, buf_view(&text), path,
		    report, arg);
	}
	buf_free(&text);
	free(path);
	return ok;
}
