/*
 * How often a client may say MAIL, RCPT and others (smtpd_client_*_rate_limit).  gate
 * counts, for all smtpds together: the command waits for its answer.  When
 * the gate that knows the client is gone, as it is for an old session after a
 * reload, the session counts for itself.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/role.h"
#include "proxy/smtpd_link.h"
#include "proxy/smtpd_tls.h"

#define RATE_WAIT_MS	5000

/* A command that waits for its number. */
struct counting {
	enum client_event event;
	uint32_t n;		/* 0: not counted */
	size_t args_n;
	char args[];
};

/* It may have a password in it. */
static void
rate_forget(struct counting *c)
{
	explicit_bzero(c->args, c->args_n);
	free(c);
}

static uint64_t
rate_most(const struct conf *cf, enum client_event event)
{
	switch (event) {
	case EVENT_MESSAGE:
		return (uint64_t)cf->smtpd_client_message_rate_limit;
	case EVENT_RECIPIENT:
		return (uint64_t)cf->smtpd_client_recipient_rate_limit;
	case EVENT_TLS:
		return (uint64_t)cf->smtpd_client_new_tls_session_rate_limit;
	case EVENT_AUTH:
		return (uint64_t)cf->smtpd_client_auth_rate_limit;
	case EVENT_CONNECTION:
	case CLIENT_EVENTS:
		break;
	}
	return 0;
}

/* False: it was one too many, and answered. */
static bool
rate_within(struct session *s, enum client_event event, uint32_t n)
{
	char addr[NETADDR_TEXT];

	if (n <= rate_most(s->server->cf, event))
		return true;
	log_warn("%s rate limit exceeded: %u from %s for service %s",
	    event == EVENT_MESSAGE ? "Message delivery request" :
	    event == EVENT_TLS ? "New TLS session" :
	    event == EVENT_AUTH ? "AUTH command" :
	    "Recipient address", n, s->name, role_service_name());
	s->server->refused++;
	notice_policy(s);
	if (event == EVENT_TLS) {
		starttls_refuse(s);
		return false;
	}
	session_refuse(s, "450 4.7.1 Error: too %s from %s",
	    event == EVENT_MESSAGE ? "much mail" :
	    event == EVENT_AUTH ? "many AUTH commands" : "many recipients",
	    netaddr_text(&s->addr, addr));
	return false;
}

static uint32_t
rate_own(struct session *s, enum client_event event)
{
	struct session_rate *r = &s->rate;

	if (!r->timed || mono_since(r->since, loop_now()) >=
	    s->server->cf->anvil_rate_time_unit * 1000)
		*r = (struct session_rate){ .timed = true,
			.since = loop_now() };
	return ++r->did[event];
}

bool
session_count(struct session *s, enum client_event event, struct view args)
{
	struct counting *c;

	if (rate_most(s->server->cf, event) == 0 || s->addr.family == 0 ||
	    net_list_match(s->server->event_exceptions,
	    session_client_name(s), &s->addr) == TABLE_FOUND)
		return true;
	ensure(s->counting == NULL);
	/* gate knows the proxy, not whom it speaks for. */
	if (s->gate == NULL || s->xclient != NULL ||
	    s->server->on_event == NULL)
		return rate_within(s, event, rate_own(s, event));
	c = mem_alloc(sizeof *c + args.n);
	c->event = event;
	c->args_n = args.n;
	if (args.n > 0)
		memcpy(c->args, args.p, args.n);
	s->counting = c;
	s->server->on_event(s->server, s, event,
	    session_ask(s, s->gate));
	session_wait_for(s, WAIT_RATE, RATE_WAIT_MS);
	return false;
}

void
session_counted(struct session *s, uint32_t n)
{
	ensure(s->wait == WAIT_RATE && s->counting != NULL);
	s->counting->n = n;
	session_resume(s);
}

void
session_count_lost(struct session *s)
{
	ensure(s->wait == WAIT_RATE && s->counting != NULL);
	session_counted(s, rate_own(s, s->counting->event));
}

void
session_rate_resume(struct session *s)
{
	struct counting *c = s->counting;

	/* The command may wait for something else now. */
	s->counting = NULL;
	if (rate_within(s, c->event, c->n))
		command_run(s, view_make(c->args, c->args_n));
	rate_forget(c);
}
