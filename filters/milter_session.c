#include <stdlib.h>
#include <string.h>

#include "filters/milter_session_priv.h"
#include "lib/log.h"

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
session_would(struct milter_session *s, const struct milter_verdict *v)
{
	if (s->would.says != 0)
		return;
	s->would = *v;
	s->would_text = mem_copy(v->text);
	s->would.text = view_make(s->would_text, v->text.n);
}

static void
session_would_end(struct milter_session *s)
{
	s->would = (struct milter_verdict){ 0 };
	free(s->would_text);
	s->would_text = NULL;
}

static void
event_end(struct milter_session *s, const struct milter_verdict *v)
{
	struct session_event *e = s->now;

	if (!s->set->cf->soft_mode && v->says == MILTER_SAYS_REFUSE &&
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
		if (told == TELL_FINAL && s->set->cf->soft_mode) {
			if (filter_says(&s->filters[s->at]))
				session_would(s, &v);
			s->discard = false;
			told = TELL_GO_ON;
		}
		if (told == TELL_GO_ON)
			v = (struct milter_verdict){
				.says = MILTER_SAYS_GO_ON };
	}
	event_end(s, s->would.says != 0 ? &s->would : &v);
	session_would_end(s);
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
	session_would_end(s);
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
