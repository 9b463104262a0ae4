#include "filters/attach.h"
#include "filters/attach_edit.h"
#include "filters/attach_name.h"
#include "lib/hits.h"
#include "lib/log.h"
#include "rules/table_row.h"

#define LOGGED_MAX	1000u
#define VALUE_MAX	(1u << 20)
#define SUBJECT_MAX	16384u
#define SHOWN_MAX	400u

_Static_assert(SCANNER_SLOTS >= LEAF_SLOTS, "a file for each open leaf");

static struct attach *
attach_of(struct leaf_sink *s)
{
	return (struct attach *)(void *)s;
}

/* -- the log --------------------------------------------------------------- */

static void
log_action(struct attach *a, const char *action, const struct verdict *v)
{
	const struct envelope *e = a->envelope;
	struct buf b;

	if (a->logged++ >= LOGGED_MAX) {
		if (a->logged == LOGGED_MAX + 1)
			log_warn("%s: more than %u matches, the others are "
			    "not logged", a->id, LOGGED_MAX);
		return;
	}
	buf_init(&b, 8192);
	buf_printf(&b, "%s: %s%s: %s", a->id,
	    findings_soft_word(a->findings, action), action,
	    log_safe(view_head(buf_view(&a->subject), SHOWN_MAX)));
	buf_printf(&b, " from %s[%s];", log_safe(e->client_name),
	    log_safe(e->client_addr));
	buf_printf(&b, " from=<%s> to=<%s>", log_safe(e->sender),
	    e->nrcpts == 0 ? "" : log_safe(e->rcpts[e->nrcpts - 1].addr));
	buf_printf(&b, " proto=%s helo=<%s>", log_safe(e->proto),
	    log_safe(e->helo));
	if (v->action == ACTION_REJECT)
		buf_printf(&b, ": %s %s", log_safe(v->status),
		    log_safe(v->text));
	else if (v->text.n > 0)
		buf_printf(&b, ": %s", log_safe(v->text));
	buf_printf(&b, "; rule=%s", log_safe(v->where));
	if (a->policy != NULL)
		buf_printf(&b, "; policy=%s", a->policy);
	log_info("%s", buf_cstr(&b));
	buf_free(&b);
}

/* -- actions --------------------------------------------------------------- */

/* The reason, and behind it what was found; it stays with the message. */
static void
hold(struct attach *a, const struct verdict *v, const char *instead)
{
	struct verdict held = *v;

	buf_clear(&a->text);
	(void)buf_putv(&a->text, v->text.n > 0 ? view_head(v->text, 300) :
	    view_of("attachment"));
	if (instead != NULL)
		(void)buf_puts(&a->text, instead);
	(void)buf_puts(&a->text, ": ");
	(void)buf_putv(&a->text, view_head(buf_view(&a->subject), SHOWN_MAX));
	held.action = ACTION_HOLD;
	held.code = 0;
	held.status = view_make("", 0);
	held.text = buf_view(&a->text);
	if (!findings_held(a->findings))
		log_action(a, "hold", &held);
	findings_decide(a->findings, &held);
}

static void
failed(struct attach *a, const char *why)
{
	log_warn("%s: attachment_checks: %s -- message not accepted, "
	    "try again later", a->id, why);
	findings_rule_failed(a->findings, "Error: content rule failed");
}

/* The name behind "name=" is the last value of the subject. */
static struct view
subject_name(const struct attach *a)
{
	struct view v = buf_view(&a->subject);
	const char *p = memmem(v.p, v.n, " name=", 6);

	return p == NULL ? v : view_from(v, (size_t)(p - v.p) + 6);
}

static void
edit(struct attach *a, const struct verdict *v)
{
	const struct leaf *l = a->leaf;
	struct buf b;
	bool ok;

	if (a->edited_at == l->header_offset && !l->inside &&
	    (a->edited == ACTION_STRIP || a->edited == v->action))
		return;
	a->edited = v->action;
	a->edited_at = l->header_offset;
	if (v->action == ACTION_STRIP)
		ok = attach_strip(a->findings, l, subject_name(a), v->text);
	else {
		buf_init(&b, ATTACH_NAME_MAX);
		(void)buf_putv(&b, view_head(subject_name(a), 180));
		(void)buf_putc(&b, '.');
		(void)buf_putv(&b, v->text.n > 0 ? view_head(v->text, 20) :
		    a->suffix);
		ok = attach_rename(a->findings, l, buf_view(&b));
		buf_free(&b);
	}
	if (ok)
		log_action(a, v->action == ACTION_STRIP ? "strip" : "rename",
		    v);
	else
		hold(a, v, " (held: it cannot be changed here)");
}

