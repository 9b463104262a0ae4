/*
 * The role policy: restrictions for postern-milter.  It has the rules and no
 * session: a question has all that is known of one, and it answers when it has
 * asked lookup for what else it needs.  Log lines are smtpd's.
 */
#include <stdlib.h>
#include <unistd.h>

#include <sys/queue.h>

#include "lib/hits.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/own_addr.h"
#include "lib/role.h"
#include "rules/pattern_set.h"
#include "rules/policy_inside.h"
#include "rules/policy_line.h"
#include "rules/policy_run.h"
#include "rules/policy_wire.h"
#include "rules/table_remote.h"

#define FACT_WAIT_MS	20000
#define PLACES		1024u
#define JOBS_MAX	20000u	/* sessions have one each */

struct job {
	TAILQ_ENTRY(job) link;
	struct chan *chan;	/* whom to answer */
	uint64_t id;		/* its number there */
	uint32_t tag;		/* ours, while lookup is asked; 0 */
	LIST_ENTRY(job) place;
	char *text;		/* where the views of q point */
	struct policy_question q;
	struct policy_carry carry;
	struct facts known;
	struct policy_run *run;
	struct mono deadline;
	struct event timer;
};

static struct {
	struct policy *policy;
	struct policy_result *result;
	struct chan *lookup;	/* NULL: nobody to ask */
	uint32_t last_tag;
	size_t peers;
	unsigned n_jobs;
	TAILQ_HEAD(, job) jobs;
	LIST_HEAD(, job) places[PLACES];
	uint64_t asked, refused;
} me;

/* -- the log --------------------------------------------------------------- */

static const char *const commands[STAGES] = {
	[STAGE_CLIENT] = "CONNECT",
	[STAGE_HELO] = "HELO",
	[STAGE_MAIL] = "MAIL",
	[STAGE_RCPT] = "RCPT",
	[STAGE_DATA] = "DATA",
	[STAGE_EOD] = "END-OF-MESSAGE",
};

static void
job_log(const struct job *j, const char *action, const char *text,
    struct view where)
{
	const struct policy_facts *f = &j->q.facts;
	char addr[NETADDR_TEXT], *client, *helo, *id, *proto;

	/* log_safe() has room for few at a time. */
	client = mem_printf("%s[%s]", log_safe(f->client_name),
	    netaddr_text(&f->client, addr));
	id = mem_strdup(f->queue_id.n > 0 ? log_safe(f->queue_id) :
	    "NOQUEUE");
	proto = mem_strdup(log_safe(f->protocol));
	helo = f->has_helo ? mem_strdup(log_safe(f->helo)) : NULL;
	policy_line_log(&(struct policy_line){ .id = id, .action = action,
	    .command = commands[j->q.stage], .client = client, .text = text,
	    .sender = f->has_sender ? f->sender :
	    (struct view){ NULL, 0 }, .rcpt = f->recipient, .rule = where,
	    .proto = proto, .helo = helo });
	free(client);
	free(id);
	free(proto);
	free(helo);
}

static void
job_log_notes(const struct job *j, const struct policy_result *r)
{
	char client[NETADDR_TEXT], *text;
	uint32_t i;

	for (i = 0; i < r->n_notes; i++) {
		text = mem_strdup(log_safe(r->notes[i].text));
		job_log(j, r->notes[i].action, text, r->notes[i].where);
		free(text);
	}
	(void)netaddr_text(&j->q.facts.client, client);
	for (i = 0; i < r->n_hits; i++)
		hits_add(r->hits[i].where, r->hits[i].hash, r->hits[i].trial,
		    view_of(client));
}

/* -- answers --------------------------------------------------------------- */

static void
job_untag(struct job *j)
{
	if (j->tag != 0)
		LIST_REMOVE(j, place);
	j->tag = 0;
}

static void
job_free(struct job *j)
{
	job_untag(j);
	event_del(&j->timer);
	TAILQ_REMOVE(&me.jobs, j, link);
	me.n_jobs--;
	policy_run_free(&j->run);
	facts_free(&j->known);
	policy_carry_free(&j->carry);
	free(j->text);
	free(j);
}

