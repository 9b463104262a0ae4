#include "filters/checks.h"
#include "lib/hits.h"
#include "lib/log.h"
#include "rules/table_row.h"

/* A message cannot fill the log: further lines are counted only. */
#define LOGGED_MAX	1000u
#define VALUE_MAX	(1u << 20)
#define LOG_CONTENT	200u	/* bytes of a header or line that are shown */
#define LOG_MIME	100u

/* What a rule is asked about, and may edit. */
struct unit {
	bool header;
	struct view text;
	uint64_t offset;
	uint64_t size;		/* what IGNORE takes away */
	uint64_t replaced;	/* what REPLACE puts its text for */
};

/* -- the log --------------------------------------------------------------- */

/* v: NULL when no rule is behind it. */
static void
log_match(struct checks *c, const char *action, const char *where,
    struct view content, const struct verdict *v)
{
	const struct envelope *e = c->envelope;
	struct buf b;
	bool local;

	if (c->logged++ >= LOGGED_MAX) {
		if (c->logged == LOGGED_MAX + 1)
			log_warn("%s: more than %u matches, the others are "
			    "not logged", c->id, LOGGED_MAX);
		return;
	}
	buf_init(&b, 8192);
	local = view_is(e->proto, "local");
	buf_printf(&b, "%s: %s%s: %s %s from ", c->id,
	    findings_soft_word(c->findings, action), action, where,
	    log_safe(content));
	if (local)
		(void)buf_puts(&b, "local;");
	else
		buf_printf(&b, "%s[%s];", log_safe(e->client_name),
		    log_safe(e->client_addr));
	/* Postfix names the recipient it read last. */
	buf_printf(&b, " from=<%s> to=<%s>", log_safe(e->sender),
	    e->nrcpts == 0 ? "" : log_safe(e->rcpts[e->nrcpts - 1].addr));
	if (!local)
		buf_printf(&b, " proto=%s helo=<%s>", log_safe(e->proto),
		    log_safe(e->helo));
	if (v != NULL && v->action == ACTION_REJECT)
		buf_printf(&b, ": %s %s", log_safe(v->status),
		    log_safe(v->text));
	else if (v != NULL && v->text.n > 0)
		buf_printf(&b, ": %s", log_safe(v->text));
	if (v != NULL)
		buf_printf(&b, "; rule=%s", log_safe(v->where));
	if (c->policy != NULL)
		buf_printf(&b, "; policy=%s", c->policy);
	log_info("%s", buf_cstr(&b));
	buf_free(&b);
}

static void
log_action(struct checks *c, const char *action, const struct unit *u,
    const struct verdict *v)
{
	log_match(c, action, u->header ? "header" : "body",
	    view_head(u->text, LOG_CONTENT), v);
}

/* -- edits ----------------------------------------------------------------- */

static void
edit_failed(struct checks *c)
{
	log_warn("%s: too many edits by rules -- message not accepted, "
	    "try again later", c->id);
	findings_refuse(c->findings, 451, "4.3.0",
	    "Error: too many changes by content rules");
}

static struct view
insert_text(struct checks *c, const struct unit *u, struct view v,
    bool line_end)
{
	return verdict_text_wire(&c->insert, v, u->header, line_end) ?
	    buf_view(&c->insert) : view_make(NULL, 0);
}

static bool
is_header_text(const struct checks *c, const struct unit *u,
    const struct verdict *v)
{
	if (!u->header || verdict_text_is_header(v->text))
		return true;
	log_warn("%s: bad %s header text \"%s\" in %s -- need \"headername: "
	    "headervalue\"", c->id, action_name(v->action),
	    log_safe(view_head(v->text, LOG_CONTENT)), log_safe(v->where));
	return false;
}

static void
prepend(struct checks *c, const struct unit *u, const struct verdict *v)
{
	struct view text;

	if (!is_header_text(c, u, v))
		return;
	log_action(c, "prepend", u, v);
	text = insert_text(c, u, v->text, true);
	if (text.n == 0 || !findings_insert(c->findings, u->offset, text))
		edit_failed(c);
}

