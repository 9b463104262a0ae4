/*
 * Where a session asks the policy: facts are gathered, the restrictions of a
 * stage are evaluated, and while one of them needs a fact from outside, the
 * session waits for it and nothing else.  Then what the client said goes on
 * as if there had been no wait.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/hits.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/table_client.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_link.h"
#include "proxy/smtpd_milter.h"
#include "proxy/smtpd_tls.h"
#include "rules/policy_run.h"

#define FACT_WAIT_MS	20000	/* the DNS; lookup gives up earlier */
#define ADDRESS_WAIT_MAX 600000	/* for a probe */

/* A command that waits for the policy. */
struct pending {
	enum policy_stage stage;
	char *args, *rcpt;
	size_t args_n, rcpt_n;
	struct policy_run *run;
	struct table_question *question;	/* what a table is asked now */
};

/* -- facts ----------------------------------------------------------------- */

static void
policy_facts_fill(const struct session *s, enum policy_stage stage,
    struct view args, struct view rcpt, struct policy_facts *f,
    struct policy_text *text)
{
	const struct transaction *tx = s->tx;

	*f = (struct policy_facts){
		.client = s->addr,
		.server = s->local,
		.client_name = session_client_name(s),
		.reverse_name = view_of(s->reverse != NULL ? s->reverse :
		    "unknown"),
		.name_status = (enum name_status)s->name_status,
		.has_helo = s->helo != NULL,
		.helo = session_helo(s),
		.protocol = view_of(s->esmtp ? "ESMTP" : "SMTP"),
		.pipelined = s->pipelined,
		.known = &s->facts,
		.carry = &s->carry,
	};
	tls_facts(s, f);
	auth_facts(s, f);
	if (stage == STAGE_HELO) {
		f->has_helo = true;
		f->helo = view_head(args, HELO_NAME_MAX);
		f->verb = view_of(verb_rules[s->verb].name);
	} else if (s->verb == VERB_VRFY) {
		f->verb = view_of("VRFY");
	}
	if (stage == STAGE_MAIL) {
		/* There is no transaction yet. */
		f->has_sender = true;
		f->sender = rcpt;
		f->size = s->announced;
		f->utf8 = s->announced_utf8;
	} else if (tx != NULL) {
		f->has_sender = true;
		f->sender = tx->sender;
		f->size = tx->size > 0 ? tx->size : tx->declared;
		f->utf8 = (tx->flags & ENVELOPE_SMTPUTF8) != 0;
		f->recipients = tx->nrcpts;
		f->discarding = tx->actions != NULL && tx->actions->discard;
	}
	if (stage == STAGE_ETRN)
		f->etrn = rcpt;
	if (stage == STAGE_RCPT) {
		f->has_recipient = true;
		f->recipient = rcpt;
	} else if (tx != NULL && tx->nrcpts == 1 && stage >= STAGE_DATA) {
		f->has_recipient = true;
		f->recipient = tx->rcpts[0].addr;
	}
	if (tx != NULL && tx->has_slot)
		f->queue_id = view_of(queue_id_text(tx->slot.id, text->id));
	/* The same for all recipients of a message: what greylisting
	 * daemons tell messages apart by. */
	(void)snprintf(text->instance, sizeof text->instance, "%x.%llx.%x.%x",
	    (unsigned)getpid(), (unsigned long long)s->began.us, s->no,
	    s->total[VERB_MAIL]);
	f->instance = view_of(text->instance);
}

bool
session_expand(const struct session *s, struct view template,
    struct buf *out)
{
	struct policy_text text;
	struct policy_facts f;

	policy_facts_fill(s, STAGE_NONE, view_of(""), view_of(""), &f, &text);
	return policy_expand(s->server->policy, &f, template, out);
}

/* -- what comes out -------------------------------------------------------- */

static void
policy_log(struct session *s, const struct policy_facts *f,
    const char *action, const char *what, struct view where)
{
	struct session_event ev = { .action = action, .text = what,
		.rcpt = f->recipient, .rule = where };

	if (f->has_sender)
		ev.sender = f->sender.p != NULL ? f->sender : view_of("");
	session_log_event(s, &ev);
}

static void
policy_log_notes(struct session *s, const struct policy_facts *f,
    const struct policy_result *r)
{
	uint32_t i;

	s->server->soft += r->softened;
	for (i = 0; i < r->n_notes; i++)
		policy_log(s, f, r->notes[i].action,
		    log_safe(r->notes[i].text), r->notes[i].where);
}

