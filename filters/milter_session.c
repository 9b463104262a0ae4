#include <stdlib.h>
#include <string.h>

#include "filters/milter_pool.h"
#include "filters/milter_session_priv.h"
#include "lib/log.h"

#define PUSH_BYTES	(64u << 10)	/* unsent, of silent filters */
#define DRAIN_BYTES	(256u << 10)

static unsigned n_sessions;

/* -- macros ---------------------------------------------------------------- */

static void
values_drop(struct milter_session *s, enum milter_stage from)
{
	size_t i, k = 0;

	for (i = 0; i < s->n_values; i++) {
		if (s->values[i].stage < from) {
			s->values[k++] = s->values[i];
			continue;
		}
		free(s->values[i].name);
		free(s->values[i].value);
	}
	s->n_values = k;
}

static void
values_set(struct milter_session *s, const struct milter_event *ev)
{
	enum milter_stage stage = ev->stage;
	uint32_t i;
	size_t k;

	if (stage == MILTER_STAGE_MAIL)
		values_drop(s, MILTER_STAGE_MAIL);
	if (stage == MILTER_STAGE_RCPT || stage == MILTER_STAGE_REFUSED) {
		stage = MILTER_STAGE_RCPT;
		for (i = 0, k = 0; i < s->n_values; i++)
			if (s->values[i].stage != stage)
				s->values[k++] = s->values[i];
			else {
				free(s->values[i].name);
				free(s->values[i].value);
			}
		s->n_values = k;
	}
	for (i = 0; i < ev->n_values; i++) {
		for (k = 0; k < s->n_values; k++)
			if (view_is(ev->values[i].name, s->values[k].name))
				break;
		if (k == MILTER_VALUES_MAX)
			continue;
		if (k == s->n_values) {
			s->n_values++;
			s->values[k].name = mem_copy(ev->values[i].name);
		} else
			free(s->values[k].value);
		s->values[k].stage = stage;
		s->values[k].value = mem_copy(ev->values[i].value);
	}
}

static bool
session_macro(void *arg, struct view name, struct view *ret)
{
	const struct session_filter *f = arg;
	const struct milter_session *s = f->session;
	size_t i;

	for (i = 0; i < s->n_values; i++)
		if (view_is(name, s->values[i].name)) {
			*ret = view_of(s->values[i].value);
			return true;
		}
	if (view_is(name, "j"))
		*ret = s->set->hostname;
	else if (view_is(name, "daemon_name"))
		*ret = s->set->daemon_name;
	else if (view_is(name, "v"))
		*ret = s->set->v;
	else
		return milter_set_macro(s->set, name, ret);
	return true;
}

/* -- one filter ------------------------------------------------------------ */

static void
filter_close(struct session_filter *f)
{
	if (f->client != NULL && !milter_client_waiting(f->client)) {
		milter_client_quit(f->client);
		if (f->connected)
			milter_link_flush(f->link);
	}
	milter_link_free(&f->link);
	milter_client_free(&f->client);
	f->asked = FILTER_NOTHING;
	f->negotiated = f->connected = f->greeted = false;
}

static void
filter_answered(void *arg)
{
	struct session_filter *f = arg;

	f->session->waiting = false;
	session_step(f->session);
}

/* The session is over: the next one may have the connection. */
static void
filter_leave(struct session_filter *f)
{
	if (f->client == NULL || !f->negotiated ||
	    f->asked != FILTER_NOTHING || !milter_pool_give(
	    f->address, f->client, f->link, f->session->set->reuse_ms)) {
		filter_close(f);
		return;
	}
	f->client = NULL;
	f->link = NULL;
}

static void
filter_open(struct session_filter *f)
{
	struct milter_settings set = f->session->set->settings;

	f->used = !f->fresh && milter_pool_take(f->address, &f->client,
	    &f->link);
	if (f->used) {
		f->negotiated = true;
		milter_client_adopt(f->client, f);
		milter_link_adopt(f->link, filter_answered, f);
		return;
	}
	set.version = f->spec->version;
	f->client = milter_client_new(&set, session_macro, f);
	f->link = milter_link_new(f->spec, f->address, f->client,
	    filter_answered, f);
}

