/*
 * Filters outside (milters), at the end of a message: when our own rules have
 * judged it, the milter role shows it to them and says what comes of it.
 *
 * What a client said was told to the role by its smtpd; MSG_SEAL names that
 * session.  Other mail (pickup, and our own if internal_mail_filter_classes
 * says so) goes to non_smtpd_milters.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/conf_choice.h"
#include "lib/log.h"
#include "queue/qmgr.h"
#include "rules/milters.h"

#define TICK_MS		1000
/* The role has a clock for each filter; this one is for the role. */
#define LIMIT_MS	900000
#define WORDS_MAX	65536u	/* of a refusal */
#define STATUS		5u	/* of "4.7.1 text" */
#define JUDGED_MAX	(CHAN_MSG_MAX - 65536u)
#define SEALS	(F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)

struct milter {
	struct milter *next;
	struct chan *chan;
	pid_t pid;
	uint32_t generation;
	struct message *underway;
	unsigned n;
};

static struct milter *milters;
static enum milter_default fallback;
static bool internal_mail;
static struct event timer;
static bool timer_set;
static uint64_t n_asked, n_failed;

void
milter_load(void)
{
	fallback = conf_choice("milter_default_action",
	    view_of(qmgr.cf->milter_default_action));
	internal_mail = conf_choice("internal_mail_filter_classes",
	    view_of(qmgr.cf->internal_mail_filter_classes)) != 0;
}

/* -- whether --------------------------------------------------------------- */

bool
milter_applies(const struct message *m)
{
	struct envelope e;
	struct arena *a;
	bool off;

	if (m->milter_session != 0)
		return true;
	if (qmgr.cf->non_smtpd_milters[0] == '\0' || m->from_smtpd ||
	    (m->internal && !internal_mail))
		return false;
	a = arena_new(m->tail.envelope.n * 16 + 65536);
	message_envelope(m, a, &e);
	off = (e.flags & ENVELOPE_NO_MILTERS) != 0;
	arena_free(&a);
	return !off;
}

/* The one that knows the session, or the newest. */
static struct milter *
milter_pick(const struct message *m)
{
	struct milter *r, *best = NULL;

	for (r = milters; r != NULL; r = r->next)
		if (m->milter_session != 0) {
			if ((uint32_t)r->pid == m->milter_pid)
				return r;
		} else if (best == NULL || r->generation > best->generation)
			best = r;
	return best;
}

/* -- answers --------------------------------------------------------------- */

static void
milter_take_back(struct message *m)
{
	struct message **p;

	for (p = &m->milter->underway; *p != m; p = &(*p)->next)
		ensure(*p != NULL);
	*p = m->next;
	m->next = NULL;
	m->milter->n--;
	m->milter = NULL;
}

/* A refusal in the filter's own words, which may have lines. */
static void
milter_refused(struct message *m, unsigned code, struct view words)
{
	char *text = mem_copy(words);
	size_t i;

	for (i = 0; i < words.n; i++)
		if (text[i] != '\n' && (text[i] < ' ' || text[i] > '~'))
			text[i] = ' ';
	writer_failed(m, code, "", text);
	free(text);
}

/* said: in place of what m was judged before; text: a new one, or -1. */
static void
milter_done(struct message *m, const struct judgement *said, int text,
    uint64_t size)
{
	struct arena *a = arena_new(m->n_judged * 48 + 262144);
	struct judgement was, is;
	char *bytes = m->judged;

	m->judged = NULL;
	ensure(judgement_get(view_make(bytes, m->n_judged), m->text_size, a,
	    &was));
	is = *said;
	if (is.verdict.action == ACTION_OK ||
	    is.verdict.action == ACTION_HOLD) {
		is.redirect = was.redirect;
		memcpy(is.bcc, was.bcc, sizeof is.bcc);
		is.n_bcc = was.n_bcc;
		is.message_id = was.message_id;
		if (is.filter.n == 0)
			is.filter = was.filter;
		if (is.envelope.n == 0)
			is.envelope = was.envelope;
	}
	if (m->split != NULL)
		split_part_judged(m, &is, text, size);
	else {
		if (text >= 0)
			writer_new_text(m, text, size);
		writer_judged(m, &is);
	}
	arena_free(&a);
	free(bytes);
}

