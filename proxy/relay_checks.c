#include <stdlib.h>

#include "lib/hits.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_checks.h"
#include "proxy/relay_source.h"
#include "rules/mime.h"
#include "rules/pattern_set.h"
#include "rules/table_row.h"
#include "rules/verdict.h"

/* What is looked at in one turn: reads of the text, or time. */
#define SLICE		32u
#define SLICE_READ	8192u
#define SLICE_US	5000
#define EDITS_START	64u
/* A delivery cannot fill the log: further lines are left out. */
#define LOGGED_MAX	1000u
#define LOG_CONTENT	60u	/* bytes that are shown, as in Postfix */
#define WHERE_MAX	1000u
#define VALUE_MAX	(1u << 20)

struct rule_list {
	const char *name;
	struct table_list tables;
};

struct relay_checks {
	struct rule_list header, mime_header, nested_header, body;
	struct mime_options options;
	struct event turn;	/* for the first of those waiting */
	TAILQ_HEAD(, checking) waiting;
	struct buf value, insert, where;
	bool soft;		/* soft_mode: rules only say what they would */
};

/* One delivery's text. */
struct checking {
	struct stage stage;	/* first */
	struct relay_checks *checks;
	struct delivery *delivery;
	void (*go_on)(struct delivery *d);
	bool waits;
	TAILQ_ENTRY(checking) link;

	struct relay_source source;
	struct mime *walk;
	uint32_t logged;
	const char *failed;	/* NULL: not */

	/* In the order of the text; an insert is in bytes, at p. */
	struct changed { uint64_t offset, remove; size_t p, n; } *list;
	size_t n, max;
	struct buf bytes;
};

/* What a rule is asked about, and may change. */
struct unit {
	bool header;
	struct view text;
	uint64_t offset;
	uint64_t size;		/* what IGNORE takes away */
	uint64_t replaced;	/* what REPLACE puts its text for */
};

/* -- rules ----------------------------------------------------------------- */

static const struct timeval at_once;	/* the next turn */

static bool
list_open(const struct conf *cf, const char *name, const char *specs,
    struct rule_list *l, table_report *report, void *arg)
{
	bool ok = true;
	size_t i;

	l->name = name;
	if (!table_list_open(specs, cf->config_directory, &l->tables, report,
	    arg))
		return false;
	for (i = 0; i < l->tables.n; i++)
		ok = verdict_check_table(l->tables.list[i], DIALECT_DELIVERY,
		    report, arg) && ok;
	return ok;
}

static bool
any_rules(const struct conf *cf)
{
	return view_trim(view_of(cf->smtp_header_checks)).n > 0 ||
	    view_trim(view_of(cf->smtp_mime_header_checks)).n > 0 ||
	    view_trim(view_of(cf->smtp_nested_header_checks)).n > 0 ||
	    view_trim(view_of(cf->smtp_body_checks)).n > 0;
}

static void
checks_turn(evutil_socket_t fd, short what, void *arg)
{
	struct relay_checks *c = arg;
	struct checking *k = TAILQ_FIRST(&c->waiting);

	(void)fd;
	(void)what;
	if (k == NULL)
		return;
	TAILQ_REMOVE(&c->waiting, k, link);
	k->waits = false;
	if (!TAILQ_EMPTY(&c->waiting))
		event_add(&c->turn, &at_once);
	k->go_on(k->delivery);
}

bool
relay_checks_open(const struct conf *cf, table_report *report, void *arg,
    struct relay_checks **ret)
{
	struct relay_checks *c;
	bool ok;

