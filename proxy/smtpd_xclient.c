/*
 *	xclient = "XCLIENT" 1*( SP attribute "=" xtext ) CRLF
 *
 * Postfix's XCLIENT_README: a proxy says who its client is, and from then on
 * the session is that client's: it is greeted anew, and restrictions, filters
 * outside, log and headers know nobody else.  Only for hosts in
 * smtpd_authorized_xclient_hosts; to others it is not announced.
 *
 * A proxy may say it in several commands.  Some give the connection to their
 * client after that, who is not the proxy: once mail was begun, who may say it
 * again is decided by who the client is said to be.
 */
#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_milter.h"
#include "rules/addr_list.h"

#define VALUE_MAX	HELO_NAME_MAX
#define LOGIN_MAX	255u

enum attribute { NAME = 0, REVERSE_NAME, ADDR, PORT, HELO, PROTO, LOGIN,
	DESTADDR, DESTPORT, ATTRIBUTES };
static const char *const attributes[ATTRIBUTES] = { "NAME", "REVERSE_NAME",
	"ADDR", "PORT", "HELO", "PROTO", "LOGIN", "DESTADDR", "DESTPORT" };

/* What was said, in all commands so far. */
struct xclient {
	bool has[ATTRIBUTES];
	uint32_t mails;		/* commands before the last one */
	uint8_t name_status;
	char name[256], reverse[256], helo[HELO_NAME_MAX + 1];
	char login[LOGIN_MAX + 1];
	struct netaddr addr, dest;
	bool esmtp;
};

bool
xclient_allowed(const struct session *s)
{
	return (s->xclient != NULL &&
	    s->xclient->mails == s->total[VERB_MAIL]) ||
	    net_list_match(s->server->xclient_hosts, session_client_name(s),
	    &s->addr) == TABLE_FOUND;
}

void
xclient_login(struct session *s)
{
	if (s->xclient != NULL && s->xclient->login[0] != '\0')
		auth_trust(s, view_of(s->xclient->login), "XCLIENT");
}

void
xclient_free(struct session *s)
{
	free(s->xclient);
	s->xclient = NULL;
}

static bool
name_set(char *to, struct view v)
{
	to[0] = '\0';
	if (v.n > 255 || (v.n > 0 && !address_valid_hostname(v)))
		return false;
	attribute_keep(to, 255, v);
	return true;
}

/* The port stays: it has an attribute of its own. */
static bool
addr_set(struct netaddr *to, struct view v)
{
	struct netaddr a = { .family = 0 };

	if (view_starts_nocase(v, "IPV6:"))
		v = view_from(v, 5);
	if (v.n > 0 && !netaddr_parse(v, &a))
		return false;
	a.port = to->port;
	*to = a;
	return true;
}

static bool
port_set(struct netaddr *to, struct view v)
{
	to->port = 0;
	return v.n == 0 || attribute_port(v, &to->port);
}

/* v is decoded; empty: it is not known. */
static bool
attribute_set(struct xclient *x, enum attribute a, struct view v)
{
	switch (a) {
	case NAME:
		return name_set(x->name, v);
	case REVERSE_NAME:
		return name_set(x->reverse, v);
	case ADDR:
		return addr_set(&x->addr, v);
	case PORT:
		return port_set(&x->addr, v);
	case HELO:
		attribute_keep(x->helo, HELO_NAME_MAX, v);
		return true;
	case PROTO:
		x->esmtp = view_is_nocase(v, "ESMTP");
		return x->esmtp || view_is_nocase(v, "SMTP");
	case LOGIN:
		attribute_keep(x->login, LOGIN_MAX, v);
		return v.n <= LOGIN_MAX;
	case DESTADDR:
		return addr_set(&x->dest, v);
	case DESTPORT:
		return port_set(&x->dest, v);
	case ATTRIBUTES:
		break;
	}
	return false;
}