static void
job_answer(struct job *j, struct policy_result *r)
{
	bool trial = j->q.trial == TRIAL_ALL;
	struct buf *b;
	char *text;

	job_log_notes(j, r);
	if (r->outcome == POLICY_REFUSE) {
		if (role_conf()->soft_bounce && r->reply.code >= 500) {
			r->reply.code -= 100;
			r->reply.status[0] = '4';
		}
		trial |= j->q.trial == TRIAL_PERMANENT &&
		    r->reply.code >= 500;
		text = mem_printf("%u %s %s", r->reply.code, r->reply.status,
		    r->reply.text);
		job_log(j, trial ? "reject_warning" : "reject", text,
		    r->where);
		free(text);
		me.refused++;
	}
	b = chan_begin(j->chan, MSG_RESTRICTED);
	put_u64(b, j->id);
	/* Far from what a message may have. */
	ensure(policy_answer_put(b, r, trial));
	chan_end(j->chan);
	job_free(j);
}

/* -- facts ----------------------------------------------------------------- */

static int64_t
job_left(const struct job *j)
{
	int64_t ms = (j->deadline.us - loop_now().us) / 1000;

	return ms > 0 ? ms : 0;
}

static bool
job_ask_lookup(struct job *j, const struct policy_result *r, int64_t ms)
{
	const struct fact_name *need = &j->run->need;
	bool service = need->kind == FACT_SERVICE;
	struct buf *b;

	if (me.lookup == NULL)
		return false;
	if (++me.last_tag == 0)
		me.last_tag++;
	j->tag = me.last_tag;
	LIST_INSERT_HEAD(&me.places[j->tag % PLACES], j, place);
	b = chan_begin(me.lookup, MSG_FACT);
	put_u32(b, j->tag);
	put_u8(b, (uint8_t)need->kind);
	put_u16(b, need->type);
	put_view(b, service ? r->endpoint : need->key);
	put_u32(b, service ? (uint32_t)r->request_ms : 0);
	put_view(b, service ? r->request : view_of(""));
	chan_end(me.lookup);
	event_add(&j->timer, loop_timeout(ms));
	return true;
}

/* False: it is known already that nobody will say. */
static bool
job_ask(struct job *j, const struct policy_result *r)
{
	int64_t ms = FACT_WAIT_MS, left = job_left(j), n;

	if (left == 0)
		return false;
	switch ((int)j->run->need.kind) {
	case FACT_PAUSE:
		if (!conf_parse_int(j->run->need.key, 0, 600000, &n))
			n = 0;
		event_add(&j->timer, loop_timeout(n < left ? n : left));
		return true;
	case FACT_SERVICE:
		ms += r->request_ms *
		    role_conf()->smtpd_policy_service_try_limit;
		break;
	case FACT_DNS:
		break;
	default:
		return false;
	}
	return job_ask_lookup(j, r, ms < left ? ms : left);
}

static void
job_go(struct job *j)
{
	struct policy_result *r = me.result;

	while (policy_run(&j->run, me.policy, j->q.stage, &j->q.facts, r) ==
	    POLICY_NEED) {
		/* load() made sure that there is no such table. */
		ensure(j->run->need.kind != FACT_TABLE);
		if (job_ask(j, r))
			return;
		policy_run_told(j->run, &j->known, view_of(""));
	}
	job_answer(j, r);
}

static void
job_told(struct job *j, struct view answer)
{
	job_untag(j);
	event_del(&j->timer);
	policy_run_told(j->run, &j->known, answer);
	job_go(j);
}

static void
job_on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	job_told(arg, view_of(""));
}

static void
lookup_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	uint32_t tag = cursor_u32(&m->body);
	struct view answer = cursor_view(&m->body);
	struct job *j;

	(void)arg;
	if (!chan_check(c, m))
		return;
	LIST_FOREACH(j, &me.places[tag % PLACES], place)
		if (j->tag == tag)
			break;
	/* NULL: late. */
	if (j != NULL)
		job_told(j, answer);
}