/* soft_mode: only say it, and once of one part as edit(). */
static void
act_softly(struct attach *a, const struct verdict *v)
{
	const struct leaf *l = a->leaf;

	if ((v->action == ACTION_STRIP || v->action == ACTION_RENAME) &&
	    a->edited_at == l->header_offset && !l->inside &&
	    (a->edited == ACTION_STRIP || a->edited == v->action))
		return;
	if (v->action == ACTION_STRIP || v->action == ACTION_RENAME) {
		a->edited = v->action;
		a->edited_at = l->header_offset;
	}
	log_action(a, findings_action_word(v->action), v);
	findings_would(a->findings);
}

static void
act(struct attach *a, const struct verdict *v)
{
	struct findings *f = a->findings;

	if (f->soft && (v->action == ACTION_FILTER ||
	    v->action == ACTION_REDIRECT || v->action == ACTION_BCC ||
	    v->action == ACTION_STRIP || v->action == ACTION_RENAME)) {
		act_softly(a, v);
		return;
	}
	switch (v->action) {
	case ACTION_REJECT:
		log_action(a, "reject", v);
		findings_decide(f, v);
		break;
	case ACTION_DISCARD:
		log_action(a, "discard", v);
		findings_decide(f, v);
		break;
	case ACTION_HOLD:
		hold(a, v, NULL);
		break;
	case ACTION_WARN:
		log_action(a, "warning", v);
		break;
	case ACTION_INFO:
		log_action(a, "info", v);
		break;
	case ACTION_PASS:
		log_action(a, "pass", v);
		f->passed = true;
		break;
	case ACTION_FILTER:
		log_action(a, "filter", v);
		if (!findings_filter(f, v->text))
			failed(a, "FILTER argument is too long");
		break;
	case ACTION_REDIRECT:
		log_action(a, "redirect", v);
		if (!findings_redirect(f, v->text))
			failed(a, "REDIRECT argument is too long");
		break;
	case ACTION_BCC:
		log_action(a, "bcc", v);
		if (!findings_bcc(f, v->text))
			failed(a, "too many BCC addresses");
		break;
	case ACTION_STRIP:
	case ACTION_RENAME:
		edit(a, v);
		break;
	case ACTION_NONE:
	case ACTION_DUNNO:
	case ACTION_OK:
	case ACTION_IGNORE:
	case ACTION_PREPEND:
	case ACTION_REPLACE:
	case ACTION_DEFER:
	case ACTIONS:
		break;
	}
}

static void
ask(struct attach *a)
{
	const struct table *t;
	struct verdict v;
	const char *error;
	unsigned line;

	if (a->findings->passed || findings_final(a->findings))
		return;
	switch (table_list_find(a->rules, buf_view(&a->subject), &a->value,
	    &t, &line)) {
	case TABLE_FOUND:
		break;
	case TABLE_NOT_FOUND:
		return;
	case TABLE_FAILED:
		failed(a, "map lookup problem");
		return;
	}
	buf_clear(&a->where);
	buf_puts(&a->where, table_origin(t));
	if (line > 0)
		buf_printf(&a->where, ":%u", line);
	if (!verdict_parse(buf_view(&a->value), DIALECT_ATTACHMENTS, &v,
	    &error)) {
		/* Checked at load; so $1 made it wrong. */
		log_warn("%s: %s: %s", a->id, log_safe(buf_view(&a->where)),
		    error);
		return;
	}
	v.where = buf_view(&a->where);
	hits_add(v.where, table_row_hash(t, line, buf_view(&a->subject),
	    buf_view(&a->value)), v.action == ACTION_WARN ||
	    a->findings->soft, view_of(a->id));
	act(a, &v);
}

/* -- the subject ----------------------------------------------------------- */

/* A value: no white space, no control bytes. */
static void
put_value(struct buf *b, struct view v)
{
	size_t i;

	if (v.n == 0)
		(void)buf_putc(b, '-');
	for (i = 0; i < v.n; i++)
		(void)buf_putc(b, (unsigned char)v.p[i] <= ' ' ||
		    v.p[i] == 0x7f ? '_' : v.p[i]);
}