/* Returns true if it was replaced. */
static bool
replace(struct checks *c, const struct unit *u, const struct verdict *v)
{
	struct view text;

	if (!is_header_text(c, u, v))
		return false;
	log_action(c, "replace", u, v);
	text = insert_text(c, u, v->text, false);
	if (text.n == 0 ||
	    !findings_replace(c->findings, u->offset, u->replaced, text))
		edit_failed(c);
	return true;
}

static void
drop(struct checks *c, const struct unit *u)
{
	if (!findings_replace(c->findings, u->offset, u->size,
	    view_make("", 0)))
		edit_failed(c);
}

/* -- actions --------------------------------------------------------------- */

static void
bcc(struct checks *c, const struct unit *u, const struct verdict *v)
{
	log_action(c, "bcc", u, v);
	if (findings_bcc(c->findings, v->text))
		return;
	log_warn("%s: more than %u BCC addresses, or one over %u bytes -- "
	    "message not accepted, try again later", c->id,
	    JUDGEMENT_BCC_MAX, FINDINGS_ARGUMENT_MAX);
	findings_rule_failed(c->findings,
	    "Error: too many BCC recipients by content rules");
}

static void
too_long(struct checks *c, const struct verdict *v)
{
	log_warn("%s: %s argument over %u bytes in %s -- message not "
	    "accepted, try again later", c->id, action_name(v->action),
	    FINDINGS_ARGUMENT_MAX, log_safe(v->where));
	findings_rule_failed(c->findings, "Error: content rule failed");
}

/* soft_mode: only say it.  Returns as act(). */
static bool
act_softly(struct checks *c, const struct unit *u, const struct verdict *v)
{
	bool text = v->action == ACTION_PREPEND || v->action == ACTION_REPLACE;

	if (text && !is_header_text(c, u, v))
		return false;
	log_action(c, findings_action_word(v->action), u, v);
	findings_would(c->findings);
	return v->action == ACTION_REPLACE || v->action == ACTION_STRIP ||
	    v->action == ACTION_IGNORE;
}

static bool
acts_more(enum action a)
{
	return a == ACTION_FILTER || a == ACTION_REDIRECT || a == ACTION_BCC ||
	    action_edits(a);
}

/* Do what the rule says.  Returns true if the unit is no longer what it
 * was. */
static bool
act(struct checks *c, const struct unit *u, const struct verdict *v)
{
	struct findings *f = c->findings;

	if (c->inside && action_edits(v->action)) {
		if (!c->told_inside)
			log_warn("%s: %s in %s: text inside an encoded part "
			    "is not changed", c->id, action_name(v->action),
			    log_safe(v->where));
		c->told_inside = true;
		return false;
	}
	if (f->soft && acts_more(v->action))
		return act_softly(c, u, v);
	switch (v->action) {
	case ACTION_REJECT:
		log_action(c, "reject", u, v);
		findings_decide(f, v);
		break;
	case ACTION_DISCARD:
		log_action(c, "discard", u, v);
		findings_decide(f, v);
		break;
	case ACTION_HOLD:
		if (!findings_held(f))
			log_action(c, "hold", u, v);
		findings_decide(f, v);
		break;
	case ACTION_WARN:
		log_action(c, "warning", u, v);
		break;
	case ACTION_INFO:
		log_action(c, "info", u, v);
		break;
	case ACTION_PASS:
		log_action(c, "pass", u, v);
		f->passed = true;
		break;
	case ACTION_FILTER:
		log_action(c, "filter", u, v);
		if (!findings_filter(f, v->text))
			too_long(c, v);
		break;
	case ACTION_REDIRECT:
		log_action(c, "redirect", u, v);
		if (!findings_redirect(f, v->text))
			too_long(c, v);
		break;
	case ACTION_BCC:
		bcc(c, u, v);
		break;
	case ACTION_PREPEND:
		prepend(c, u, v);
		break;
	case ACTION_REPLACE:
		return replace(c, u, v);
	case ACTION_STRIP:
		log_action(c, "strip", u, v);
		drop(c, u);
		return true;
	case ACTION_IGNORE:
		drop(c, u);
		return true;
	case ACTION_NONE:
	case ACTION_DUNNO:
	case ACTION_OK:
	case ACTION_DEFER:
	case ACTION_RENAME:
	case ACTIONS:
		break;
	}
	return false;
}