	*ret = NULL;
	if (!any_rules(cf))
		return true;
	c = mem_alloc(sizeof *c);
	TAILQ_INIT(&c->waiting);
	c->soft = cf->soft_mode;
	buf_init(&c->value, VALUE_MAX);
	buf_init(&c->insert, EDITS_BYTES_MAX);
	buf_init(&c->where, WHERE_MAX);
	/* What is no line end leaves as a space: relay_text.h. */
	c->options = mime_options_of(cf);
	c->options.stray_is_data = true;
	evtimer_assign(&c->turn, loop_base(), checks_turn, c);
	table_pattern_limits((uint32_t)cf->filter_match_limit);
	table_pattern_sets(pattern_sets(), NULL, NULL);
	ok = list_open(cf, "smtp_header_checks", cf->smtp_header_checks,
	    &c->header, report, arg);
	ok = list_open(cf, "smtp_mime_header_checks",
	    cf->smtp_mime_header_checks, &c->mime_header, report, arg) && ok;
	ok = list_open(cf, "smtp_nested_header_checks",
	    cf->smtp_nested_header_checks, &c->nested_header, report, arg) &&
	    ok;
	ok = list_open(cf, "smtp_body_checks", cf->smtp_body_checks, &c->body,
	    report, arg) && ok;
	if (ok)
		*ret = c;
	else
		relay_checks_free(&c);
	return ok;
}

void
relay_checks_free(struct relay_checks **c)
{
	if (*c == NULL)
		return;
	ensure(TAILQ_EMPTY(&(*c)->waiting));
	event_del(&(*c)->turn);
	table_list_free(&(*c)->header.tables);
	table_list_free(&(*c)->mime_header.tables);
	table_list_free(&(*c)->nested_header.tables);
	table_list_free(&(*c)->body.tables);
	buf_free(&(*c)->value);
	buf_free(&(*c)->insert);
	buf_free(&(*c)->where);
	free(*c);
	*c = NULL;
}

/* -- changes --------------------------------------------------------------- */

static void
checking_failed(struct checking *k, const char *why)
{
	if (k->failed == NULL)
		k->failed = why;
	mime_stop(k->walk);
}

static void
changes_grow(struct checking *k)
{
	size_t max = k->max == 0 ? EDITS_START : 2 * k->max;
	struct changed *list = mem_array(max, sizeof *list);

	if (k->list != NULL)
		memcpy(list, k->list, k->n * sizeof *list);
	free(k->list);
	k->list = list;
	k->max = max;
}

static void
change(struct checking *k, uint64_t offset, uint64_t remove,
    struct view insert)
{
	struct changed *last = k->n > 0 ? &k->list[k->n - 1] : NULL;

	/* Whatever is dropped in one go is one edit. */
	if (last != NULL && insert.n == 0 &&
	    last->offset + last->remove == offset) {
		last->remove += remove;
		return;
	}
	if (k->n == RELAY_CHECKS_EDITS ||
	    insert.n > k->bytes.max - k->bytes.n) {
		checking_failed(k, "too many changes by rules");
		return;
	}
	if (k->n == k->max)
		changes_grow(k);
	ensure(k->list != NULL);
	k->list[k->n++] = (struct changed){ offset, remove, k->bytes.n,
		insert.n };
	ensure(buf_putv(&k->bytes, insert));
}

static void
log_action(struct checking *k, const char *action, const struct unit *u,
    const struct verdict *v)
{
	const char *id = k->delivery->id;

	if (k->logged++ >= LOGGED_MAX) {
		if (k->logged == LOGGED_MAX + 1)
			log_warn("%s: more than %u matches, the others are "
			    "not logged", id, LOGGED_MAX);
		return;
	}
	log_info("%s: %s: %s %s%s%s; rule=%s", id, action,
	    u->header ? "header" : "body",
	    log_safe(view_head(u->text, LOG_CONTENT)),
	    v->text.n > 0 ? ": " : "", log_safe(v->text),
	    log_safe(v->where));
}

/* PREPEND and REPLACE. */
static void
put_text(struct checking *k, const struct unit *u, const struct verdict *v)
{
	bool prepend = v->action == ACTION_PREPEND;
	struct buf *b = &k->checks->insert;

	if (u->header && !verdict_text_is_header(v->text)) {
		log_warn("%s: bad %s header text \"%s\" in %s -- need "
		    "\"headername: headervalue\"", k->delivery->id,
		    action_name(v->action), log_safe(view_head(v->text,
		    LOG_CONTENT)), log_safe(v->where));
		return;
	}
	log_action(k, prepend ? "prepend" : "replace", u, v);
	if (!verdict_text_wire(b, v->text, u->header, prepend))
		checking_failed(k, "too many changes by rules");
	else
		change(k, u->offset, prepend ? 0 : u->replaced, buf_view(b));
}