static uint64_t
oddity_flags(unsigned odd)
{
	static const struct {
		unsigned oddity;
		uint64_t flag;
	} map[] = {
		{ ODDITY_DOUBLE, SCAN_DOUBLE }, { ODDITY_BIDI, SCAN_BIDI },
		{ ODDITY_HIDDEN, SCAN_HIDDEN },
		{ ODDITY_TRAILING, SCAN_TRAILING },
		{ ODDITY_SPACES, SCAN_SPACES }, { ODDITY_STREAM, SCAN_STREAM },
		{ ODDITY_LONG, SCAN_LONG }, { ODDITY_PATH, SCAN_PATH },
	};
	uint64_t f = 0;
	size_t i;

	for (i = 0; i < sizeof map / sizeof map[0]; i++)
		if ((odd & map[i].oddity) != 0)
			f |= map[i].flag;
	return f;
}

static void
put_flags(struct buf *b, uint64_t flags, struct condition_set c)
{
	unsigned k;

	if (flags == 0 && c.bits == 0) {
		(void)buf_putc(b, '-');
		return;
	}
	(void)buf_putc(b, ',');
	for (k = 0; k < SCAN_FLAGS; k++)
		if ((flags >> k & 1) != 0)
			buf_printf(b, "%s,",
			    scan_flag_name((enum scan_flag_bit)k));
	for (k = MIME_CONDITION_NONE + 1; k < MIME_CONDITIONS; k++)
		if (condition_has(c, (enum mime_condition)k))
			buf_printf(b, "%s,",
			    condition_name((enum mime_condition)k));
}

/* One line, one question.  leaf: NULL for a member.  Returns the oddities. */
static unsigned
ask_spelled(struct attach *a, const struct scan_item *i, struct view name,
    const struct leaf *l)
{
	struct buf *b = &a->subject;
	unsigned odd = attach_name(name, &a->name, &a->ext);
	uint64_t flags = i->flags | oddity_flags(odd) |
	    scan_name_flags(buf_view(&a->ext), &i->kind);

	buf_clear(b);
	(void)buf_puts(b, l != NULL ? "attachment ext=" : "member ext=");
	put_value(b, buf_view(&a->ext));
	(void)buf_puts(b, " magic=");
	put_value(b, view_of(i->kind.name));
	(void)buf_puts(b, " type=");
	if (l != NULL) {
		put_value(b, view_head(l->type, 80));
		(void)buf_putc(b, '/');
		put_value(b, view_head(l->subtype, 120));
	} else
		(void)buf_putc(b, '-');
	buf_printf(b, " size=%llu is=", (unsigned long long)i->size);
	put_flags(b, flags, l != NULL ? l->conditions :
	    (struct condition_set){ 0 });
	(void)buf_puts(b, " in=");
	put_value(b, i->inside);
	(void)buf_puts(b, " name=");
	put_value(b, buf_view(&a->name));
	ask(a);
	return odd;
}

/* Some leave out what no name may hold on Windows. */
static void
ask_without(struct attach *a, const struct scan_item *i, struct view name,
    const struct leaf *l)
{
	struct buf b;
	size_t k;

	if (name.n > 2 * ATTACH_NAME_MAX)
		name = view_from(name, name.n - 2 * ATTACH_NAME_MAX);
	buf_init(&b, 2 * ATTACH_NAME_MAX);
	for (k = 0; k < name.n; k++)
		if (!view_has(view_of("<>|?*\""), name.p[k]))
			(void)buf_putc(&b, name.p[k]);
	if (b.n < name.n)
		(void)ask_spelled(a, i, buf_view(&b), l);
	buf_free(&b);
}

/* As programs see it for which a name ends at NUL; MIME's come so already. */
static void
ask_cut(struct attach *a, const struct scan_item *i, struct view name,
    const struct leaf *l)
{
	size_t n = view_find(name, '\0');

	if (n > 0 && n < name.n)
		(void)ask_spelled(a, i, view_head(name, n), l);
}

/*
 * "a.exe::$DATA" is a.exe where ':' begins a stream, and "a:b.exe" ends in
 * .exe for programs that write '_' for what no name may hold: both are asked.
 */