/* Ask one list of tables.  Returns as act(). */
static bool
ask(struct checks *c, const struct table_list *list, const char *name,
    const struct unit *u)
{
	const struct table *t;
	struct verdict v;
	const char *error;
	unsigned line;

	if (list->n == 0 || u->text.n == 0 || c->internal ||
	    c->findings->passed || findings_final(c->findings))
		return false;
	switch (table_list_find(list, u->text, &c->value, &t, &line)) {
	case TABLE_FOUND:
		break;
	case TABLE_NOT_FOUND:
		return false;
	case TABLE_FAILED:
		log_warn("%s: %s map lookup problem -- message not accepted, "
		    "try again later", c->id, name);
		findings_rule_failed(c->findings,
		    "Error: content rule failed");
		return false;
	}
	buf_clear(&c->where);
	buf_puts(&c->where, table_origin(t));
	if (line > 0)
		buf_printf(&c->where, ":%u", line);
	if (!verdict_parse(buf_view(&c->value), DIALECT_CHECKS, &v, &error)) {
		/* Checked at load; so $1 made it wrong. */
		log_warn("%s: %s: %s: %s", c->id,
		    log_safe(buf_view(&c->where)), error, log_safe(view_head(
		    buf_view(&c->value), LOG_CONTENT)));
		return false;
	}
	v.where = buf_view(&c->where);
	hits_add(v.where, table_row_hash(t, line, u->text,
	    buf_view(&c->value)), v.action == ACTION_WARN ||
	    c->findings->soft, view_of(c->id));
	return act(c, u, &v);
}

/* -- what the walk tells --------------------------------------------------- */

static struct checks *
checks_of(struct stage *s)
{
	return (struct checks *)(void *)s;
}

/* Postfix's line for what is wrong with the structure of a message. */
static void
refuse_structure(struct checks *c, const char *why, struct view text)
{
	struct buf b;

	buf_init(&b, 256);
	buf_printf(&b, "mime-error %s:", why);
	log_match(c, "reject", buf_cstr(&b), view_head(text, LOG_MIME), NULL);
	buf_free(&b);
	if (c->findings->soft)
		findings_would(c->findings);
	else
		findings_refuse(c->findings, 550, "5.6.0", why);
}

static void
stop_if_final(struct checks *c)
{
	if (findings_final(c->findings))
		mime_stop(c->walk);
}

static void
count_hop(struct checks *c, int64_t *count)
{
	if (++*count < c->conf->hopcount_limit || findings_final(c->findings))
		return;
	log_warn("%s: message rejected: hopcount exceeded", c->id);
	findings_refuse(c->findings, 554, "5.4.0", "Error: too many hops");
}

/* "... by our.name (product) with ...": proxy/smtpd_received.c */
static bool
is_own(const struct checks *c, struct view received)
{
	struct view rest = received, word;

	while ((word = view_word(&rest, " \t\r\n")).n > 0)
		if (view_is(word, "by"))
			break;
	word = view_word(&rest, " \t\r\n");
	return word.n > 0 && view_is_nocase(word, c->conf->myhostname);
}

/* Two servers that each think the other one has the recipient. */
static void
count_own(struct checks *c, struct view received)
{
	if (!is_own(c, received) ||
	    ++c->own < c->conf->own_hopcount_limit ||
	    findings_final(c->findings))
		return;
	log_warn("%s: message rejected: mail loops: it was here %lld times",
	    c->id, (long long)c->own - 1);
	findings_refuse(c->findings, 554, "5.4.6",
	    "Error: mail loops back to this host");
}

