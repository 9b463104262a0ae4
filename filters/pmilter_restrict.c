#include <libmilter/mfapi.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "filters/pmilter_restrict.h"
#include "lib/conf_choice.h"
#include "lib/log.h"
#include "rules/policy_inside.h"
#include "rules/policy_run.h"

#define QUESTION_MAX	(64u << 10)
#define ACTIONS_MAX	(1u << 20)
#define SIZE_MAX_VALUE	((int64_t)1 << 50)

struct pmilter_restrict {
	unsigned long no;		/* of the session */
	unsigned messages;
	struct netaddr client, server;
	enum name_status name_status;
	char *reverse;
	struct policy_carry carry;
	bool denied;			/* by smtpd_client_restrictions */
	struct policy_reply denial;
	/* The message. */
	uint64_t declared;
	bool utf8;
	struct arena *arena;
	struct policy_actions *actions;
	bool noted;
	struct policy_reply note;
	char *note_where;
	struct policy_result *result;
};

static struct {
	const struct conf *cf;
	enum pmilter_mode mode;
	uint32_t stages;
	atomic_ulong sessions;
	int64_t began;
} all;

void
pmilter_restrict_start(const struct conf *cf, enum pmilter_mode mode)
{
	all.cf = cf;
	all.mode = mode;
	all.stages = policy_inside_stages(cf);
	all.began = clock_wall().us;
}

/* A client that is refused hears it with the first command that can carry a
 * reply. */
bool
pmilter_restrict_at(enum policy_stage stage)
{
	return (all.stages & 1u << stage) != 0 ||
	    ((stage == STAGE_HELO || stage == STAGE_MAIL) &&
	    (all.stages & 1u << STAGE_CLIENT) != 0);
}

struct pmilter_restrict *
pmilter_restrict_new(void)
{
	struct pmilter_restrict *r;

	if (all.stages == 0)
		return NULL;
	r = mem_alloc(sizeof *r);
	r->no = atomic_fetch_add(&all.sessions, 1);
	r->name_status = NAME_NONE;
	r->result = policy_result_new();
	return r;
}

void
pmilter_restrict_clear(struct pmilter_restrict *r)
{
	if (r == NULL)
		return;
	arena_free(&r->arena);
	r->actions = NULL;
	r->noted = false;
	free(r->note_where);
	r->note_where = NULL;
	r->declared = 0;
	r->utf8 = false;
	free(r->carry.mail);
	r->carry.mail = NULL;
}

void
pmilter_restrict_free(struct pmilter_restrict **rp)
{
	struct pmilter_restrict *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	pmilter_restrict_clear(r);
	policy_carry_free(&r->carry);
	policy_result_free(&r->result);
	free(r->reverse);
	free(r);
}

/* -- facts ----------------------------------------------------------------- */

/* As a fact: printable, and not without end. */
static struct view
told(SMFICTX *ctx, const char *name, struct arena *a)
{
	char *n = mem_strdup(name), *p;
	const char *value = smfi_getsymval(ctx, n);
	struct view v = view_head(view_of(value != NULL ? value : ""), 1000);
	size_t i;

	free(n);
	p = arena_alloc(a, v.n + 1);
	for (i = 0; i < v.n; i++)
		p[i] = (unsigned char)v.p[i] < ' ' || v.p[i] == 0x7f ? '?' :
		    v.p[i];
	return view_make(p, v.n);
}

void
pmilter_restrict_client(SMFICTX *ctx, struct pmilter_restrict *r,
    const struct netaddr *addr, const struct envelope *client)
{
	struct arena *a;
	struct view resolve, ptr, own;
	int64_t port;
	bool unknown = view_is(client->client_name, "unknown");

	if (r == NULL)
		return;
	a = arena_new(8192);
	r->client = *addr;
	/* Postfix, and sendmail. */
	own = told(ctx, "{daemon_addr}", a);
	if (own.n == 0)
		own = told(ctx, "{if_addr}", a);
	if (!netaddr_parse(own, &r->server))
		ensure(netaddr_parse(view_of("127.0.0.1"), &r->server));
	if (conf_parse_int(told(ctx, "{daemon_port}", a), 0, 65535, &port))
		r->server.port = (uint16_t)port;
	resolve = told(ctx, "{client_resolve}", a);
	ptr = told(ctx, "{client_ptr}", a);
	if (ptr.n == 0 || ptr.p[0] == '[')
		ptr = unknown ? view_of("unknown") : client->client_name;
	r->reverse = mem_copy(ptr);
	r->name_status = view_is(resolve, "TEMP") ? NAME_TEMPFAIL :
	    !unknown ? NAME_OK : view_is(ptr, "unknown") ? NAME_NONE :
	    NAME_UNVERIFIED;
	arena_free(&a);
}

