#include <stdlib.h>

#include "filters/milter_checks.h"
#include "lib/hits.h"
#include "lib/log.h"
#include "rules/table_remote.h"
#include "rules/table_row.h"

#define HEADER_MAX	65536u	/* of what a rule is asked about */
#define VALUE_MAX	(1u << 20)
#define LOG_HEADER	200u

static struct table_list checks;
static const char *config_dir;

bool
milter_checks_load(const struct conf *cf, table_report *report, void *arg)
{
	size_t before = table_remote_opened(), i;
	bool ok = true;

	config_dir = cf->config_directory;
	if (cf->milter_header_checks[0] == '\0')
		return true;
	if (!table_list_open(cf->milter_header_checks, config_dir, &checks,
	    report, arg))
		return false;
	if (table_remote_opened() != before) {
		report(true, "milter_header_checks cannot have tables behind "
		    "a connection", arg);
		return false;
	}
	for (i = 0; i < checks.n; i++)
		ok = verdict_check_table(checks.list[i], DIALECT_CHECKS,
		    report, arg) && ok;
	return ok;
}

void
milter_log_envelope(struct buf *b, const struct envelope *e)
{
	(void)buf_printf(b, "; from=<%s>", log_safe(e->sender));
	if (e->nrcpts == 1)
		(void)buf_printf(b, " to=<%s>", log_safe(e->rcpts[0].addr));
	else
		(void)buf_printf(b, " nrcpt=%u", e->nrcpts);
	(void)buf_printf(b, " proto=%s", log_safe(e->proto));
	if (e->helo.n > 0)
		(void)buf_printf(b, " helo=<%s>", log_safe(e->helo));
}

struct change {
	const char *id;
	const struct envelope *envelope;
	struct arena *arena;
	struct findings *findings;
	struct milter_edit *list;
	size_t n;
	bool failed;
};

static void
log_match(const struct change *c, const char *action, struct view header,
    const struct verdict *v)
{
	struct buf b;

	buf_init(&b, 8192);
	(void)buf_printf(&b, "%s: milter-%s: header %s from %s[%s]", c->id,
	    action, log_safe(view_head(header, LOG_HEADER)),
	    log_safe(c->envelope->client_name),
	    log_safe(c->envelope->client_addr));
	milter_log_envelope(&b, c->envelope);
	if (v->text.n > 0)
		(void)buf_printf(&b, ": %s%s%s", log_safe(v->status),
		    v->status.n > 0 ? " " : "", log_safe(v->text));
	(void)buf_printf(&b, "; rule=%s", log_safe(v->where));
	log_info("%s", buf_cstr(&b));
	buf_free(&b);
}

static bool
put(struct change *c, const struct milter_edit *e)
{
	if (c->n == MILTER_EDITS_MAX) {
		c->failed = true;
		return false;
	}
	c->list[c->n++] = *e;
	return true;
}

/* text is "Name: value", as the parser of rules made sure. */
static struct milter_edit
with_header(const struct change *c, const struct milter_edit *e,
    struct view text)
{
	struct milter_edit is = *e;
	size_t at = view_find(text, ':'), i, k = 0;
	struct view value = view_trim(view_from(text, at + 1));
	char *to = arena_alloc(c->arena, value.n + 1);

	/* What $1 took may have lines; they go on. */
	for (i = 0; i < value.n; i++)
		to[k++] = value.p[i] == '\n' || value.p[i] == '\r' ||
		    value.p[i] == '\0' ? ' ' : value.p[i];
	is.name = arena_copy(c->arena, view_trim(view_head(text, at)));
	is.value = view_make(to, k);
	return is;
}

static void
unfit(struct change *c, bool ok, const struct verdict *v)
{
	if (ok)
		return;
	log_warn("%s: %s of %s cannot be carried out", c->id,
	    action_name(v->action), log_safe(v->where));
	c->failed = true;
}

