/*
 *	ehlo = "EHLO" SP ( Domain / address-literal ) CRLF
 *	helo = "HELO" SP Domain CRLF
 *
 * RFC 5321 section 4.1.1.1.  Either is accepted at any time and ends a
 * transaction.  The name is taken as it comes: whether it is a good one is a
 * question for the restrictions.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_tls.h"

/* The name goes into the Received header and the log: what has a meaning in a
 * header, or is not printable, becomes '?'. */
static void
helo_set(struct session *s, struct view args)
{
	char *p;
	size_t i;

	free(s->helo);
	s->helo = p = mem_copy(view_of(log_safe(view_head(args,
	    HELO_NAME_MAX))));
	for (i = 0; p[i] != '\0'; i++)
		if (strchr(" <>()\\\";@", p[i]) != NULL)
			p[i] = '?';
	s->helo_n = (uint16_t)i;
}

bool
helo_check(struct session *s, struct view args)
{
	if (args.n == 0)
		session_refuse(s, "501 Syntax: HELO hostname");
	return args.n > 0 && session_policy(s, STAGE_HELO, args, view_of(""));
}

void
helo_proceed(struct session *s, struct view args)
{
	helo_set(s, args);
	xforward_forget(s);
	s->esmtp = false;
	session_enter(s, SMTP_GREETED);
	session_accept(s, VERB_HELO, "250 %s", s->server->cf->myhostname);
}

bool
ehlo_check(struct session *s, struct view args)
{
	if (args.n == 0)
		session_refuse(s, "501 Syntax: EHLO hostname");
	return args.n > 0 && session_policy(s, STAGE_HELO, args, view_of(""));
}

static struct view
ehlo_text(const struct session *s)
{
	return starttls_offered(s) ? s->server->ehlo_starttls :
	    s->server->ehlo;
}

/* What is announced to this client.  Returns a reply of its own, or NULL: the
 * usual one. */
static char *
ehlo_choose(struct session *s)
{
	const struct server *sv = s->server;
	const struct table *t;
	char addr[NETADDR_TEXT], *reply = NULL;
	struct buf list;
	unsigned line;

	s->offers = sv->offers;
	if (sv->discards.n == 0)
		return NULL;
	buf_init(&list, 4096);
	switch (table_list_find(&sv->discards, view_of(netaddr_text(&s->addr,
	    addr)), &list, &t, &line)) {
	case TABLE_FOUND:
		s->offers = server_offers(sv, buf_cstr(&list));
		reply = server_ehlo_without(sv, starttls_offered(s),
		    buf_cstr(&list));
		break;
	case TABLE_FAILED:
		log_warn("%s lookup error for \"%s\"", table_name(t), addr);
		break;
	case TABLE_NOT_FOUND:
		break;
	}
	buf_free(&list);
	return reply;
}

/* Behind the first line, which stands for itself, what only some may do. */
static bool
ehlo_put(struct session *s, struct view all)
{
	size_t first = view_find(all, '\n') + 1;

	return buf_putv(&s->out, view_head(all, first)) &&
	    auth_ehlo(s, &s->out) && (!requiretls_offered(s) ||
	    buf_puts(&s->out, "250-REQUIRETLS\r\n")) &&
	    (!xclient_allowed(s) || buf_puts(&s->out, "250-XCLIENT NAME ADDR "
	    "PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT\r\n")) &&
	    (!xforward_allowed(s) || buf_puts(&s->out, "250-XFORWARD NAME "
	    "ADDR PROTO HELO SOURCE PORT IDENT\r\n")) &&
	    buf_putv(&s->out, view_from(all, first));
}

void
ehlo_proceed(struct session *s, struct view args)
{
	struct view reply;
	char *own;

	helo_set(s, args);
	xforward_forget(s);
	s->esmtp = true;
	session_enter(s, SMTP_GREETED);
	s->good[VERB_EHLO]++;
	own = ehlo_choose(s);
	reply = own != NULL ? view_of(own) : ehlo_text(s);
	notice_said(s, "Out", reply);
	if (!ehlo_put(s, reply))
		s->hangup = true;
	free(own);
}