/* Nobody can be asked. */
static void
milter_fallback(struct message *m, const char *why)
{
	struct arena *a = arena_new(m->n_judged * 48 + 262144);
	struct judgement j;
	struct verdict *v = &j.verdict;
	const char *text;
	uint16_t code;

	n_failed++;
	log_warn("%s: milter: %s", message_id(m), why);
	ensure(judgement_get(view_make(m->judged, m->n_judged), m->text_size,
	    a, &j));
	code = milter_default_reply(fallback, &text);
	if (code != 0)
		*v = (struct verdict){ .action = ACTION_REJECT, .code = code,
			.status = view_head(view_of(text), STATUS),
			.text = view_from(view_of(text), STATUS + 1) };
	else if (fallback == MILTER_DEFAULT_QUARANTINE &&
	    v->action == ACTION_OK)
		*v = (struct verdict){ .action = ACTION_HOLD,
			.text = view_of("milter default_action") };
	milter_done(m, &j, -1, 0);
	arena_free(&a);
}

static void
milter_tick(evutil_socket_t fd, short what, void *arg)
{
	struct milter *r;
	struct message *m, *next;
	bool more = false;

	(void)fd;
	(void)what;
	(void)arg;
	for (r = milters; r != NULL; r = r->next)
		for (m = r->underway; m != NULL; m = next) {
			next = m->next;
			more = true;
			if (mono_since(m->milter_since, loop_now()) / 1000 <
			    LIMIT_MS)
				continue;
			milter_take_back(m);
			milter_fallback(m, "no answer in time");
		}
	if (more)
		event_add(&timer, loop_timeout(TICK_MS));
}

/* -- questions ------------------------------------------------------------- */

/* m, its judgement kept; env: as it is by now. */
static void
milter_send(struct message *m, struct view judgement, struct view env,
    bool again)
{
	struct milter *r = milter_pick(m);
	int text = r == NULL ? -1 : message_readable(m);
	struct buf *b;

	if (text < 0) {
		milter_fallback(m, r == NULL ? "no milter process" :
		    strerror(errno));
		return;
	}
	n_asked++;
	b = chan_begin(r->chan, MSG_MILTER_MAIL);
	put_u64(b, m->known.id.n);
	put_u32(b, m->writer_pid);
	put_u32(b, m->milter_session);
	put_u32(b, m->milter_events);
	put_u8(b, again);
	put_u64(b, m->text_offset);
	put_u64(b, m->text_size);
	put_view(b, judgement);
	put_view(b, env);
	chan_put_fd(r->chan, text, false);
	chan_end(r->chan);
	m->milter = r;
	m->milter_since = loop_now();
	m->next = r->underway;
	r->underway = m;
	r->n++;
	if (!timer_set)
		evtimer_assign(&timer, loop_base(), milter_tick, NULL);
	timer_set = true;
	if (!evtimer_pending(&timer, NULL))
		event_add(&timer, loop_timeout(TICK_MS));
}

void
milter_ask(struct message *m, const struct judgement *j,
    const struct envelope *e, bool again)
{
	struct judgement sent = *j;
	struct arena *a = arena_new(m->tail.envelope.n * 32 +
	    j->envelope.n * 32 + 262144);
	struct buf all, some, env;
	struct envelope now = *e;
	bool ok;

	buf_init(&all, JUDGED_MAX);
	buf_init(&some, JUDGED_MAX);
	buf_init(&env, JUDGED_MAX);
	/* What filters see is what would be stored. */
	ok = j->envelope.n > 0 ? envelope_get(j->envelope, a, &now) : true;
	if (ok && j->envelope.n == 0 && (j->redirect.n > 0 || j->n_bcc > 0))
		asked_readdress(&now, j, a);
	sent.envelope = view_make("", 0);
	ok = ok && envelope_put(&env, &now) && judgement_put(&all, j) &&
	    judgement_put(&some, &sent) && env.n + some.n <= JUDGED_MAX;
	if (m->known.state != M_MILTERING)
		message_enter(m, M_MILTERING);
	free(m->judged);
	m->judged = mem_copy(buf_view(&all));
	m->n_judged = all.n;
	if (ok)
		milter_send(m, buf_view(&some), buf_view(&env), again);
	arena_free(&a);
	buf_free(&all);
	buf_free(&some);
	buf_free(&env);
	if (!ok)
		writer_failed(m, 452, "4.5.3", "Error: too many recipients");
}

