/*
 * The role milter: speaks the milter protocol with filters outside, on behalf
 * of SMTP sessions (smtpd tells what a client says) and of messages (qmgr
 * sends their text).  One process serves all sessions; no filter holds up
 * another's.  It opens no files.
 */
#include <stdlib.h>

#include "filters/milter_message.h"
#include "filters/milter_pool.h"
#include "filters/milter_session.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/role.h"

#define PLACES		1024u	/* of a table of sessions */
#define FILES_MAX	8192u
#define LINGER_MS	300000	/* for a message whose client has left */

/* A session of a smtpd. */
struct entry {
	struct entry *next;
	struct peer *peer;
	uint32_t no;
	struct milter_session *session;
	struct milter_job *job;		/* waits for events that are on their
					 * way */
	uint32_t need;
	struct event timer;		/* its client left; a message comes */
};

struct peer {
	struct peer *next;
	struct chan *chan;
	enum role_kind kind;
	const struct milter_set *set;
	struct entry *place[PLACES];	/* smtpd */
	uint32_t n;
};

static struct {
	struct peer *peers;
	unsigned n_smtpds;
	uint64_t n_sessions, n_messages;
} milter;

static void
milter_load(void)
{
	const struct conf *cf = role_conf();

	if (!milter_sets_open(cf, log_report, NULL) ||
	    !milter_messages_load(cf, log_report, NULL))
		fatal("the settings of outside filters cannot be used");
}

static void
milter_leave(void)
{
	if (role_phase() == PHASE_RETIRING && milter.n_smtpds == 0 &&
	    milter_jobs() == 0)
		role_exit();
}

/* -- sessions -------------------------------------------------------------- */

static struct entry **
entry_place(struct peer *p, uint32_t no)
{
	struct entry **e = &p->place[no % PLACES];

	while (*e != NULL && (*e)->no != no)
		e = &(*e)->next;
	return e;
}

static void
entry_remove(struct entry **place)
{
	struct entry *e = *place;

	ensure(e != NULL);
	*place = e->next;
	if (event_initialized(&e->timer))
		(void)event_del(&e->timer);
	if (e->job != NULL)
		milter_job_fail(e->job);
	milter_session_release(e->session);
	e->peer->n--;
	free(e);
}

static void
say(struct peer *p, uint32_t tag, const struct milter_verdict *v,
    uint32_t waits)
{
	struct buf *b = chan_begin(p->chan, MSG_MILTER_SAYS);

	put_u32(b, tag);
	put_u8(b, (uint8_t)v->says);
	put_u16(b, v->code);
	put_view(b, v->text);
	put_u32(b, waits);
	chan_end(p->chan);
}

static void
entry_told(struct milter_session *s, uint32_t tag,
    const struct milter_verdict *v, uint32_t waits, void *arg)
{
	struct entry *e = arg;

	(void)s;
	say(e->peer, tag, v, waits);
}

/* A session begins; NULL: no filter is to see it, or it is refused. */
static struct entry *
entry_new(struct peer *p, uint32_t no, const struct milter_event *ev)
{
	struct milter_verdict v = { .says = MILTER_SAYS_GO_ON };
	const struct milter_list *list;
	struct entry *e;

	if (!milter_set_list(p->set, ev->args[1], &list)) {
		v = (struct milter_verdict){ .says = MILTER_SAYS_HANG_UP,
			.code = 421, .text = view_of("4.3.0 Server local data "
			"error") };
		list = NULL;
	}
	if (list == NULL) {
		say(p, ev->tag, &v, 0);
		return NULL;
	}
	e = mem_alloc(sizeof *e);
	e->peer = p;
	e->no = no;
	e->session = milter_session_new(p->set, list, entry_told, e);
	*entry_place(p, no) = e;
	p->n++;
	milter.n_sessions++;
	return e;
}

static void
entry_late(evutil_socket_t fd, short what, void *arg)
{
	struct entry *e = arg;

	(void)fd;
	(void)what;
	entry_remove(entry_place(e->peer, e->no));
}

/* The client has gone; some do not wait for the last answer. */
static void
entry_quit(struct entry *e, bool sealed)
{
	if (e->job != NULL || milter_session_has_job(e->session) || !sealed) {
		entry_remove(entry_place(e->peer, e->no));
		return;
	}
	evtimer_assign(&e->timer, loop_base(), entry_late, e);
	(void)event_add(&e->timer, loop_timeout(LINGER_MS));
}

static void
entry_begin(struct entry *e, struct milter_job *j)
{
	struct milter_session *s = e->session;

	milter_job_begin(j, s, false);
	/* The last one of a session that is over. */
	if (event_initialized(&e->timer))
		entry_remove(entry_place(e->peer, e->no));
}

static bool
get_event(struct cursor *c, struct milter_event *ev,
    struct milter_value *values, struct view *args)
{
	uint32_t i;

	ev->tag = cursor_u32(c);
	ev->stage = cursor_u8(c);
	ev->n_values = cursor_u32(c);
	if (ev->n_values > MILTER_VALUES_MAX)
		return false;
	for (i = 0; i < ev->n_values; i++) {
		values[i].name = cursor_view(c);
		values[i].value = cursor_view(c);
	}
	ev->n_args = cursor_u32(c);
	if (ev->n_args > MILTER_ARGS_MAX)
		return false;
	for (i = 0; i < ev->n_args; i++)
		args[i] = cursor_view(c);
	ev->values = values;
	ev->args = args;
	return cursor_done(c) && ev->stage >= MILTER_STAGE_CONNECT &&
	    ev->stage < MILTER_STAGES;
}