bool
filter_ask(struct session_filter *f, enum filter_step step, bool known,
    int64_t ms)
{
	f->asked = step;
	if (known)
		return true;
	milter_link_go(f->link, ms);
	return false;
}

enum filter_tell
filter_default(struct session_filter *f, struct milter_verdict *ret)
{
	*ret = (struct milter_verdict){ .says = MILTER_SAYS_REFUSE,
		.filter = f->spec->name };
	switch (f->spec->fallback) {
	case MILTER_DEFAULT_ACCEPT:
		return TELL_GO_ON;
	case MILTER_DEFAULT_QUARANTINE:
		f->session->hold = true;
		return TELL_GO_ON;
	case MILTER_DEFAULT_REJECT:
		ret->code = 550;
		ret->text = view_of("5.5.0 Service unavailable");
		break;
	case MILTER_DEFAULT_TEMPFAIL:
		ret->code = 451;
		ret->text = view_of("4.7.1 Service unavailable - try again "
		    "later");
		break;
	case MILTER_DEFAULT_SHUTDOWN:
		ret->says = MILTER_SAYS_HANG_UP;
		ret->code = 421;
		ret->text = view_of("4.7.0 Server closing connection");
		break;
	}
	return TELL_FINAL;
}

enum filter_tell
filter_broken(struct session_filter *f, struct milter_verdict *ret)
{
	log_warn("milter %s: %s", f->spec->name, log_safe(
	    milter_client_result(f->client)->text));
	f->off = true;
	filter_close(f);
	return filter_default(f, ret);
}

void
filter_refusal(const struct session_filter *f, const struct milter_result *r,
    struct milter_verdict *ret)
{
	*ret = (struct milter_verdict){ .says = MILTER_SAYS_REFUSE,
		.code = r->code, .text = r->text, .filter = f->spec->name };
	if (r->answer == MILTER_HANG_UP) {
		ret->says = MILTER_SAYS_HANG_UP;
		if (r->code == 0) {
			ret->code = 421;
			ret->text = view_of("4.7.0 Server closing "
			    "connection");
		}
	} else if (r->code == 0 && r->temporary) {
		ret->code = 451;
		ret->text = view_of("4.7.1 Service unavailable - try again "
		    "later");
	} else if (r->code == 0) {
		ret->code = 550;
		ret->text = view_of("5.7.1 Command rejected");
	}
}

/* What was asked is answered. */
static enum filter_tell
filter_took(struct session_filter *f, struct milter_verdict *ret)
{
	const struct milter_result *r = milter_client_result(f->client);

	if (f->asked == FILTER_NEGOTIATE)
		f->negotiated = true;
	else if (f->asked == FILTER_CONNECT)
		f->connected = true;
	else if (f->asked == FILTER_HELO)
		f->greeted = true;
	switch (r->answer) {
	case MILTER_GO_ON:
	case MILTER_TAKE:
		return TELL_GO_ON;
	case MILTER_DROP:
		*ret = (struct milter_verdict){ .says = MILTER_SAYS_DISCARD,
			.filter = f->spec->name };
		f->session->discard = true;
		return TELL_FINAL;
	case MILTER_REFUSE:
	case MILTER_HANG_UP:
		filter_refusal(f, r, ret);
		return TELL_FINAL;
	case MILTER_BROKEN:
		break;
	}
	/* It may have closed in this moment, with nothing asked. */
	if (f->used && f->asked == FILTER_CONNECT) {
		filter_close(f);
		f->fresh = true;
		return TELL_GO_ON;
	}
	return filter_broken(f, ret);
}

static bool
tell_connect(struct session_filter *f)
{
	const struct milter_event *ev = &f->session->connect->is;
	struct view addr = ev->args[1];
	int64_t port = 0;
	char family = addr.n == 0 ? 'U' : view_find(addr, ':') < addr.n ?
	    '6' : '4';

	(void)conf_parse_int(ev->args[2], 0, 65535, &port);
	return milter_client_connect(f->client, ev->args[0], family,
	    (uint16_t)port, addr);
}