static void
act(struct checking *k, const struct unit *u, const struct verdict *v)
{
	if (k->checks->soft && action_edits(v->action)) {
		log_action(k, v->action == ACTION_PREPEND ?
		    "soft: would prepend" : v->action == ACTION_REPLACE ?
		    "soft: would replace" : v->action == ACTION_STRIP ?
		    "soft: would strip" : "soft: would ignore", u, v);
		return;
	}
	switch ((int)v->action) {
	case ACTION_WARN:
		log_action(k, "warning", u, v);
		break;
	case ACTION_INFO:
		log_action(k, "info", u, v);
		break;
	case ACTION_PREPEND:
	case ACTION_REPLACE:
		put_text(k, u, v);
		break;
	case ACTION_STRIP:
	case ACTION_IGNORE:
		if (v->action == ACTION_STRIP)
			log_action(k, "strip", u, v);
		change(k, u->offset, u->size, view_make("", 0));
		break;
	default:
		break;
	}
}

static void
ask(struct checking *k, const struct rule_list *l, const struct unit *u)
{
	struct relay_checks *c = k->checks;
	const struct table *t;
	struct verdict v;
	const char *error;
	unsigned line;

	if (l->tables.n == 0 || u->text.n == 0 || k->failed != NULL)
		return;
	switch (table_list_find(&l->tables, u->text, &c->value, &t, &line)) {
	case TABLE_FOUND:
		break;
	case TABLE_NOT_FOUND:
		return;
	case TABLE_FAILED:
		log_warn("%s: %s map lookup problem", k->delivery->id,
		    l->name);
		checking_failed(k, "table lookup error");
		return;
	}
	buf_clear(&c->where);
	(void)buf_puts(&c->where, table_origin(t));
	if (line > 0)
		(void)buf_printf(&c->where, ":%u", line);
	if (!verdict_parse(buf_view(&c->value), DIALECT_DELIVERY, &v,
	    &error)) {
		/* Checked at load; so $1 made it wrong. */
		log_warn("%s: %s: %s: %s", k->delivery->id,
		    log_safe(buf_view(&c->where)), error, log_safe(view_head(
		    buf_view(&c->value), LOG_CONTENT)));
		return;
	}
	v.where = buf_view(&c->where);
	hits_add(v.where, table_row_hash(t, line, u->text,
	    buf_view(&c->value)), v.action == ACTION_WARN ||
	    c->soft, view_of(k->delivery->id));
	act(k, u, &v);
}

/* -- the walk -------------------------------------------------------------- */

static struct checking *
checking_of(struct stage *s)
{
	return (struct checking *)(void *)s;
}

static void
on_header(struct stage *s, const struct mime_header *h)
{
	struct checking *k = checking_of(s);
	const struct relay_checks *c = k->checks;
	struct unit u = { true, h->text, h->offset, h->size,
		h->size - h->line_end };

	ask(k, h->kind == MIME_HEADER_PRIMARY ? &c->header :
	    h->kind == MIME_HEADER_MIME ? &c->mime_header :
	    &c->nested_header, &u);
}

static void
on_headers_end(struct stage *s, const struct mime_part *p, uint64_t offset)
{
	struct checking *k = checking_of(s);
	const struct relay_checks *c = k->checks;

	(void)p;
	(void)offset;
	if (c->mime_header.tables.n == 0 && c->nested_header.tables.n == 0 &&
	    c->body.tables.n == 0)
		mime_stop(k->walk);
}

