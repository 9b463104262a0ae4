/* A message of a session, from MAIL to the answer. */
#include <libmilter/mfapi.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "filters/pmilter_session.h"
#include "lib/address.h"
#include "lib/log.h"
#include "rules/judgement.h"

#define ENVELOPE_MAX	(3u << 20)

static struct {
	const struct conf *cf;
	_Atomic uint64_t bytes;		/* of all texts */
} message;

static struct view nothing = { "", 0 };

/* -- texts ----------------------------------------------------------------- */

struct view
text_kept(const char *text, size_t max)
{
	struct view v = view_head(view_of(text != NULL ? text : ""), max);
	char *p = mem_copy(v);
	size_t i;

	for (i = 0; i < v.n; i++)
		if ((unsigned char)p[i] < ' ' || p[i] == 0x7f)
			p[i] = '?';
	return view_make(p, v.n);
}

void
text_drop(struct view *v)
{
	free((char *)(uintptr_t)v->p);
	*v = (struct view){ NULL, 0 };
}

const char *
session_macro(SMFICTX *ctx, const char *name)
{
	char *n = mem_strdup(name);
	const char *value = smfi_getsymval(ctx, n);

	free(n);
	return value;
}

struct view
session_path(const char *text)
{
	struct view rest = view_of(text), v;
	struct buf b;
	bool utf8;

	buf_init(&b, ADDRESS_MAX + 1);
	if (address_path(&rest, false, &b, &utf8) == ADDRESS_OK &&
	    rest.n == 0 && memchr(b.n > 0 ? b.p : "", '\0', b.n) == NULL) {
		v = text_kept(buf_cstr(&b), ADDRESS_MAX);
	} else {
		v = view_of(text);
		if (v.n >= 2 && v.p[0] == '<' && v.p[v.n - 1] == '>')
			v = view_head(view_from(v, 1), v.n - 2);
		buf_clear(&b);
		(void)buf_putv(&b, view_head(v, ADDRESS_MAX));
		v = text_kept(buf_cstr(&b), ADDRESS_MAX);
	}
	buf_free(&b);
	return v;
}

/* -- the message ----------------------------------------------------------- */

void
message_hold(struct session *s)
{
	uint64_t size = s->text.size;

	if (size > s->held && atomic_fetch_add(&message.bytes,
	    size - s->held) + (size - s->held) >
	    (uint64_t)message.cf->postern_milter_memory_limit &&
	    s->text.trouble == TEXT_FINE)
		s->text.trouble = TEXT_NO_MEMORY;
	s->held = size > s->held ? size : s->held;
}

void
message_clear(struct session *s)
{
	uint32_t i;

	for (i = 0; i < s->env.nrcpts; i++) {
		text_drop(&s->env.rcpts[i].addr);
		free(s->raw[i]);
	}
	free(s->env.rcpts);
	free(s->raw);
	if (s->begun)
		text_drop(&s->env.sender);
	s->raw = NULL;
	s->cap = 0;
	s->env = (struct envelope){ 0 };
	pmilter_text_clear(&s->text);
	atomic_fetch_sub(&message.bytes, s->held);
	s->held = 0;
	s->rcpt_bytes = 0;
	s->too_many = s->begun = s->prepended = false;
	s->forged = 0;
	pmilter_restrict_clear(s->restrictions);
	if (s->counted)
		(void)pmilter_busy(false);
	s->counted = false;
}

void
message_begin(struct session *s, char **argv)
{
	message_clear(s);
	s->begun = true;
	s->counted = pmilter_busy(true);
	s->env.sender = session_path(argv[0]);
	pmilter_restrict_mail(s->restrictions, argv + 1);
	for (argv++; *argv != NULL; argv++)
		if (strcasecmp(*argv, "BODY=8BITMIME") == 0)
			s->env.flags |= ENVELOPE_8BIT;
		else if (strcasecmp(*argv, "SMTPUTF8") == 0)
			s->env.flags |= ENVELOPE_SMTPUTF8;
}

void
message_rcpt(struct session *s, const char *text, struct view addr)
{
	uint32_t n = s->env.nrcpts;

	if (n == ENVELOPE_RCPTS_MAX || addr.n == 0 ||
	    s->rcpt_bytes + addr.n + 16 > ENVELOPE_MAX - 8 * TEXT_MAX) {
		s->too_many = s->too_many || addr.n > 0;
		text_drop(&addr);
		return;
	}
	if (n == s->cap) {
		s->cap = s->cap * 2 + 4;
		s->env.rcpts = mem_resize(s->env.rcpts, s->cap,
		    sizeof *s->env.rcpts);
		s->raw = mem_resize(s->raw, s->cap, sizeof *s->raw);
	}
	s->rcpt_bytes += addr.n + 16;
	s->env.rcpts[n] = (struct recipient){ .addr = addr };
	s->raw[n] = mem_strdup(text);
	s->env.nrcpts++;
}

