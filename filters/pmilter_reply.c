/* What becomes of a message, in the words of libmilter. */
#include <libmilter/mfapi.h>
#include <stdio.h>
#include <stdlib.h>

#include "filters/pmilter.h"
#include "filters/pmilter_plan.h"
#include "lib/address.h"
#include "lib/log.h"

#define REPLY_MAX	900u	/* bytes of text; libmilter takes 980 */
#define LOGGED_MAX	300u
#define TAG_MAX		700u	/* one line of a header */
#define PIECE		(64u << 10)

/* A verdict's text as one printable line; percent: each % twice. */
static void
reply_line(struct view text, bool percent, char *to, size_t max)
{
	size_t n = 0, i;
	unsigned char c;

	for (i = 0; i < text.n && n + 3 < max; i++) {
		c = (unsigned char)text.p[i];
		to[n++] = c < ' ' || c > '~' ? (c == '\t' ? ' ' : '?') :
		    (char)c;
		if (percent && c == '%')
			to[n++] = '%';
	}
	to[n] = '\0';
}

/* -- the log --------------------------------------------------------------- */

/* In the form of Postfix's "milter-reject" lines. */
static void
reply_log(const struct pmilter_told *m, const char *what,
    const struct verdict *v)
{
	const struct envelope *e = m->env;
	char text[LOGGED_MAX], status[16];
	struct buf b;

	reply_line(v->text, false, text, sizeof text);
	reply_line(v->status, false, status, sizeof status);
	if (text[0] == '\0')
		(void)snprintf(text, sizeof text, "content rule triggers %s "
		    "action", action_name(v->action));
	buf_init(&b, 8192);
	(void)buf_printf(&b, "%s: %s: END-OF-MESSAGE from %.*s[%.*s]:%s%s %s;"
	    " from=<%.*s> to=<%.*s> proto=%.*s helo=<%.*s>", m->name, what,
	    VIEW_ARGS(e->client_name), VIEW_ARGS(e->client_addr),
	    status[0] != '\0' ? " " : "", status, text,
	    VIEW_ARGS(e->sender), VIEW_ARGS(e->rcpts[e->nrcpts - 1].addr),
	    VIEW_ARGS(e->proto), VIEW_ARGS(e->helo));
	if (v->where.n > 0)
		(void)buf_printf(&b, "; rule=%.*s", VIEW_ARGS(v->where));
	pmilter_note(false, mem_copy(buf_view(&b)));
	buf_free(&b);
}

static void
reply_warn(const struct pmilter_told *m, const char *what)
{
	pmilter_note(true, mem_printf("%s: %s", m->name, what));
}

/* -- refusing -------------------------------------------------------------- */

int
pmilter_reply_code(SMFICTX *ctx, unsigned given, struct view with,
    struct view why)
{
	char code[8], status[16], text[REPLY_MAX];
	char later[] = "451", never[] = "550";
	bool permanent = given >= 500;

	(void)snprintf(code, sizeof code, "%u", given);
	reply_line(with, false, status, sizeof status);
	reply_line(why, true, text, sizeof text);
	if (smfi_setreply(ctx, code, status[0] == code[0] ? status : NULL,
	    text[0] != '\0' ? text : NULL) != MI_SUCCESS)
		(void)smfi_setreply(ctx, permanent ? never : later, NULL,
		    NULL);
	return permanent ? SMFIS_REJECT : SMFIS_TEMPFAIL;
}

static int
reply_refuse(SMFICTX *ctx, const struct pmilter_told *m, struct verdict v)
{
	if (v.code < 400 || v.code > 599)
		v.code = 451;
	reply_log(m, "milter-reject", &v);
	return pmilter_reply_code(ctx, v.code, v.status, v.text);
}

static int
reply_failed(SMFICTX *ctx, const struct pmilter_told *m, const char *why)
{
	reply_warn(m, why);
	return reply_refuse(ctx, m, (struct verdict){ .code = 451,
		.status = view_of("4.3.0"),
		.text = view_of("Error: content filter failed") });
}

/* -- tag ------------------------------------------------------------------- */

static const char *
tag_word(const struct verdict *v)
{
	switch ((int)v->action) {
	case ACTION_REJECT:
	case ACTION_DEFER:
		return v->code >= 500 ? "reject" : "tempfail";
	case ACTION_DISCARD:
		return "discard";
	case ACTION_HOLD:
		return "hold";
	default:
		return "ok";
	}
}

