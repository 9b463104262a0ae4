/*
 * One filter of a session: what it has to be told next, and what its answer,
 * or its default action, comes to.
 */
#include <stdlib.h>

#include "filters/milter_pool.h"
#include "filters/milter_session_priv.h"
#include "lib/log.h"

#define PUSH_BYTES	(64u << 10)	/* unsent, of silent filters */
#define DRAIN_BYTES	(256u << 10)
/* For the first answer on a used connection: then it is tried on a new one. */
#define USED_MS		5000

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

void
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
void
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
	set.pipelining = f->spec->pipelining;
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
	const char *text;
	uint16_t code = milter_default_reply(f->spec->fallback, &text);

	*ret = (struct milter_verdict){ .says = code == 421 ?
		MILTER_SAYS_HANG_UP : MILTER_SAYS_REFUSE, .code = code,
		.text = view_of(text), .filter = f->spec->name };
	if (f->spec->fallback == MILTER_DEFAULT_QUARANTINE)
		f->session->hold = true;
	return code == 0 ? TELL_GO_ON : TELL_FINAL;
}

bool
filter_says(struct session_filter *f)
{
	bool said = f->said;

	f->said = f->off && f->session->set->cf->soft_mode;
	return !said;
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
	/* It may have closed in this moment, with nothing asked; or it hears
	 * nothing on a connection that it had before. */
	if (f->used && f->asked == FILTER_CONNECT) {
		if (milter_link_late(f->link)) {
			log_info("milter %s: no answer on a connection that "
			    "an earlier session had: each has its own from "
			    "now on", f->spec->name);
			milter_pool_distrust(f->address);
		}
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
		return filter_ask(f, step, tell_connect(f), f->used &&
		    ms > USED_MS ? USED_MS : ms);
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

	if (f->asked == FILTER_NOTHING) {
		if (ev->stage == MILTER_STAGE_MAIL)
			f->off = f->said = false;
		/* It closed while nothing was asked, or was cut short: that
		 * is no failure. */
		if (f->client != NULL && milter_client_over(f->client) &&
		    (ev->stage == MILTER_STAGE_MAIL || milter_client_result(
		    f->client)->answer != MILTER_BROKEN))
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

uint32_t
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