static bool
tell_event(struct session_filter *f, const struct milter_event *ev)
{
	switch ((int)ev->stage) {
	case MILTER_STAGE_MAIL:
		return milter_client_mail(f->client, ev->args, ev->n_args);
	case MILTER_STAGE_RCPT:
	case MILTER_STAGE_REFUSED:
		return milter_client_rcpt(f->client, ev->args, ev->n_args,
		    ev->stage == MILTER_STAGE_REFUSED);
	case MILTER_STAGE_DATA:
		return milter_client_data(f->client);
	default:
		return milter_client_unknown(f->client, ev->args[0]);
	}
}

/* What f has to be told before, or for, this event. */
static enum filter_step
filter_next(const struct session_filter *f, const struct milter_event *ev)
{
	const struct milter_session *s = f->session;
	bool told = f->asked == FILTER_EVENT;

	if (f->client == NULL || !f->negotiated)
		return FILTER_NEGOTIATE;
	if (!f->connected)
		return FILTER_CONNECT;
	if (ev->stage == MILTER_STAGE_CONNECT)
		return FILTER_NOTHING;
	if (!f->greeted && s->helo != NULL)
		return FILTER_HELO;
	if (ev->stage == MILTER_STAGE_HELO || told)
		return FILTER_NOTHING;
	return FILTER_EVENT;
}

static bool
filter_say(struct session_filter *f, enum filter_step step,
    const struct milter_event *ev)
{
	const struct milter_session *s = f->session;
	int64_t ms = f->spec->command_ms;

	switch (step) {
	case FILTER_NEGOTIATE:
		return filter_ask(f, step, milter_client_negotiate(f->client),
		    f->spec->connect_ms);
	case FILTER_CONNECT:
		return filter_ask(f, step, tell_connect(f), ms);
	case FILTER_HELO:
		return filter_ask(f, step, milter_client_helo(f->client,
		    s->helo->is.args[0]), ms);
	case FILTER_EVENT:
	case FILTER_DRAIN:
	case FILTER_MESSAGE:
	case FILTER_NOTHING:
		break;
	}
	return filter_ask(f, FILTER_EVENT, tell_event(f, ev), ms);
}

/* A filter that answers nothing does not make its packets pile up here. */
static bool
filter_drains(struct session_filter *f)
{
	size_t n = milter_client_out(f->client)->n;

	if (n >= PUSH_BYTES)
		milter_link_flush(f->link);
	if (milter_client_out(f->client)->n < DRAIN_BYTES)
		return false;
	f->asked = FILTER_DRAIN;
	milter_link_drain(f->link, f->spec->command_ms);
	return true;
}

/* It is of no use in this transaction; before one, it may be back in time. */
static enum filter_tell
filter_absent(struct session_filter *f, enum milter_stage stage,
    struct milter_verdict *ret)
{
	if (stage == MILTER_STAGE_UNKNOWN || stage == MILTER_STAGE_REFUSED ||
	    ((stage == MILTER_STAGE_CONNECT || stage == MILTER_STAGE_HELO) &&
	    f->spec->fallback != MILTER_DEFAULT_SHUTDOWN))
		return TELL_GO_ON;
	return filter_default(f, ret);
}

enum filter_tell
filter_tell(struct session_filter *f, const struct milter_event *ev,
    struct milter_verdict *ret)
{
	enum filter_tell took;
	enum filter_step step;

	if (f->asked == FILTER_NOTHING && ev->stage == MILTER_STAGE_MAIL) {
		f->off = false;
		/* It closed while nothing was asked: that is no failure. */
		if (f->client != NULL &&
		    milter_client_result(f->client)->answer == MILTER_BROKEN)
			filter_close(f);
	}
	if (f->off)
		return filter_absent(f, ev->stage, ret);
	for (;;) {
		if (f->asked == FILTER_DRAIN) {
			f->asked = FILTER_NOTHING;
			return milter_client_result(f->client)->answer ==
			    MILTER_BROKEN ? filter_broken(f, ret) : TELL_GO_ON;
		}
		if (f->asked != FILTER_NOTHING) {
			took = filter_took(f, ret);
			if (took == TELL_FINAL || f->off) {
				f->asked = FILTER_NOTHING;
				return f->off && ev->stage !=
				    MILTER_STAGE_UNKNOWN ? filter_absent(f,
				    ev->stage, ret) : took;
			}
		}
		if (f->client == NULL)
			filter_open(f);
		step = filter_next(f, ev);
		f->asked = FILTER_NOTHING;
		if (step == FILTER_NOTHING)
			return filter_drains(f) ? TELL_WAIT : TELL_GO_ON;
		if (!filter_say(f, step, ev))
			return TELL_WAIT;
	}
}