static int
reply_tag(SMFICTX *ctx, const struct pmilter_told *m,
    const struct pmilter_answer *a)
{
	const struct verdict *v = &a->j.verdict;
	char text[TAG_MAX], line[TAG_MAX + 64], name[] = PMILTER_TAG;
	const char *word = tag_word(v);
	uint32_t i;
	int n;

	/* From the last one: those before it keep their number. */
	for (i = m->forged; i > 0; i--)
		if (smfi_chgheader(ctx, name, (int)i, NULL) != MI_SUCCESS)
			return reply_failed(ctx, m, "a header cannot be "
			    "removed");
	reply_line(v->text, false, text, sizeof text);
	n = snprintf(line, sizeof line, "%s%s", m->space ? " " : "", word);
	if (v->code != 0)
		n += snprintf(line + n, sizeof line - (size_t)n,
		    "; %u %.*s", v->code, VIEW_ARGS(view_head(v->status, 15)));
	if (text[0] != '\0')
		(void)snprintf(line + n, sizeof line - (size_t)n, "%s%s",
		    v->code != 0 ? " " : "; ", text);
	if (smfi_insheader(ctx, 0, name, line) != MI_SUCCESS)
		return reply_failed(ctx, m, "a header cannot be added");
	if (v->action != ACTION_OK)
		reply_log(m, "milter-tag", v);
	return SMFIS_CONTINUE;
}

/* -- what is changed ------------------------------------------------------- */

/* Lines of a header value end with LF in this protocol. */
static char *
header_value(struct view v, bool space)
{
	char *text = mem_alloc(v.n + 2), *p = text;
	size_t i;

	if (!space && v.n > 0 && v.p[0] == ' ')
		v = view_from(v, 1);
	/* An empty one would remove the header. */
	if (v.n == 0)
		*p++ = ' ';
	for (i = 0; i < v.n; i++)
		if (v.p[i] != '\r' || i + 1 == v.n || v.p[i + 1] != '\n')
			*p++ = v.p[i];
	*p = '\0';
	return text;
}

static bool
change_header(SMFICTX *ctx, const struct pmilter_told *m,
    const struct plan_step *s)
{
	char *name = mem_copy(s->name), *value = NULL;
	int rc;

	if (s->kind != STEP_DELETE)
		value = header_value(s->value, m->space);
	/* Servers count from 1, behind the Received: header of their own. */
	rc = s->kind == STEP_TOP ? smfi_insheader(ctx, 0, name, value) :
	    s->kind == STEP_INSERT ?
	    smfi_insheader(ctx, (int)s->at + 1, name, value) :
	    smfi_chgheader(ctx, name, (int)s->at, value);
	free(name);
	free(value);
	return rc == MI_SUCCESS;
}

static bool
body_put(SMFICTX *ctx, const char *p, size_t n)
{
	union { const char *in; unsigned char *out; } u = { .in = p };

	return smfi_replacebody(ctx, u.out, (int)n) == MI_SUCCESS;
}

static bool
body_copy(SMFICTX *ctx, const struct pmilter_told *m, uint64_t from,
    uint64_t to)
{
	char *piece = mem_alloc(PIECE);
	bool ok = true;
	size_t n;

	for (; ok && from < to; from += n) {
		n = to - from < PIECE ? (size_t)(to - from) : PIECE;
		ok = pmilter_text_read(m->text, from, piece, n) &&
		    body_put(ctx, piece, n);
	}
	free(piece);
	return ok;
}

static bool
change_body(SMFICTX *ctx, const struct pmilter_told *m,
    const struct edits *edits)
{
	uint64_t at = m->text->head + 2;
	const struct edit *e;
	bool ok = true;
	uint32_t i;

	/* The first piece replaces what was there, even by nothing. */
	ok = body_put(ctx, "", 0);
	for (i = 0; ok && i < edits->n; i++) {
		e = &edits->list[i];
		if (e->offset < at)
			continue;
		ok = body_copy(ctx, m, at, e->offset) && (e->insert.n == 0 ||
		    body_put(ctx, e->insert.p, e->insert.n));
		at = e->offset + e->remove;
	}
	return ok && body_copy(ctx, m, at, m->text->size);
}

/* What is missing in the server's list of what a filter may do. */
static bool
allowed(const struct pmilter_told *m, unsigned long need)
{
	return (m->actions & need) == need;
}

static const char *
change_text(SMFICTX *ctx, const struct pmilter_told *m,
    const struct edits *e)
{
	const char *why = NULL;
	struct arena *a;
	struct plan p;
	char *head;
	size_t inserts = 0;
	uint32_t i;

	if (e->n == 0 && m->text->own == 0)
		return NULL;
	for (i = 0; i < e->n; i++)
		inserts += e->list[i].insert.n;
	head = mem_alloc((size_t)m->text->head + 1);
	a = arena_new(PLAN_MEMORY(m->text->head, inserts));
	if (!pmilter_text_read(m->text, 0, head, (size_t)m->text->head))
		why = "the text cannot be read";
	else if (!pmilter_plan(m->text, view_make(head,
	    (size_t)m->text->head), e, a, &p))
		why = "the changes of headers cannot be told to the server";
	else if ((p.n > 0 && !allowed(m, SMFIF_ADDHDRS | SMFIF_CHGHDRS)) ||
	    (p.body && !allowed(m, SMFIF_CHGBODY)))
		why = "the server does not let filters change the message";
	for (i = 0; why == NULL && i < p.n; i++)
		if (!change_header(ctx, m, &p.steps[i]))
			why = "a header cannot be changed";
	if (why == NULL && p.body && !change_body(ctx, m, e))
		why = "the body cannot be replaced";
	arena_free(&a);
	free(head);
	return why;
}