static void
ask_about(struct attach *a, const struct scan_item *i, struct view name,
    const struct leaf *l)
{
	struct scan_item other = *i;
	struct buf b;
	size_t k;

	ask_cut(a, i, name, l);
	ask_without(a, i, name, l);
	if ((ask_spelled(a, i, name, l) & ODDITY_STREAM) == 0)
		return;
	other.flags |= SCAN_STREAM;
	buf_init(&b, 2 * ATTACH_NAME_MAX);
	/* Of a longer one both ends are looked at. */
	if (name.n > 2 * ATTACH_NAME_MAX)
		name = view_from(name, name.n - 2 * ATTACH_NAME_MAX);
	for (k = 0; k < name.n; k++)
		(void)buf_putc(&b, name.p[k] == ':' ? '_' : name.p[k]);
	(void)ask_spelled(a, &other, buf_view(&b), l);
	buf_free(&b);
}

static bool
tell_member(void *arg, const struct scan_item *i)
{
	struct attach *a = arg;

	ask_about(a, i, i->name, NULL);
	return !findings_final(a->findings) && !a->findings->passed;
}

/* -- leaves ---------------------------------------------------------------- */

static bool
attach_leaf_begin(struct leaf_sink *s, const struct leaf *l)
{
	struct attach *a = attach_of(s);

	if (a->internal || a->findings->passed || a->rules->n == 0)
		return false;
	scanner_clear(a->scanner, l->slot);
	a->over[l->slot] = false;
	return true;
}

static void
attach_leaf_bytes(struct leaf_sink *s, const struct leaf *l,
    struct view bytes)
{
	struct attach *a = attach_of(s);

	if (!a->over[l->slot] && !scanner_put(a->scanner, l->slot,
	    bytes))
		a->over[l->slot] = true;
}

static void
attach_leaf_end(struct leaf_sink *s, const struct leaf *l)
{
	struct attach *a = attach_of(s);
	struct scan_item i = { .size = l->size };
	size_t k, n = l->names != NULL ? l->names->n : 0;

	if (a->internal || a->findings->passed || a->rules->n == 0 ||
	    findings_final(a->findings))
		return;
	a->leaf = l;
	if (n > 0)
		i.name = l->names->list[0].text;
	scanner_file(a->scanner, l->slot, &i, tell_member, a);
	i.size = l->size;
	if (a->over[l->slot])
		i.flags |= SCAN_LIMIT_BYTES;
	i.inside = view_make("", 0);
	if (n == 0)
		ask_about(a, &i, view_make("", 0), l);
	for (k = 0; k < n; k++)
		ask_about(a, &i, l->names->list[k].text, l);
	a->leaf = NULL;
	scanner_clear(a->scanner, l->slot);
	if (findings_final(a->findings))
		a->stop(a->stop_arg);
}

static const struct leaf_ops attach_ops = {
	.name = "attachments",
	.begin = attach_leaf_begin,
	.bytes = attach_leaf_bytes,
	.end = attach_leaf_end,
};

void
attach_init(struct attach *a, const struct conf *cf,
    const struct table_list *rules, struct scanner *scanner,
    struct findings *findings, void (*stop)(void *arg), void *arg)
{
	*a = (struct attach){ .sink.ops = &attach_ops, .rules = rules,
		.findings = findings, .scanner = scanner, .stop = stop,
		.stop_arg = arg,
		.suffix = view_of(cf->attachment_rename_suffix) };
	buf_init(&a->subject, SUBJECT_MAX);
	buf_init(&a->name, 4 * ATTACH_NAME_MAX);
	buf_init(&a->ext, 4 * ATTACH_NAME_MAX);
	buf_init(&a->value, VALUE_MAX);
	buf_init(&a->where, FINDINGS_WHERE_MAX);
	buf_init(&a->text, 2048);
}

void
attach_free(struct attach *a)
{
	buf_free(&a->subject);
	buf_free(&a->name);
	buf_free(&a->ext);
	buf_free(&a->value);
	buf_free(&a->where);
	buf_free(&a->text);
}

void
attach_begin(struct attach *a, const struct envelope *e, struct queue_id id,
    uint64_t size, const char *policy)
{
	a->envelope = e;
	a->policy = policy;
	(void)envelope_name(e, id, a->id);
	a->internal = (e->flags & ENVELOPE_NO_FILTER) != 0;
	a->logged = 0;
	a->edited = ACTION_NONE;
	if (a->scanner != NULL)
		scanner_begin(a->scanner, size);
}

void
attach_end(struct attach *a)
{
	if (a->scanner != NULL)
		scanner_end(a->scanner);
}