/* What it was asked is not known, for now. */
static void
lookup_lost(void)
{
	struct job *j, *next;

	chan_free(&me.lookup);
	for (j = TAILQ_FIRST(&me.jobs); j != NULL; j = next) {
		next = TAILQ_NEXT(j, link);
		if (j->tag != 0)
			job_told(j, view_of(""));
	}
}

static void
lookup_on_close(struct chan *c, void *arg)
{
	(void)c;
	(void)arg;
	lookup_lost();
}

/* -- questions ------------------------------------------------------------- */

static void
pmilter_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct job *j = mem_alloc(sizeof *j);
	struct cursor body;
	bool good;

	(void)arg;
	j->chan = c;
	j->id = cursor_u64(&m->body);
	/* The views are to outlive the message. */
	body = m->body;
	j->text = mem_copy(cursor_bytes(&body, cursor_left(&body)));
	body = cursor_of(view_make(j->text, cursor_left(&m->body)));
	good = m->type == MSG_RESTRICT && j->id != 0 &&
	    me.n_jobs < JOBS_MAX &&
	    policy_question_get(&body, &j->q, &j->carry) && cursor_done(&body);
	(void)cursor_bytes(&m->body, cursor_left(&m->body));
	j->q.facts.known = &j->known;
	j->deadline.us = loop_now().us +
	    role_conf()->postern_milter_restrictions_time_limit * 1000;
	evtimer_assign(&j->timer, loop_base(), job_on_timer, j);
	TAILQ_INSERT_TAIL(&me.jobs, j, link);
	me.n_jobs++;
	if (!chan_check(c, m) || !good) {
		job_free(j);
		if (!good)
			chan_blame(c, "bad question");
		return;
	}
	me.asked++;
	job_go(j);
}

static void
policy_leave(void)
{
	if (role_phase() == PHASE_RETIRING && me.peers == 0)
		role_exit();
}

static void
pmilter_on_close(struct chan *c, void *arg)
{
	struct job *j, *next;

	(void)arg;
	for (j = TAILQ_FIRST(&me.jobs); j != NULL; j = next) {
		next = TAILQ_NEXT(j, link);
		if (j->chan == c)
			job_free(j);
	}
	chan_free(&c);
	me.peers--;
	policy_leave();
}

static void
policy_peer(const struct role_peer *peer, int fd)
{
	if (peer->kind == ROLE_LOOKUP) {
		if (me.lookup != NULL)
			lookup_lost();
		me.lookup = chan_new(fd, ROLE_POLICY, ROLE_LOOKUP, peer->pid,
		    lookup_on_msg, lookup_on_close, NULL);
		return;
	}
	(void)chan_new(fd, ROLE_POLICY, peer->kind, peer->pid, pmilter_on_msg,
	    pmilter_on_close, NULL);
	me.peers++;
}

/* -- the role -------------------------------------------------------------- */

static void
policy_load(void)
{
	struct netaddr own[OWN_ADDR_MAX];

	tzset();
	table_pattern_sets(pattern_sets(), NULL, NULL);
	me.policy = policy_open_inside(role_conf(), own,
	    own_addresses(role_conf(), own, OWN_ADDR_MAX), log_report, NULL);
	if (me.policy == NULL)
		fatal("the restrictions cannot be used");
	if (table_remote_opened() > 0)
		fatal("postern-milter has no tables behind a connection");
	me.result = policy_result_new();
	TAILQ_INIT(&me.jobs);
}

static void
policy_status(struct buf *b)
{
	buf_printf(b, "restrictions_asked %llu\nrestrictions_refused %llu\n"
	    "restrictions_open %u\n", (unsigned long long)me.asked,
	    (unsigned long long)me.refused, me.n_jobs);
}

int
main(int argc, char **argv)
{
	static const struct role_def def = {
		.kind = ROLE_POLICY,
		.jail = { .allow = 0 },
		.load = policy_load,
		.peer = policy_peer,
		.retire = policy_leave,
		.status = policy_status,
	};

	return role_main(&def, argc, argv);
}