/* One "attribute=value"; false after a refusal. */
static bool
attribute_read(struct session *s, struct view word, struct xclient *x)
{
	size_t n = view_find(word, '=');
	struct view name = view_head(word, n), v = view_from(word, n);
	enum attribute a;
	struct buf b;
	bool ok;

	for (a = 0; a < ATTRIBUTES; a++)
		if (view_is_nocase(name, attributes[a]))
			break;
	if (a == ATTRIBUTES || v.n == 0) {
		session_refuse(s, "501 5.5.4 Bad XCLIENT attribute name: "
		    "%.100s", log_safe(view_head(name, 100)));
		return false;
	}
	v = view_from(v, 1);
	buf_init(&b, VALUE_MAX);
	ok = attribute_decode(v, a == NAME || a == REVERSE_NAME, &b) &&
	    attribute_set(x, a, buf_view(&b));
	buf_free(&b);
	if (!ok) {
		session_refuse(s, "501 5.5.4 Bad %s syntax: %.100s",
		    attributes[a], log_safe(view_head(v, 100)));
		return false;
	}
	x->has[a] = true;
	if (a == NAME)
		x->name_status = x->name[0] != '\0' ? NAME_OK :
		    view_is_nocase(v, "[TEMPUNAVAIL]") ? NAME_TEMPFAIL :
		    NAME_NONE;
	return true;
}

bool
xclient_check(struct session *s, struct view args)
{
	if (!xclient_allowed(s))
		session_refuse(s, "550 5.7.0 Error: insufficient "
		    "authorization");
	else if (args.n == 0)
		session_refuse(s, "501 5.5.4 Syntax: XCLIENT "
		    "attribute=value...");
	else
		return true;
	return false;
}

/* Nothing of who it was is left. */
static void
session_forget(struct session *s)
{
	session_enter(s, SMTP_NAMELESS);
	xforward_forget(s);
	auth_forget(s);
	milter_free(s, false);
	policy_carry_free(&s->carry);
	facts_clear(&s->facts, SHELF_SESSION);
	free(s->helo);
	s->helo = NULL;
	s->helo_n = 0;
	s->esmtp = s->pipelined = s->denied = false;
	s->offers = s->server->offers;
}

/* All of a command, or nothing. */
void
xclient_proceed(struct session *s, struct view args)
{
	struct xclient *x = mem_alloc(sizeof *x);
	struct view word;

	if (s->xclient != NULL)
		*x = *s->xclient;
	else {
		x->addr = s->addr;
		x->dest = s->local;
	}
	while ((word = view_word(&args, " \t")).n > 0)
		if (!attribute_read(s, word, x)) {
			free(x);
			return;
		}
	xclient_free(s);
	s->xclient = x;
	x->mails = s->total[VERB_MAIL];
	s->good[VERB_XCLIENT]++;
	session_forget(s);
	/* As after a new connection, when this command is done with. */
	session_wait_for(s, WAIT_CLIENT, 0);
	event_active(&s->timer, EV_TIMEOUT, 0);
}

void
xclient_begin(struct session *s)
{
	struct xclient *x = s->xclient;
	struct view name = session_client_name(s);
	char *old = mem_copy(name), *reverse = s->reverse;
	enum name_status status = (enum name_status)s->name_status;

	s->wait = WAIT_NONE;
	free(s->name);
	s->name = NULL;
	s->reverse = NULL;
	s->addr = x->addr;
	s->local = x->dest;
	s->esmtp = x->esmtp;
	if (x->helo[0] != '\0') {
		s->helo = mem_strdup(x->helo);
		s->helo_n = (uint16_t)strlen(s->helo);
	}
	xclient_login(s);
	/* s may be gone after each of these. */
	if (x->has[NAME])
		session_named(s, (enum name_status)x->name_status,
		    view_of(x->name), view_of(x->has[REVERSE_NAME] ?
		    x->reverse : x->name));
	else if (x->has[ADDR])
		names_find(s);
	else
		session_named(s, status, view_of(old), view_of(
		    reverse != NULL ? reverse : ""));
	free(old);
	free(reverse);
}