void
pmilter_restrict_mail(struct pmilter_restrict *r, char **args)
{
	int64_t n;

	if (r == NULL)
		return;
	for (; *args != NULL; args++)
		if (strncasecmp(*args, "SIZE=", 5) == 0 && conf_parse_int(
		    view_of(*args + 5), 0, SIZE_MAX_VALUE, &n))
			r->declared = (uint64_t)n;
		else if (strcasecmp(*args, "SMTPUTF8") == 0)
			r->utf8 = true;
}

/* Postfix tells names of a certificate only if it is trusted; sendmail of any,
 * and whether. */
static bool
told_trusted(SMFICTX *ctx, const struct policy_facts *f, struct arena *a)
{
	struct view verify = told(ctx, "{verify}", a);
	struct view version = told(ctx, "v", a);

	if (verify.n > 0)
		return view_is(verify, "OK");
	return f->tls_subject.n > 0 && version.n > 7 &&
	    view_is(view_head(version, 7), "Postfix");
}

static void
facts_told(SMFICTX *ctx, struct policy_facts *f, struct arena *a)
{
	struct view proto = told(ctx, "r", a);
	int64_t bits = 0;

	f->protocol = proto.n > 0 ? proto : view_of("ESMTP");
	f->queue_id = told(ctx, "i", a);
	f->login = told(ctx, "{auth_authen}", a);
	f->login_method = told(ctx, "{auth_type}", a);
	f->login_sender = told(ctx, "{auth_author}", a);
	f->tls_protocol = told(ctx, "{tls_version}", a);
	f->tls_cipher = told(ctx, "{cipher}", a);
	f->tls_subject = told(ctx, "{cert_subject}", a);
	f->tls_issuer = told(ctx, "{cert_issuer}", a);
	f->tls_trusted = told_trusted(ctx, f, a);
	if (conf_parse_int(told(ctx, "{cipher_bits}", a), 0, 65535, &bits))
		f->tls_bits = (uint32_t)bits;
}

static void
facts_fill(SMFICTX *ctx, const struct pmilter_restrict *r,
    enum policy_stage stage, const struct pmilter_seen *seen,
    struct policy_facts *f, struct arena *a)
{
	const struct envelope *c = seen->client, *m = seen->message;
	char instance[64];

	*f = (struct policy_facts){ .client = r->client, .server = r->server,
		.client_name = c->client_name,
		.reverse_name = view_of(r->reverse != NULL ? r->reverse :
		    "unknown"),
		.name_status = r->name_status, .has_helo = c->helo.n > 0,
		.helo = c->helo, .carry = &r->carry,
		.verb = view_of(stage == STAGE_HELO ? "EHLO" : "") };
	facts_told(ctx, f, a);
	if (stage >= STAGE_MAIL) {
		f->has_sender = true;
		f->sender = m->sender;
		f->size = seen->size > 0 ? seen->size : r->declared;
		f->utf8 = r->utf8;
		f->recipients = m->nrcpts;
		f->discarding = r->actions != NULL && r->actions->discard;
	}
	if (stage == STAGE_RCPT || (stage >= STAGE_DATA && m->nrcpts == 1)) {
		f->has_recipient = true;
		f->recipient = stage == STAGE_RCPT ? seen->rcpt :
		    m->rcpts[0].addr;
	}
	(void)snprintf(instance, sizeof instance, "%x.%llx.%lx.%x",
	    (unsigned)getpid(), (unsigned long long)all.began, r->no,
	    r->messages);
	f->instance = arena_copy(a, view_of(instance));
}

/* -- what is said ---------------------------------------------------------- */

static int
refuse(SMFICTX *ctx, const struct policy_reply *reply)
{
	return pmilter_reply_code(ctx, reply->code, view_of(reply->status),
	    view_of(reply->text));
}