void
milter_judged(struct message *m, const struct judgement *j)
{
	struct envelope e;
	struct arena *a;

	if ((j->verdict.action != ACTION_OK &&
	    j->verdict.action != ACTION_HOLD) || !milter_applies(m)) {
		writer_judged(m, j);
		return;
	}
	a = arena_new(m->tail.envelope.n * 16 + 65536);
	message_envelope(m, a, &e);
	milter_ask(m, j, &e, false);
	arena_free(&a);
}

/* -- what the role says ---------------------------------------------------- */

/* A new text is a memory file that nobody can change any more. */
static bool
milter_text_ok(int fd, uint64_t size)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_size >= 0 &&
	    (uint64_t)st.st_size == size &&
	    (fcntl(fd, F_GET_SEALS) & SEALS) == SEALS;
}

static void
milter_said(struct milter *r, struct chan *c, struct chan_in *in)
{
	bool has_text = in->type == MSG_MILTERED_TEXT;
	struct queue_id id = { cursor_u64(&in->body) };
	uint64_t size = has_text ? cursor_u64(&in->body) : 0;
	struct view said = cursor_view(&in->body), words = view_of("");
	struct message *m;
	struct judgement j;
	struct arena *a;
	int text = -1;
	bool ok;

	if (!has_text && cursor_left(&in->body) > 0)
		words = view_head(cursor_view(&in->body), WORDS_MAX);
	if (!chan_check(c, in))
		return;
	m = message_find(id);
	/* It was late. */
	if (m == NULL || m->known.state != M_MILTERING || m->milter != r)
		return;
	a = arena_new(said.n * 48 + 262144);
	ok = judgement_get(said, m->text_size, a, &j) && (!has_text ||
	    (j.edits.n == 0 && milter_text_ok(in->fd[0], size)));
	if (!ok) {
		chan_blame(c, "bad answer of filters");
		arena_free(&a);
		return;
	}
	if (has_text) {
		text = in->fd[0];
		in->fd[0] = -1;
	}
	milter_take_back(m);
	m->milters_asked = true;
	/* Else somebody gets it, or a notice is written. */
	if (words.n > 0 && j.verdict.action == ACTION_REJECT &&
	    m->origin == NULL && m->split == NULL)
		milter_refused(m, j.verdict.code, words);
	else
		milter_done(m, &j, text, size);
	arena_free(&a);
}

static void
milter_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	if (in->type == MSG_MILTERED || in->type == MSG_MILTERED_TEXT)
		milter_said(arg, c, in);
	else
		chan_blame(c, "unexpected message");
}

static void
milter_on_close(struct chan *c, void *arg)
{
	struct milter *r = arg, **p;
	struct message *m;

	(void)c;
	for (p = &milters; *p != r; p = &(*p)->next)
		ensure(*p != NULL);
	*p = r->next;
	while ((m = r->underway) != NULL) {
		milter_take_back(m);
		milter_fallback(m, "the process ended");
	}
	chan_free(&r->chan);
	free(r);
}

void
milter_peer(const struct role_peer *peer, int fd)
{
	struct milter *r = mem_alloc(sizeof *r);

	r->pid = peer->pid;
	r->generation = peer->generation;
	r->chan = chan_new(fd, ROLE_QMGR, ROLE_MILTER, peer->pid,
	    milter_on_msg, milter_on_close, r);
	r->next = milters;
	milters = r;
}

void
milter_status(struct buf *b)
{
	const struct milter *r;
	unsigned n = 0;

	if (milters == NULL && n_asked == 0)
		return;
	for (r = milters; r != NULL; r = r->next)
		n += r->n;
	(void)buf_printf(b, "milter_underway %u\nmilter_asked %llu\n"
	    "milter_failed %llu\n", n, (unsigned long long)n_asked,
	    (unsigned long long)n_failed);
}