/* The gateway has them above the client's headers, for the rules to see. */
void
message_prepend(struct session *s)
{
	const struct policy_actions *asked =
	    pmilter_restrict_actions(s->restrictions);
	uint32_t i;

	if (s->prepended)
		return;
	s->prepended = true;
	for (i = 0; asked != NULL && i < asked->n_prepend; i++)
		pmilter_text_prepend(&s->text, asked->prepend[i]);
}

void
message_complete(SMFICTX *ctx, struct session *s, char name[MESSAGE_NAME])
{
	const char *id = session_macro(ctx, "i"), *proto = session_macro(ctx, "r");
	struct envelope *e = &s->env;

	/* Its own rewriting is the mail server's affair. */
	e->flags |= ENVELOPE_NO_MAPPING;
	e->client_name = s->client.client_name;
	e->client_addr = s->client.client_addr;
	e->client_port = s->client.client_port;
	e->helo = s->client.helo;
	e->proto = text_kept(proto != NULL ? proto : "ESMTP", 32);
	e->login = text_kept(session_macro(ctx, "{auth_authen}"), TEXT_MAX);
	e->envid = e->full_name = nothing;
	(void)snprintf(name, MESSAGE_NAME, "%s", id != NULL &&
	    envelope_name_good(view_of(id)) ? id : "NOQUEUE");
}

static void
progress(void *arg)
{
	(void)smfi_progress(arg);
}

/* What restrictions asked for and what the filter judged become one. */
static void
message_asked(const struct session *s, struct pmilter_answer *a)
{
	const struct policy_actions *p =
	    pmilter_restrict_actions(s->restrictions);
	struct judgement asked = { .verdict.action = ACTION_OK }, j = a->j;
	uint32_t i;

	if (p != NULL) {
		if (p->discard)
			asked.verdict = (struct verdict){
				.action = ACTION_DISCARD };
		else if (p->hold)
			asked.verdict = (struct verdict){
				.action = ACTION_HOLD, .text = p->hold_text,
				.where = p->hold_where };
		asked.redirect = p->redirect;
		asked.filter = p->filter;
		for (i = 0; i < p->n_bcc; i++)
			asked.bcc[asked.n_bcc++] = p->bcc[i];
		judgement_combine(&j, &asked, &a->j);
	}
	(void)pmilter_restrict_noted(s->restrictions, &a->j.verdict);
}

static int
message_judge(SMFICTX *ctx, struct session *s, const struct pmilter_told *m)
{
	struct pmilter_job j = { .task.take = pmilter_judge_take,
		.fd = s->text.fd, .size = s->text.size,
		.nrcpts = s->env.nrcpts };
	struct buf b;
	int rc;

	buf_init(&b, ENVELOPE_MAX);
	ensure(envelope_put(&b, &s->env));
	j.envelope = buf_view(&b);
	(void)snprintf(j.name, sizeof j.name, "%s", m->name);
	pmilter_hand_over(&j.task, progress, ctx);
	message_asked(s, &j.answer);
	rc = pmilter_reply(ctx, m, &j.answer);
	arena_free(&j.arena);
	free(j.parts);
	buf_free(&b);
	return rc;
}

int
session_restricted(SMFICTX *ctx, const struct session *s, enum policy_stage stage,
    struct view rcpt)
{
	return pmilter_restrict(ctx, s->restrictions, stage,
	    &(struct pmilter_seen){ .client = &s->client, .message = &s->env,
	    .rcpt = rcpt, .size = s->text.size });
}

int
message_end(SMFICTX *ctx, struct session *s, struct pmilter_told *m)
{
	int rc;

	if (!s->counted)
		return pmilter_reply_failure(ctx, m, 451, "4.3.2",
		    "Error: content filter is being stopped");
	if (s->too_many)
		return pmilter_reply_failure(ctx, m, 452, "4.5.3",
		    "Error: too many recipients");
	if (!pmilter_text_end(&s->text) || s->text.trouble != TEXT_FINE)
		switch (s->text.trouble) {
		case TEXT_TOO_BIG:
			return pmilter_reply_failure(ctx, m, 552, "5.3.4",
			    "Error: message file too big");
		case TEXT_HEADERS:
			return pmilter_reply_failure(ctx, m, 554, "5.6.0",
			    "Error: too many header lines");
		case TEXT_PREPEND:
			return pmilter_reply_failure(ctx, m, 451, "4.3.5",
			    "Error: a header to prepend is none");
		case TEXT_FINE:
		case TEXT_NO_MEMORY:
			return pmilter_reply_failure(ctx, m, 452, "4.3.1",
			    "Error: insufficient memory in content filter");
		}
	rc = session_restricted(ctx, s, STAGE_EOD, nothing);
	if (rc != SMFIS_CONTINUE)
		return rc;
	return message_judge(ctx, s, m);
}

void
message_start(const struct conf *cf)
{
	message.cf = cf;
}