/* -- events ---------------------------------------------------------------- */

static void
session_event_free(struct session_event **ep)
{
	free(*ep);
	*ep = NULL;
}

static struct view
keep(char **to, struct view v)
{
	struct view kept = view_make(*to, v.n);

	if (v.n > 0)
		memcpy(*to, v.p, v.n);
	*to += v.n;
	return kept;
}

static size_t
event_bytes(const struct milter_event *ev)
{
	size_t n = sizeof(struct session_event) +
	    ev->n_values * sizeof *ev->values + ev->n_args * sizeof *ev->args;
	uint32_t i;

	for (i = 0; i < ev->n_values; i++)
		n += ev->values[i].name.n + ev->values[i].value.n;
	for (i = 0; i < ev->n_args; i++)
		n += ev->args[i].n;
	return n;
}

static struct session_event *
event_copy(const struct milter_event *ev)
{
	size_t n = event_bytes(ev);
	struct session_event *e = mem_alloc(n);
	struct milter_value *values = (struct milter_value *)(e + 1);
	struct view *args = (struct view *)(values + ev->n_values);
	char *to = (char *)(args + ev->n_args);
	uint32_t i;

	e->is = *ev;
	e->bytes = n;
	for (i = 0; i < ev->n_values; i++) {
		values[i].name = keep(&to, ev->values[i].name);
		values[i].value = keep(&to, ev->values[i].value);
	}
	for (i = 0; i < ev->n_args; i++)
		args[i] = keep(&to, ev->args[i]);
	e->is.values = values;
	e->is.args = args;
	return e;
}

static void
session_end_transaction(struct milter_session *s)
{
	size_t i;

	for (i = 0; i < s->n; i++)
		if (s->filters[i].client != NULL &&
		    !milter_client_waiting(s->filters[i].client) &&
		    milter_client_abort(s->filters[i].client))
			milter_link_flush(s->filters[i].link);
	s->discard = s->hold = false;
	values_drop(s, MILTER_STAGE_MAIL);
}

/* Takes the next one in line; what it says about the session is noted. */
static void
event_begin(struct milter_session *s)
{
	struct session_event *e = STAILQ_FIRST(&s->events);
	size_t i;

	STAILQ_REMOVE_HEAD(&s->events, link);
	s->n_waiting--;
	s->bytes_waiting -= e->bytes;
	s->now = e;
	s->at = 0;
	values_set(s, &e->is);
	switch (e->is.stage) {
	case MILTER_STAGE_CONNECT:
		session_event_free(&s->connect);
		s->connect = event_copy(&e->is);
		break;
	case MILTER_STAGE_HELO:
		session_end_transaction(s);
		session_event_free(&s->helo);
		s->helo = event_copy(&e->is);
		for (i = 0; i < s->n; i++)
			s->filters[i].greeted = false;
		break;
	case MILTER_STAGE_MAIL:
		s->discard = s->hold = false;
		break;
	case MILTER_STAGE_ABORT:
		session_end_transaction(s);
		s->at = s->n;
		break;
	case MILTER_STAGE_QUIT:
		s->at = s->n;
		break;
	case MILTER_STAGE_RCPT:
	case MILTER_STAGE_REFUSED:
	case MILTER_STAGE_DATA:
	case MILTER_STAGE_UNKNOWN:
	case MILTER_STAGES:
		break;
	}
}

static void
session_refuse(struct milter_session *s, const struct milter_verdict *v)
{
	if (s->refused.says != 0)
		return;
	s->refused = *v;
	s->refused_text = mem_copy(v->text);
	s->refused.text = view_make(s->refused_text, v->text.n);
}