static void
on_line(struct stage *s, const struct mime_line *l)
{
	struct checking *k = checking_of(s);
	struct unit u = { false, l->text, l->offset, l->size, l->text.n };

	if (k->checks->body.tables.n == 0) {
		s->wants_lines = false;
		return;
	}
	/* A piece of a longer line goes without the line end. */
	if (!l->first || !l->last)
		u.size = l->text.n;
	ask(k, &k->checks->body, &u);
}

static const struct stage_ops checking_ops = {
	.name = "relay",
	.header = on_header,
	.headers_end = on_headers_end,
	.line = on_line,
};

static void
checking_begin(struct relay_checks *c, struct delivery *d,
    void (*go_on)(struct delivery *d))
{
	struct checking *k = mem_alloc(sizeof *k);
	struct stage *stage = &k->stage;

	d->checking = k;
	k->stage.ops = &checking_ops;
	k->checks = c;
	k->delivery = d;
	k->go_on = go_on;
	k->walk = mime_new(&c->options);
	buf_init(&k->bytes, EDITS_BYTES_MAX);
	relay_source_init(&k->source, d->fd, d->text_offset, d->text_size,
	    &d->edits);
	mime_begin(k->walk, &stage, 1);
}

void
relay_check_cancel(struct delivery *d)
{
	struct checking *k = d->checking;

	if (k == NULL)
		return;
	if (k->waits)
		TAILQ_REMOVE(&k->checks->waiting, k, link);
	mime_free(&k->walk);
	buf_free(&k->bytes);
	free(k->list);
	free(k);
	d->checking = NULL;
}

/* The changes come on top of the edits that the message has anyway. */
static void
checking_edit(struct checking *k)
{
	struct delivery *d = k->delivery;
	struct view bytes = arena_copy(d->arena, buf_view(&k->bytes));
	struct edits e = { .n = (uint32_t)k->n };
	const struct edits first = d->edits;
	size_t i;

	e.list = mem_array(k->n, sizeof *e.list);
	for (i = 0; i < k->n; i++)
		e.list[i] = (struct edit){ .offset = k->list[i].offset,
			.remove = k->list[i].remove,
			.insert = view_head(view_from(bytes, k->list[i].p),
			    k->list[i].n) };
	edits_compose(&first, &e, d->text_size, d->arena, &d->edits);
	free(e.list);
	d->size = edits_size(&d->edits, d->text_size);
}

static enum relay_checked
checking_wait(struct checking *k)
{
	if (TAILQ_EMPTY(&k->checks->waiting))
		event_add(&k->checks->turn, &at_once);
	TAILQ_INSERT_TAIL(&k->checks->waiting, k, link);
	k->waits = true;
	return CHECKED_MORE;
}

enum relay_checked
relay_check(struct relay_checks *c, struct delivery *d,
    void (*go_on)(struct delivery *d), const char **ret_why)
{
	enum relay_source_answer a = SOURCE_DATA;
	const struct mono begun = clock_mono();
	struct checking *k;
	struct view piece;
	unsigned i;

	if (d->checking == NULL)
		checking_begin(c, d, go_on);
	k = d->checking;
	for (i = 0; a == SOURCE_DATA && !mime_stopped(k->walk); i++) {
		if (go_on != NULL && (i == SLICE || (i > 0 && mono_since(begun,
		    clock_mono()) >= SLICE_US)))
			return checking_wait(k);
		a = relay_source_read(&k->source, d->relay->piece,
		    SLICE_READ, &piece);
		if (a == SOURCE_DATA)
			mime_feed(k->walk, piece);
	}
	if (a == SOURCE_FAILED)
		k->failed = "the message cannot be read";
	else if (!mime_stopped(k->walk))
		mime_end(k->walk);
	*ret_why = k->failed;
	if (k->failed == NULL && k->n > 0)
		checking_edit(k);
	relay_check_cancel(d);
	if (*ret_why == NULL)
		return CHECKED_DONE;
	log_warn("%s: smtp_header_checks, smtp_body_checks: %s", d->id,
	    *ret_why);
	return CHECKED_FAILED;
}