static void
primary_header(struct checks *c, const struct mime_header *h)
{
	switch (h->field) {
	case FIELD_RECEIVED:
		count_hop(c, &c->received);
		count_own(c, h->value);
		break;
	case FIELD_DELIVERED_TO:
		count_hop(c, &c->delivered);
		break;
	case FIELD_MESSAGE_ID:
		if (!c->again)
			log_info("%s: message-id=%s", c->id,
			    log_safe(h->value));
		c->message_id_seen = true;
		findings_message_id(c->findings, h->value);
		break;
	case FIELD_RESENT_MESSAGE_ID:
		if (!c->again)
			log_info("%s: resent-message-id=%s", c->id,
			    log_safe(h->value));
		break;
	case FIELD_OTHER:
	case FIELD_CONTENT_DESCRIPTION:
	case FIELD_CONTENT_DISPOSITION:
	case FIELD_CONTENT_ID:
	case FIELD_CONTENT_TRANSFER_ENCODING:
	case FIELD_CONTENT_TYPE:
	case FIELD_MIME_VERSION:
		break;
	}
}

/*
 * Rules saw only the begin of a header over header_size_limit, so only that
 * may go on.  If not even its name is in it, nothing does: a line without a
 * colon would end the header block.
 */
static void
cut_header(struct checks *c, const struct mime_header *h)
{
	uint64_t from = h->kept, to = h->size - h->line_end;

	if (from >= to || findings_final(c->findings))
		return;
	if (view_find(h->text, ':') == h->text.n) {
		from = 0;
		to = h->size;
	}
	if (!c->again)
		log_info("%s: header %s: cut, it has %llu bytes", c->id,
		    log_safe(view_head(h->text, 60)),
		    (unsigned long long)h->size);
	if (!findings_replace(c->findings, h->offset + from, to - from,
	    view_make("", 0)))
		edit_failed(c);
}

/* The header as a mail program shows it: on one line, in UTF-8. */
static bool
ask_decoded(struct checks *c, const struct unit *u)
{
	struct unit decoded = *u;
	struct buf *b = &c->unfolded;
	size_t i;

	if (c->rules->decoded_header.n == 0 || findings_final(c->findings))
		return false;
	buf_clear(b);
	buf_clear(&c->decoded);
	for (i = 0; i < u->text.n; i++)
		if (u->text.p[i] != '\n')
			(void)buf_putc(b, u->text.p[i]);
	charsets_mend(c->charsets, buf_view(b), &c->decoded);
	buf_clear(b);
	(void)charsets_words(c->charsets, buf_view(&c->decoded), b);
	decoded.text = buf_view(b);
	return ask(c, &c->rules->decoded_header, "decoded_header_checks",
	    &decoded);
}

void
checks_decoded(struct checks *c, struct view line)
{
	struct unit u = { false, line, 0, 0, 0 };

	(void)ask(c, &c->rules->decoded_body, "decoded_body_checks", &u);
}

static void
checks_header(struct stage *s, const struct mime_header *h)
{
	struct checks *c = checks_of(s);
	const struct checks_rules *r = c->rules;
	struct unit u = { true, h->text, h->offset, h->size,
		h->size - h->line_end };
	bool changed = false;

	switch (h->kind) {
	case MIME_HEADER_PRIMARY:
		changed = ask(c, &r->header, "header_checks", &u);
		break;
	case MIME_HEADER_NESTED:
		changed = ask(c, &r->nested_header, "nested_header_checks",
		    &u);
		break;
	case MIME_HEADER_MIME:
		changed = ask(c, &r->mime_header, "mime_header_checks", &u);
		if (!changed)
			changed = ask(c, &r->body, "body_checks", &u);
		break;
	}
	if (!changed)
		changed = ask_decoded(c, &u);
	if (h->part->block == MIME_BLOCK_PRIMARY)
		primary_header(c, h);
	/* What would be changed is as long as ever. */
	if ((!changed || c->findings->soft) && !c->inside)
		cut_header(c, h);
	stop_if_final(c);
}

static void
checks_headers_end(struct stage *s, const struct mime_part *p,
    uint64_t offset)
{
	struct checks *c = checks_of(s);

	(void)offset;
	/* The stage that completes local mail logs the one it adds. */
	if (p->block == MIME_BLOCK_PRIMARY && !c->message_id_seen &&
	    !c->again &&
	    (c->internal || ((c->envelope->flags & ENVELOPE_LOCAL) == 0 &&
	    !c->conf->always_add_missing_headers)))
		log_info("%s: message-id=<>", c->id);
}