static bool
add_rcpt(SMFICTX *ctx, struct view addr)
{
	char *text;
	struct buf b;
	int rc;

	buf_init(&b, 4096);
	(void)buf_putc(&b, '<');
	(void)address_quote(addr, &b);
	(void)buf_putc(&b, '>');
	text = mem_copy(buf_view(&b));
	rc = smfi_addrcpt(ctx, text);
	free(text);
	buf_free(&b);
	return rc == MI_SUCCESS;
}

static const char *
change_rcpts(SMFICTX *ctx, const struct pmilter_told *m,
    const struct pmilter_answer *a)
{
	uint32_t i;

	if (a->j.redirect.n == 0 && a->n_drop == 0 && a->j.n_bcc == 0)
		return NULL;
	if (!allowed(m, SMFIF_ADDRCPT | SMFIF_DELRCPT))
		return "the server does not let filters change recipients";
	for (i = 0; a->j.redirect.n > 0 && i < m->env->nrcpts; i++)
		if (smfi_delrcpt(ctx, m->rcpts[i]) != MI_SUCCESS)
			return "a recipient cannot be removed";
	for (i = 0; a->j.redirect.n == 0 && i < a->n_drop; i++)
		if (smfi_delrcpt(ctx, m->rcpts[a->drop[i]]) != MI_SUCCESS)
			return "a recipient cannot be removed";
	if (a->j.redirect.n > 0 && !add_rcpt(ctx, a->j.redirect))
		return "a recipient cannot be added";
	for (i = 0; i < a->j.n_bcc; i++)
		if (!add_rcpt(ctx, a->j.bcc[i]))
			return "a recipient cannot be added";
	return NULL;
}

/* -- all together ---------------------------------------------------------- */

static int
reply_hold(SMFICTX *ctx, const struct pmilter_told *m,
    const struct verdict *v)
{
	char text[REPLY_MAX];

	reply_line(v->text, false, text, sizeof text);
	if (text[0] == '\0')
		(void)snprintf(text, sizeof text, "held by a content rule");
	if (!allowed(m, SMFIF_QUARANTINE) ||
	    smfi_quarantine(ctx, text) != MI_SUCCESS)
		return reply_failed(ctx, m, "the server has no quarantine for "
		    "filters");
	reply_log(m, "milter-hold", v);
	return SMFIS_CONTINUE;
}

static int
reply_pass(SMFICTX *ctx, const struct pmilter_told *m,
    const struct pmilter_answer *a)
{
	const char *why = change_text(ctx, m, &a->j.edits);

	if (why == NULL)
		why = change_rcpts(ctx, m, a);
	if (why != NULL)
		return reply_failed(ctx, m, why);
	if (a->j.filter.n > 0)
		pmilter_note(true, mem_printf("%s: FILTER %.*s is not "
		    "possible here: the mail server chooses the way",
		    m->name, VIEW_ARGS(a->j.filter)));
	if (a->j.verdict.action == ACTION_HOLD)
		return reply_hold(ctx, m, &a->j.verdict);
	return SMFIS_CONTINUE;
}

int
pmilter_reply(SMFICTX *ctx, const struct pmilter_told *m,
    const struct pmilter_answer *a)
{
	const struct verdict *v = &a->j.verdict;
	bool refused = v->action == ACTION_REJECT || v->action == ACTION_DEFER;

	if (a->mixed)
		pmilter_note(false, mem_printf("%s: recipients with "
		    "different policies: the strictest one counts for all",
		    m->name));
	if (m->mode == MODE_TAG)
		return reply_tag(ctx, m, a);
	if (m->mode == MODE_QUARANTINE && (v->action == ACTION_DISCARD ||
	    (refused && v->code >= 500)))
		return reply_hold(ctx, m, v);
	if (refused)
		return reply_refuse(ctx, m, *v);
	if (v->action == ACTION_DISCARD) {
		reply_log(m, "milter-discard", v);
		return SMFIS_DISCARD;
	}
	return reply_pass(ctx, m, a);
}

int
pmilter_reply_failure(SMFICTX *ctx, const struct pmilter_told *m,
    unsigned code, const char *status, const char *text)
{
	struct pmilter_answer a = { .j.verdict = { .action = ACTION_REJECT,
		.code = (uint16_t)code, .status = view_of(status),
		.text = view_of(text) } };

	return pmilter_reply(ctx, m, &a);
}
