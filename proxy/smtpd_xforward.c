/*
 *	xforward = "XFORWARD" 1*( SP attribute "=" xtext ) CRLF
 *
 * Postfix's XFORWARD_README: a filter in between says who its own client was,
 * for the message that follows.  That goes to the log and into the envelope,
 * so the filter's rules and the next hop's XFORWARD see it; what the client
 * may do here is decided by who it is itself.  Only for hosts in
 * smtpd_authorized_xforward_hosts; to others it is not announced.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lib/address.h"
#include "lib/dsn.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd.h"
#include "rules/addr_list.h"

#define VALUE_MAX	HELO_NAME_MAX
#define PROTO_MAX	32u
#define IDENT_MAX	64u

enum attribute { NAME = 0, ADDR, PORT, PROTO, HELO, IDENT, SOURCE,
	ATTRIBUTES };
static const char *const attributes[ATTRIBUTES] = { "NAME", "ADDR", "PORT",
	"PROTO", "HELO", "IDENT", "SOURCE" };

bool
xforward_allowed(const struct session *s)
{
	return net_list_match(s->server->xforward_hosts,
	    session_client_name(s), &s->addr) == TABLE_FOUND;
}

void
xforward_forget(struct session *s)
{
	free(s->forwarded);
	s->forwarded = NULL;
}

void
attribute_keep(char *to, size_t max, struct view v)
{
	size_t i;

	(void)snprintf(to, max + 1, "%s", log_safe(view_head(v, max)));
	for (i = 0; to[i] != '\0'; i++)
		if (strchr(" <>()\\\";@", to[i]) != NULL)
			to[i] = '?';
}

bool
attribute_port(struct view v, uint16_t *ret)
{
	uint32_t n = 0;
	size_t i;

	for (i = 0; i < v.n && i < 6; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return false;
		n = n * 10 + (uint32_t)(v.p[i] - '0');
	}
	*ret = (uint16_t)n;
	return v.n > 0 && v.n < 6 && n > 0 && n <= UINT16_MAX;
}

bool
attribute_decode(struct view v, bool temporary, struct buf *out)
{
	return view_is_nocase(v, "[UNAVAILABLE]") ||
	    (temporary && view_is_nocase(v, "[TEMPUNAVAIL]")) ||
	    (v.n <= 3 * VALUE_MAX && xtext_get(out, v) && out->n > 0);
}

/* v is decoded; empty: it is not known. */
static bool
attribute_set(struct forwarded *f, enum attribute a, struct view v)
{
	struct netaddr addr;

	switch (a) {
	case NAME:
		f->name[0] = '\0';
		if (v.n > 0 && !address_valid_hostname(v))
			return false;
		attribute_keep(f->name, sizeof f->name - 1, v);
		return true;
	case ADDR:
		f->addr[0] = '\0';
		if (view_starts_nocase(v, "IPV6:"))
			v = view_from(v, 5);
		if (v.n > 0 && !netaddr_parse(v, &addr))
			return false;
		if (v.n > 0)
			(void)netaddr_text(&addr, f->addr);
		return true;
	case PORT:
		f->port = 0;
		return v.n == 0 || attribute_port(v, &f->port);
	case PROTO:
		attribute_keep(f->proto, sizeof f->proto - 1, v);
		return v.n <= PROTO_MAX;
	case HELO:
		attribute_keep(f->helo, sizeof f->helo - 1, v);
		return true;
	case IDENT:
		attribute_keep(f->ident, sizeof f->ident - 1, v);
		return v.n <= IDENT_MAX;
	case SOURCE:
		f->local = view_is_nocase(v, "LOCAL");
		f->remote = view_is_nocase(v, "REMOTE");
		return v.n == 0 || f->local || f->remote;
	case ATTRIBUTES:
		break;
	}
	return false;
}

/* One "attribute=value"; false after a refusal. */
static bool
attribute_read(struct session *s, struct view word, struct forwarded *f)
{
	size_t n = view_find(word, '=');
	struct view name = view_head(word, n), v = view_from(word, n);
	struct buf b;
	enum attribute a;
	bool ok;

	for (a = 0; a < ATTRIBUTES; a++)
		if (view_is_nocase(name, attributes[a]))
			break;
	if (a == ATTRIBUTES || v.n == 0) {
		session_refuse(s, "501 5.5.4 Bad XFORWARD attribute name: "
		    "%.100s", log_safe(view_head(name, 100)));
		return false;
	}
	v = view_from(v, 1);
	buf_init(&b, VALUE_MAX);
	ok = attribute_decode(v, a == NAME, &b) &&
	    attribute_set(f, a, buf_view(&b));
	buf_free(&b);
	if (!ok)
		session_refuse(s, "501 5.5.4 Bad %s syntax: %.100s",
		    attributes[a], log_safe(view_head(v, 100)));
	return ok;
}

bool
xforward_check(struct session *s, struct view args)
{
	if (!xforward_allowed(s)) {
		session_refuse(s, "550 5.7.0 Error: insufficient "
		    "authorization");
		return false;
	}
	if (args.n == 0)
		session_refuse(s, "501 5.5.4 Syntax: XFORWARD "
		    "attribute=value...");
	return args.n > 0;
}

/* All of a command, or nothing. */
void
xforward_proceed(struct session *s, struct view args)
{
	struct forwarded *f = mem_alloc(sizeof *f);
	struct view word;

	if (s->forwarded != NULL)
		*f = *s->forwarded;
	while ((word = view_word(&args, " \t")).n > 0)
		if (!attribute_read(s, word, f)) {
			free(f);
			return;
		}
	xforward_forget(s);
	s->forwarded = f;
	session_accept(s, VERB_XFORWARD, "250 2.0.0 Ok");
}

void
xforward_envelope(const struct session *s, struct envelope *e)
{
	const struct forwarded *f = s->forwarded;

	if (f == NULL)
		return;
	/* Of the client that is meant, not partly of this one. */
	if (f->name[0] != '\0' || f->addr[0] != '\0') {
		e->client_name = view_of(f->name[0] != '\0' ? f->name :
		    "unknown");
		e->client_addr = view_of(f->addr[0] != '\0' ? f->addr :
		    "unknown");
		e->client_port = f->port;
	}
	if (f->helo[0] != '\0')
		e->helo = view_of(f->helo);
	if (f->proto[0] != '\0')
		e->proto = view_of(f->proto);
	if (f->local)
		e->flags |= ENVELOPE_LOCAL;
	if (f->remote)
		e->flags &= ~(uint32_t)ENVELOPE_LOCAL;
}

void
xforward_log(const struct session *s, struct buf *b)
{
	const struct forwarded *f = s->forwarded;

	if (f == NULL)
		return;
	if (f->ident[0] != '\0')
		(void)buf_printf(b, ", orig_queue_id=%s", f->ident);
	if (f->name[0] != '\0' || f->addr[0] != '\0')
		(void)buf_printf(b, ", orig_client=%s[%s]",
		    f->name[0] != '\0' ? f->name : "unknown",
		    f->addr[0] != '\0' ? f->addr : "unknown");
}