static void
checks_line(struct stage *s, const struct mime_line *l)
{
	struct checks *c = checks_of(s);
	uint64_t limit = (uint64_t)c->conf->body_checks_size_limit;
	struct unit u = { false, l->text, l->offset, l->size, l->text.n };

	if (c->internal || c->findings->passed || c->rules->body.n == 0 ||
	    (limit > 0 && l->section_offset >= limit)) {
		s->wants_lines = false;
		return;
	}
	/* A piece of a longer line goes without the line end. */
	if (!l->first || !l->last)
		u.size = l->text.n;
	(void)ask(c, &c->rules->body, "body_checks", &u);
	stop_if_final(c);
}

static void
checks_stray(struct stage *s, uint64_t offset)
{
	struct checks *c = checks_of(s);

	if (c->inside)
		return;
	if (!findings_stray(c->findings, offset)) {
		refuse_structure(c, "too many stray <CR> or <LF>",
		    view_make("", 0));
		/* It would be something else for the next server. */
		findings_refuse(c->findings, 550, "5.6.0",
		    "too many stray <CR> or <LF>");
		stop_if_final(c);
	}
}

static void
header_not_ended(struct checks *c, uint64_t offset, struct view text)
{
	const char *insert = "\r\n";

	if (!c->internal && c->header_end == HEADER_END_REJECT) {
		refuse_structure(c,
		    "primary header was terminated with non-empty line", text);
		if (!c->findings->soft)
			return;
	}
	if (!c->internal && c->header_end == HEADER_END_ADD &&
	    !c->findings->soft)
		insert = "MIME-Error: message header was not terminated by "
		    "empty line\r\n\r\n";
	if (!findings_insert(c->findings, offset, view_of(insert)))
		edit_failed(c);
}

static void
checks_condition(struct stage *s, enum mime_condition what,
    const struct mime_part *p, uint64_t offset, struct view text)
{
	struct checks *c = checks_of(s);

	/* The others: filters/ambiguity.h. */
	if (what == MIME_TOO_DEEP && !c->internal)
		refuse_structure(c, "MIME nesting exceeds safety limit", text);
	else if (what == MIME_TOO_MANY_PARTS && !c->internal)
		refuse_structure(c, "MIME part count exceeds safety limit",
		    text);
	/* In other blocks an inserted line could break a signature. */
	else if (what == MIME_HEADER_NOT_ENDED &&
	    p->block == MIME_BLOCK_PRIMARY)
		header_not_ended(c, offset, text);
	stop_if_final(c);
}

static const struct stage_ops checks_ops = {
	.name = "checks",
	.header = checks_header,
	.headers_end = checks_headers_end,
	.line = checks_line,
	.stray = checks_stray,
	.condition = checks_condition,
};

void
checks_init(struct checks *c, const struct conf *cf,
    const struct checks_rules *rules, enum header_end_action header_end,
    const struct charsets *cs, struct mime *walk, struct findings *findings)
{
	*c = (struct checks){ .stage.ops = &checks_ops, .conf = cf,
		.charsets = cs,
		.rules = rules, .header_end = header_end, .walk = walk,
		.findings = findings };
	buf_init(&c->value, VALUE_MAX);
	buf_init(&c->insert, EDITS_BYTES_MAX);
	buf_init(&c->where, FINDINGS_WHERE_MAX);
	/* A byte of some character set is three of UTF-8 at most. */
	buf_init(&c->unfolded, 3 * (size_t)cf->header_size_limit);
	buf_init(&c->decoded, 3 * (size_t)cf->header_size_limit);
}

void
checks_free(struct checks *c)
{
	buf_free(&c->value);
	buf_free(&c->insert);
	buf_free(&c->where);
	buf_free(&c->unfolded);
	buf_free(&c->decoded);
}

void
checks_begin(struct checks *c, const struct envelope *e, struct queue_id id)
{
	c->envelope = e;
	(void)envelope_name(e, id, c->id);
	c->internal = (e->flags & ENVELOPE_NO_FILTER) != 0;
	c->message_id_seen = c->told_inside = false;
	c->received = c->delivered = c->own = 0;
	c->logged = 0;
	c->again = false;
	c->policy = NULL;
}