/* True: the header stays as the filter wants it. */
static bool
act(struct change *c, const struct milter_edit *e, struct view header,
    const struct verdict *v)
{
	struct milter_edit other;

	switch ((int)v->action) {
	case ACTION_REJECT:
	case ACTION_DISCARD:
	case ACTION_HOLD:
		log_match(c, v->action == ACTION_REJECT ? "reject" :
		    v->action == ACTION_HOLD ? "hold" : "discard", header, v);
		findings_decide(c->findings, v);
		return true;
	case ACTION_WARN:
	case ACTION_INFO:
	case ACTION_PASS:
		log_match(c, v->action == ACTION_WARN ? "warning" :
		    v->action == ACTION_INFO ? "info" : "pass", header, v);
		if (v->action == ACTION_PASS)
			c->findings->passed = true;
		return true;
	case ACTION_FILTER:
		log_match(c, "filter", header, v);
		unfit(c, findings_filter(c->findings, v->text), v);
		return true;
	case ACTION_REDIRECT:
		log_match(c, "redirect", header, v);
		unfit(c, findings_redirect(c->findings, v->text), v);
		return true;
	case ACTION_BCC:
		log_match(c, "bcc", header, v);
		unfit(c, findings_bcc(c->findings, v->text), v);
		return true;
	case ACTION_PREPEND:
		log_match(c, "prepend", header, v);
		other = with_header(c, e, v->text);
		if (other.kind == MILTER_EDIT_CHANGE_HEADER)
			other.kind = MILTER_EDIT_ADD_HEADER;
		(void)put(c, &other);
		return true;
	case ACTION_REPLACE:
		log_match(c, "replace", header, v);
		other = with_header(c, e, v->text);
		(void)put(c, &other);
		return false;
	case ACTION_STRIP:
		log_match(c, "strip", header, v);
		return false;
	case ACTION_IGNORE:
		return false;
	default:
		return true;
	}
}

static bool
keeps(struct change *c, const struct milter_edit *e)
{
	const struct table *t;
	struct buf header, value;
	const char *error = "";
	struct verdict v;
	bool kept = true;
	unsigned line;
	char *where;

	if (e->kind > MILTER_EDIT_CHANGE_HEADER || e->value.n == 0 ||
	    c->findings->passed)
		return true;
	buf_init(&header, HEADER_MAX);
	buf_init(&value, VALUE_MAX);
	(void)buf_printf(&header, "%.*s: ", VIEW_ARGS(e->name));
	(void)buf_putv(&header, view_head(e->value, HEADER_MAX - header.n));
	switch (table_list_find(&checks, buf_view(&header), &value, &t,
	    &line)) {
	case TABLE_NOT_FOUND:
		break;
	case TABLE_FAILED:
		log_warn("%s: %s lookup error", c->id, table_name(t));
		c->failed = true;
		break;
	case TABLE_FOUND:
		if (!verdict_parse(buf_view(&value), DIALECT_CHECKS, &v,
		    &error)) {
			log_warn("%s: %s:%u: %s", c->id, table_origin(t),
			    line, error);
			break;
		}
		where = mem_printf("%s:%u", table_origin(t), line);
		v.where = view_of(where);
		hits_add(v.where, table_row_hash(t, line, buf_view(&header),
		    buf_view(&value)), v.action == ACTION_WARN,
		    view_of(c->id));
		kept = act(c, e, buf_view(&header), &v);
		free(where);
		break;
	}
	buf_free(&header);
	buf_free(&value);
	return kept;
}

bool
milter_checks_apply(const char *id, const struct envelope *e,
    const struct milter_edit *list, size_t n, struct arena *a,
    struct findings *f, const struct milter_edit **ret, size_t *ret_n)
{
	struct change c = { id, e, a, f, NULL, 0, false };
	size_t i;

	*ret = list;
	*ret_n = n;
	if (checks.n == 0 || n == 0)
		return true;
	c.list = arena_alloc(a, MILTER_EDITS_MAX * sizeof *c.list);
	for (i = 0; i < n && !c.failed; i++)
		if (keeps(&c, &list[i]))
			(void)put(&c, &list[i]);
	*ret = c.list;
	*ret_n = c.n;
	return !c.failed;
}