static void
policy_count(const struct session *s, const struct policy_result *r)
{
	char client[NETADDR_TEXT];
	uint32_t i;

	if (r->n_hits > 0)
		(void)netaddr_text(&s->addr, client);
	for (i = 0; i < r->n_hits; i++)
		hits_add(r->hits[i].where, r->hits[i].hash, r->hits[i].trial,
		    view_of(client));
}

static void
policy_refused(struct session *s, enum policy_stage stage,
    const struct policy_facts *f, const struct policy_result *r)
{
	char *text = mem_printf("%u %s %s", r->reply.code, r->reply.status,
	    r->reply.text);

	/* As it will be sent. */
	if (s->server->cf->soft_bounce && text[0] == '5')
		text[0] = text[4] = '4';
	policy_log(s, f, "reject", text, r->where);
	s->server->refused++;
	if (r->reply_policy)
		notice_policy(s);
	session_refuse(s, "%s", text);
	if (stage == STAGE_RCPT && s->verb == VERB_RCPT)
		milter_refused(s, f->recipient, r->reply.status,
		    r->reply.text);
	if (stage == STAGE_CLIENT)
		s->denied = true;
	/* Not even a part of it may be taken for the next message. */
	if (stage == STAGE_EOD)
		session_enter(s, SMTP_GREETED);
	free(text);
}

/*
 * A message may have so many copies and headers by rule, and no recipient
 * shall go without his because of those before him: the client sends the rest
 * in another transaction.
 */
static void
policy_full(struct session *s, enum policy_stage stage,
    const struct policy_facts *f)
{
	static const char text[] = "452 4.5.3 Error: too many recipients";

	log_warn("%s: more than %u BCC or PREPEND actions for one message",
	    s->name, POLICY_LIST_MAX);
	policy_log(s, f, "reject", text, view_of(""));
	s->server->refused++;
	session_refuse(s, "%s", text);
	if (stage == STAGE_EOD)
		session_enter(s, SMTP_GREETED);
}

bool
policy_take(struct session *s)
{
	struct transaction *tx = s->tx;

	return policy_actions_add(&tx->actions, tx->arena, s->server->result);
}

/* -- waiting --------------------------------------------------------------- */

static void
pending_end(struct pending *p)
{
	table_client_cancel(&p->question);
	policy_run_free(&p->run);
	free(p->args);
	free(p->rcpt);
	free(p);
}

static void
pending_free(struct session *s)
{
	if (s->pending == NULL)
		return;
	pending_end(s->pending);
	s->pending = NULL;
}

static void
pending_keep(struct session *s, enum policy_stage stage, struct view args,
    struct view rcpt, struct policy_run *run)
{
	struct pending *p = mem_alloc(sizeof *p);

	p->run = run;
	p->stage = stage;
	p->args = mem_copy(args);
	p->args_n = args.n;
	p->rcpt = mem_copy(rcpt);
	p->rcpt_n = rcpt.n;
	s->pending = p;
}

static int64_t
address_wait(const struct session *s)
{
	const struct conf *cf = s->server->cf;
	int64_t ms = cf->address_verify_poll_delay;

	return ms >= ADDRESS_WAIT_MAX / cf->address_verify_poll_count ?
	    ADDRESS_WAIT_MAX : ms * cf->address_verify_poll_count;
}

void
session_ask_again(struct session *s)
{
	ensure(s->pending != NULL &&
	    s->pending->run->need.kind == FACT_ADDRESS);
	/* The time limit stays as it is. */
	if (!queue_verify(s, s->pending->run->need.key, address_wait(s)))
		session_timer(s, 1);
}

/* Ask for what is needed; the answer, or none, is session_fact(). */
static void
pending_ask(struct session *s, const struct policy_result *r)
{
	const struct policy_run *p = s->pending->run;
	int64_t ms = FACT_WAIT_MS, n;
	struct fact_name whom;

	if (p->need.kind == FACT_PAUSE) {
		if (!conf_parse_int(p->need.key, 0, 600000, &n))
			n = 0;
		session_wait_for(s, WAIT_FACT, n);
		return;
	}
	if (p->need.kind == FACT_ADDRESS) {
		session_wait_for(s, WAIT_FACT, address_wait(s));
		session_ask_again(s);
		return;
	}
	whom = p->need;
	if (p->need.kind == FACT_SERVICE) {
		ms += r->request_ms *
		    s->server->cf->smtpd_policy_service_try_limit;
		whom.key = r->endpoint;
	}
	session_wait_for(s, WAIT_FACT, ms);
	if (!facts_ask(s, &whom, r->request, r->request_ms))
		session_timer(s, 1);	/* nobody to ask */
}