static void
milter_event(struct peer *p, struct chan_in *in)
{
	struct milter_value values[MILTER_VALUES_MAX];
	struct view args[MILTER_ARGS_MAX];
	uint32_t no = cursor_u32(&in->body);
	struct milter_event ev;
	struct entry *e, **place;
	struct milter_job *j;

	if (!get_event(&in->body, &ev, values, args) || no == 0) {
		chan_blame(p->chan, "an event for filters that is none");
		return;
	}
	place = entry_place(p, no);
	e = *place;
	if ((ev.stage == MILTER_STAGE_CONNECT) != (e == NULL) ||
	    (e == NULL && ev.n_args != 3) ||
	    (e != NULL && event_initialized(&e->timer))) {
		chan_blame(p->chan, "a session for filters that does not "
		    "begin, begins twice, or is over");
		return;
	}
	if (e == NULL && (e = entry_new(p, no, &ev)) == NULL)
		return;
	if (!milter_session_tell(e->session, &ev)) {
		chan_blame(p->chan, "too many events for filters");
		return;
	}
	if (e->job != NULL && milter_session_events(e->session) >= e->need) {
		j = e->job;
		e->job = NULL;
		entry_begin(e, j);
	}
	if (ev.stage == MILTER_STAGE_QUIT)
		entry_quit(e, ev.n_args > 0);
}

/* -- messages -------------------------------------------------------------- */

static struct peer *
peer_find(pid_t pid)
{
	struct peer *p;

	for (p = milter.peers; p != NULL; p = p->next)
		if (p->kind == ROLE_SMTPD && chan_peer_pid(p->chan) == pid)
			return p;
	return NULL;
}

static void
milter_simulate(struct milter_job *j)
{
	const struct milter_set *set = milter_set_find(0);
	const struct milter_list *list;

	if (set != NULL && milter_set_list(set, view_of(""), &list) &&
	    list != NULL)
		milter_job_simulate(j, set, list);
	else
		milter_job_pass(j);
}

static void
milter_mail(struct peer *qmgr, struct chan_in *in)
{
	uint32_t no, events;
	struct milter_job *j;
	struct entry *e;
	struct peer *p;
	pid_t pid;

	j = milter_job_new(qmgr->chan, in, &pid, &no, &events);
	if (j == NULL)
		return;
	milter.n_messages++;
	if (no == 0) {
		milter_simulate(j);
		return;
	}
	p = peer_find(pid);
	e = p == NULL ? NULL : *entry_place(p, no);
	/* Its client, or its smtpd, is gone: nobody hears the answer. */
	if (e == NULL || e->job != NULL)
		milter_job_fail(j);
	else if (milter_session_events(e->session) >= events)
		entry_begin(e, j);
	else {
		e->job = j;
		e->need = events;
	}
}

/* -- peers ----------------------------------------------------------------- */

static void
milter_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	if (in->type == MSG_MILTER)
		milter_event(arg, in);
	else if (in->type == MSG_MILTER_MAIL)
		milter_mail(arg, in);
	else
		chan_blame(c, "unexpected message");
}

static void
milter_on_close(struct chan *c, void *arg)
{
	struct peer *p = arg, **at;
	size_t i;

	if (p->kind == ROLE_QMGR)
		milter_jobs_orphan(c);
	for (i = 0; p->kind == ROLE_SMTPD && i < PLACES; i++)
		while (p->place[i] != NULL)
			entry_remove(&p->place[i]);
	for (at = &milter.peers; *at != p; at = &(*at)->next)
		;
	*at = p->next;
	if (p->kind == ROLE_SMTPD)
		milter.n_smtpds--;
	chan_free(&p->chan);
	free(p);
	milter_leave();
}

static void
milter_peer(const struct role_peer *peer, int fd)
{
	struct peer *p = mem_alloc(sizeof *p);

	p->kind = peer->kind;
	if (peer->kind == ROLE_SMTPD) {
		p->set = milter_set_find(peer->service);
		/* A service that this generation does not have. */
		if (p->set == NULL)
			p->set = milter_set_find(0);
		milter.n_smtpds++;
	}
	p->chan = chan_new(fd, ROLE_MILTER, peer->kind, peer->pid,
	    milter_on_msg, milter_on_close, p);
	p->next = milter.peers;
	milter.peers = p;
}

static void
milter_status(struct buf *b)
{
	(void)buf_printf(b, "sessions %u\nsessions_total %llu\n"
	    "messages_underway %u\nmessages_total %llu\nidle_connections %u\n"
	    "softened %llu\n",
	    milter_sessions(), (unsigned long long)milter.n_sessions,
	    milter_jobs(),
	    (unsigned long long)milter.n_messages, milter_pool_idle(),
	    (unsigned long long)milter_softened());
}

int
main(int argc, char **argv)
{
	static const struct role_def def = {
		.kind = ROLE_MILTER,
		.jail = { .allow = JAIL_CONNECT | JAIL_MEMFD,
			.max_files = FILES_MAX, .groups = true },
		.load = milter_load,
		.peer = milter_peer,
		/* Sessions that it has stay with it to their end. */
		.retire = milter_leave,
		.status = milter_status,
	};

	return role_main(&def, argc, argv);
}