static void
event_end(struct milter_session *s, const struct milter_verdict *v)
{
	struct session_event *e = s->now;

	if (v->says == MILTER_SAYS_REFUSE &&
	    (e->is.stage == MILTER_STAGE_CONNECT ||
	    e->is.stage == MILTER_STAGE_HELO))
		session_refuse(s, v);

	s->now = NULL;
	if (e->job != NULL)
		milter_job_told(e->job, v);
	if (e->is.tag != 0 && s->told != NULL)
		s->told(s, e->is.tag, v, milter_session_waits(s), s->arg);
	session_event_free(&e);
}

/* True: it is worked off. */
static bool
event_step(struct milter_session *s)
{
	struct milter_verdict v = { .says = MILTER_SAYS_GO_ON };
	enum filter_tell told = TELL_GO_ON;

	/* The rest of its events says nothing about a message that nobody
	 * gets, but that its end comes. */
	if (s->discard && s->now->is.stage != MILTER_STAGE_CONNECT &&
	    s->now->is.stage != MILTER_STAGE_HELO)
		s->at = s->n;
	if (s->refused.says != 0) {
		s->at = s->n;
		if (s->now->is.stage == MILTER_STAGE_MAIL)
			v = s->refused;
	}
	for (; s->at < s->n && told == TELL_GO_ON; s->at++) {
		told = filter_tell(&s->filters[s->at], &s->now->is, &v);
		if (told == TELL_WAIT)
			return false;
		if (told == TELL_GO_ON)
			v = (struct milter_verdict){
				.says = MILTER_SAYS_GO_ON };
	}
	event_end(s, &v);
	return true;
}

void
session_step(struct milter_session *s)
{
	/* An answer that is there at once comes back here. */
	if (s->stepping || s->waiting)
		return;
	s->stepping = true;
	for (;;) {
		if (s->in_job) {
			s->waiting = !milter_job_step(s->job);
			if (s->waiting)
				break;
			s->job = NULL;
			s->in_job = false;
			session_end_transaction(s);
			continue;
		}
		if (s->now == NULL && !STAILQ_EMPTY(&s->events))
			event_begin(s);
		if (s->now != NULL) {
			s->waiting = !event_step(s);
			if (s->waiting)
				break;
			continue;
		}
		if (s->job == NULL)
			break;
		s->in_job = true;
		s->at = 0;
	}
	s->stepping = false;
	if (s->released && s->job == NULL)
		loop_soon(&s->reap);
}

/* -- the owner's side ------------------------------------------------------ */

static void
session_reap(void *arg)
{
	struct milter_session *s = arg;
	struct session_event *e;
	size_t i;

	for (i = 0; i < s->n; i++)
		filter_leave(&s->filters[i]);
	while ((e = STAILQ_FIRST(&s->events)) != NULL) {
		STAILQ_REMOVE_HEAD(&s->events, link);
		session_event_free(&e);
	}
	session_event_free(&s->now);
	session_event_free(&s->connect);
	session_event_free(&s->helo);
	values_drop(s, 0);
	free(s->refused_text);
	free(s->filters);
	free(s);
	n_sessions--;
}

void
milter_session_release(struct milter_session *s)
{
	s->told = NULL;
	s->released = true;
	if (s->job == NULL)
		loop_soon(&s->reap);
}

struct milter_session *
milter_session_new(const struct milter_set *set,
    const struct milter_list *list, milter_told *told, void *arg)
{
	struct milter_session *s = mem_alloc(sizeof *s);
	size_t i;

	s->set = set;
	s->list = list;
	s->told = told;
	s->arg = arg;
	s->n = list->specs.n;
	s->filters = mem_array(s->n, sizeof *s->filters);
	for (i = 0; i < s->n; i++) {
		s->filters[i].session = s;
		s->filters[i].spec = &list->specs.list[i];
		s->filters[i].address = &list->addresses[i];
	}
	STAILQ_INIT(&s->events);
	s->reap = (struct loop_work){ .fn = session_reap, .arg = s };
	n_sessions++;
	return s;
}