static void
pending_told(enum table_reply reply, struct view value, void *arg)
{
	struct session *s = arg;
	struct pending *p = s->pending;

	ensure(s->wait == WAIT_FACT && p != NULL &&
	    p->run->need.kind == FACT_TABLE);
	p->question = NULL;
	table_known_add(p->run->tables, reply, value);
	session_resume(s);
}

static void
pending_ask_table(struct session *s)
{
	struct pending *p = s->pending;
	const struct table_need *need = &p->run->table;

	s->asked = NULL;	/* it is not lookup that must answer */
	p->question = table_client_ask(need->service, need->table, need->key,
	    pending_told, s);
	session_wait_for(s, WAIT_FACT,
	    s->server->cf->lookup_table_time_limit + 5000);
}

/* -- the stages ------------------------------------------------------------ */

enum policy_pass { PASS_PERMIT = 1, PASS_REFUSED, PASS_WAITING };

static enum policy_pass
policy_pass(struct session *s, enum policy_stage stage, struct view args,
    struct view rcpt)
{
	struct policy_result *r = s->server->result;
	struct policy_run *run = s->pending != NULL ? s->pending->run : NULL;
	struct policy_text text;
	struct policy_facts f;

	policy_facts_fill(s, stage, args, rcpt, &f, &text);
	if (policy_run(&run, s->server->policy, stage, &f, r) ==
	    POLICY_NEED) {
		if (s->pending == NULL)
			pending_keep(s, stage, args, rcpt, run);
		if (run->need.kind == FACT_TABLE)
			pending_ask_table(s);
		else
			pending_ask(s, r);
		return PASS_WAITING;
	}
	if (f.asked > 0)
		facts_clear(&s->facts, SHELF_EVALUATION);
	policy_log_notes(s, &f, r);
	policy_count(s, r);
	policy_carry_stage(&s->carry, stage, r);
	if (r->outcome == POLICY_REFUSE) {
		policy_refused(s, stage, &f, r);
		return PASS_REFUSED;
	}
	ensure(r->outcome == POLICY_PERMIT);
	/* MAIL makes its transaction first, VRFY has none to change. */
	if (s->tx != NULL && stage >= STAGE_RCPT && s->verb != VERB_VRFY &&
	    !policy_take(s)) {
		policy_full(s, stage, &f);
		return PASS_REFUSED;
	}
	return PASS_PERMIT;
}

bool
session_policy(struct session *s, enum policy_stage stage, struct view args,
    struct view rcpt)
{
	ensure(s->pending == NULL);
	return !policy_has(s->server->policy, stage) ||
	    policy_pass(s, stage, args, rcpt) == PASS_PERMIT;
}

static void
policy_go_on(struct session *s, enum policy_stage stage, struct view args)
{
	if (stage == STAGE_CLIENT)
		session_greet(s);
	else if (stage == STAGE_EOD)
		data_permitted(s);
	else
		command_go(s, args);
}

/* Evaluate what waits again, with one fact more. */
void
session_policy_resume(struct session *s)
{
	struct pending *p = s->pending;
	struct view args = view_make(p->args, p->args_n);
	enum policy_pass pass;

	pass = policy_pass(s, p->stage, args, view_make(p->rcpt, p->rcpt_n));
	if (pass == PASS_WAITING)
		return;
	/* What goes on may wait for something itself. */
	s->pending = NULL;
	if (pass == PASS_PERMIT)
		policy_go_on(s, p->stage, args);
	else if (p->stage == STAGE_CLIENT)
		session_greet(s);
	pending_end(p);
}

void
session_fact(struct session *s, struct view answer)
{
	struct pending *p = s->pending;

	ensure(s->wait == WAIT_FACT && p != NULL);
	if (p->run->need.kind == FACT_TABLE) {
		/* Late. */
		table_client_cancel(&p->question);
		pending_told(TABLE_REPLY_FAILED, view_of(""), s);
		return;
	}
	policy_run_told(p->run, &s->facts, answer);
	session_resume(s);
}

void
session_policy_free(struct session *s)
{
	pending_free(s);
	facts_free(&s->facts);
	policy_carry_free(&s->carry);
}