static int
fail(SMFICTX *ctx, unsigned code, const char *status, const char *text)
{
	struct policy_reply reply = { .code = (uint16_t)code };

	if (all.mode == MODE_TAG)
		return SMFIS_CONTINUE;
	(void)snprintf(reply.status, sizeof reply.status, "%s", status);
	(void)snprintf(reply.text, sizeof reply.text, "%s", text);
	return refuse(ctx, &reply);
}

static void
note(struct pmilter_restrict *r)
{
	if (r->noted)
		return;
	r->noted = true;
	r->note = r->result->reply;
	r->note_where = mem_copy(r->result->where);
}

static int
permit(SMFICTX *ctx, struct pmilter_restrict *r, enum policy_stage stage)
{
	policy_carry_stage(&r->carry, stage, r->result);
	if (stage < STAGE_MAIL)
		return SMFIS_CONTINUE;
	if (r->arena == NULL)
		r->arena = arena_new(ACTIONS_MAX);
	if (policy_actions_add(&r->actions, r->arena, r->result))
		return SMFIS_CONTINUE;
	pmilter_note(true, mem_printf("%s: more than %u BCC or PREPEND "
	    "actions for one message", r->reverse, POLICY_LIST_MAX));
	return fail(ctx, 452, "4.5.3", "Error: too many recipients");
}

static int
answer(SMFICTX *ctx, struct pmilter_restrict *r, enum policy_stage stage,
    bool trial)
{
	if (r->result->outcome == POLICY_PERMIT)
		return permit(ctx, r, stage);
	if (trial) {
		note(r);
		return SMFIS_CONTINUE;
	}
	if (stage != STAGE_CLIENT)
		return refuse(ctx, &r->result->reply);
	/* There is no reply of ours to a connection. */
	r->denied = true;
	r->denial = r->result->reply;
	return SMFIS_CONTINUE;
}

static void
progress(void *arg)
{
	(void)smfi_progress(arg);
}

static bool
ask(SMFICTX *ctx, struct pmilter_restrict *r, enum policy_stage stage,
    const struct pmilter_seen *seen, struct pmilter_question *ret)
{
	struct policy_question q = { .stage = stage,
		.trial = all.mode == MODE_TAG ? TRIAL_ALL :
		all.mode == MODE_QUARANTINE ? TRIAL_PERMANENT : TRIAL_NONE };
	struct arena *a = arena_new(QUESTION_MAX);
	struct buf b;

	*ret = (struct pmilter_question){ .task.take = pmilter_policy_take,
		.result = r->result };
	buf_init(&b, QUESTION_MAX);
	facts_fill(ctx, r, stage, seen, &q.facts, a);
	/* All of them have their limits. */
	ensure(policy_question_put(&b, &q));
	ret->encoded = buf_view(&b);
	pmilter_hand_over(&ret->task, stage == STAGE_EOD ? progress : NULL,
	    ctx);
	buf_free(&b);
	arena_free(&a);
	return ret->answered;
}

int
pmilter_restrict(SMFICTX *ctx, struct pmilter_restrict *r,
    enum policy_stage stage, const struct pmilter_seen *seen)
{
	struct pmilter_question q;

	if (r == NULL)
		return SMFIS_CONTINUE;
	if (r->denied && stage > STAGE_CLIENT)
		return refuse(ctx, &r->denial);
	if (stage == STAGE_MAIL)
		r->messages++;
	if ((all.stages & 1u << stage) == 0)
		return SMFIS_CONTINUE;
	if (!ask(ctx, r, stage, seen, &q)) {
		pmilter_note(true, mem_printf("%.*s[%.*s]: restrictions "
		    "could not be evaluated",
		    VIEW_ARGS(seen->client->client_name),
		    VIEW_ARGS(seen->client->client_addr)));
		return fail(ctx, 451, "4.3.0", "Error: restrictions could not "
		    "be evaluated");
	}
	return answer(ctx, r, stage, q.trial);
}

const struct policy_actions *
pmilter_restrict_actions(const struct pmilter_restrict *r)
{
	return r != NULL ? r->actions : NULL;
}

bool
pmilter_restrict_noted(const struct pmilter_restrict *r, struct verdict *ret)
{
	if (r == NULL || !r->noted)
		return false;
	*ret = (struct verdict){ .action = ACTION_REJECT,
		.code = r->note.code, .status = view_of(r->note.status),
		.text = view_of(r->note.text),
		.where = view_of(r->note_where) };
	return true;
}