static bool
event_fits(const struct milter_session *s, const struct milter_event *ev)
{
	size_t need = ev->stage == MILTER_STAGE_CONNECT ? 3 :
	    ev->stage == MILTER_STAGE_DATA ||
	    ev->stage == MILTER_STAGE_ABORT ||
	    ev->stage == MILTER_STAGE_QUIT ? 0 : 1;

	return s->n_waiting < MILTER_EVENTS_MAX && s->bytes_waiting +
	    event_bytes(ev) <= MILTER_EVENT_BYTES_MAX && ev->n_args >= need &&
	    (s->begun || ev->stage == MILTER_STAGE_CONNECT);
}

static bool
event_put(struct milter_session *s, const struct milter_event *ev,
    struct milter_job *j)
{
	struct session_event *e;

	if (!event_fits(s, ev))
		return false;
	e = event_copy(ev);
	e->job = j;
	STAILQ_INSERT_TAIL(&s->events, e, link);
	s->n_waiting++;
	s->begun = true;
	s->bytes_waiting += e->bytes;
	s->n_events += j == NULL;
	session_step(s);
	return true;
}

bool
milter_session_tell(struct milter_session *s, const struct milter_event *ev)
{
	return event_put(s, ev, NULL);
}

bool
milter_session_retell(struct milter_session *s,
    const struct milter_event *ev, struct milter_job *j)
{
	return event_put(s, ev, j);
}

uint32_t
milter_session_events(const struct milter_session *s)
{
	return s->n_events;
}

unsigned
milter_sessions(void)
{
	return n_sessions;
}

bool
milter_session_has_job(const struct milter_session *s)
{
	return s->job != NULL;
}

/* Which stages a filter says something to, by what it negotiated. */
static uint32_t
filter_waits(const struct session_filter *f)
{
	static const struct {
		enum milter_stage stage;
		uint32_t silent;
	} stages[] = {
		{ MILTER_STAGE_HELO, MILTER_NO_HELO | MILTER_SILENT_HELO },
		{ MILTER_STAGE_MAIL, MILTER_NO_MAIL | MILTER_SILENT_MAIL },
		{ MILTER_STAGE_RCPT, MILTER_NO_RCPT | MILTER_SILENT_RCPT },
		{ MILTER_STAGE_DATA, MILTER_NO_DATA | MILTER_SILENT_DATA },
		{ MILTER_STAGE_UNKNOWN, MILTER_NO_UNKNOWN |
		    MILTER_SILENT_UNKNOWN },
	};
	uint32_t steps, waits = 0;
	size_t i;

	/* Its default action may be a refusal, and at MAIL it is back. */
	if (f->client == NULL || !f->negotiated)
		return ~1u;
	steps = milter_client_steps(f->client);
	for (i = 0; i < sizeof stages / sizeof stages[0]; i++)
		if ((steps & stages[i].silent) == 0)
			waits |= 1u << stages[i].stage;
	if ((steps & MILTER_REJECTED_RCPT) != 0 &&
	    (steps & MILTER_NO_RCPT) == 0)
		waits |= 1u | 1u << MILTER_STAGE_REFUSED;
	return waits;
}

uint32_t
milter_session_waits(const struct milter_session *s)
{
	uint32_t waits = 1u << MILTER_STAGE_CONNECT;
	size_t i;

	if (s->refused.says != 0)
		waits |= 1u << MILTER_STAGE_MAIL;

	for (i = 0; i < s->n; i++)
		waits |= filter_waits(&s->filters[i]);
	return waits;
}

void
milter_session_message(struct milter_session *s, struct milter_job *j)
{
	ensure(s->job == NULL);
	s->job = j;
	session_step(s);
}

void
milter_session_forget(struct milter_session *s, struct milter_job *j)
{
	struct session_event *e;

	STAILQ_FOREACH(e, &s->events, link)
		if (e->job == j)
			e->job = NULL;
	if (s->now != NULL && s->now->job == j)
		s->now->job = NULL;
	if (s->job != j)
		return;
	s->job = NULL;
	if (!s->in_job)
		return;
	/* The filter that has it would answer to nobody. */
	s->waiting = false;
	if (s->at < s->n && s->filters[s->at].asked != FILTER_NOTHING) {
		s->filters[s->at].off = true;
		filter_close(&s->filters[s->at]);
	}
	s->in_job = false;
	session_end_transaction(s);
	session_step(s);
}
