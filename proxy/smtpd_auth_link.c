/* The smtpd role's side of auth roles: the newest gets new conversations,
 * those before it stay until theirs are over. */
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_link.h"

struct auth_link {
	struct auth_link *next;
	struct chan *c;
	uint32_t generation;
	uint32_t in_use;		/* conversations */
};

static struct {
	struct server *sv;
	struct auth_link *links, *now;
} auths;

void
auths_init(struct server *sv)
{
	auths.sv = sv;
}

static void
link_remove(struct auth_link *l)
{
	struct auth_link **p;

	for (p = &auths.links; *p != l; p = &(*p)->next)
		ensure(*p != NULL);
	*p = l->next;
	if (auths.now == l)
		auths.now = NULL;
	chan_free(&l->c);
	free(l);
}

struct auth_link *
auth_link_take(void)
{
	if (auths.now != NULL)
		auths.now->in_use++;
	return auths.now;
}

void
auth_link_release(struct auth_link *l)
{
	ensure(l->in_use > 0);
	l->in_use--;
	if (l->in_use == 0 && l != auths.now)
		link_remove(l);
}

struct chan *
auth_link_chan(const struct auth_link *l)
{
	return l->c;
}

bool
auth_known(struct server *sv)
{
	if (sv->auth == NULL || sv->auth->known)
		return true;
	/* Not for ever, and not each client for itself. */
	if (sv->auth->waiting_since.us == 0)
		sv->auth->waiting_since = loop_now();
	return mono_since(sv->auth->waiting_since, loop_now()) >=
	    SPACE_WAIT_MS * 1000;
}

static void
link_offer(struct auth_link *l, struct chan_in *m)
{
	struct auth_service *a = auths.sv->auth;
	struct view server = cursor_view(&m->body), mechanism;
	uint32_t n = cursor_u32(&m->body), i, properties;
	bool ours = l == auths.now && view_eq(server,
	    view_trim(view_of(a->cf->smtpd_sasl_path))), good = true;

	if (n > SASL_MECHANISMS_MAX)
		m->body.bad = true;
	if (ours && n > 0 && !m->body.bad)
		auth_service_begin(a);
	for (i = 0; i < n && !m->body.bad; i++) {
		mechanism = cursor_view(&m->body);
		properties = cursor_u32(&m->body);
		if (m->body.bad)
			break;
		if (!sasl_mechanism_good(mechanism) ||
		    (properties & ~(uint32_t)SASL_PROPERTIES) != 0)
			good = false;
		else if (ours)
			auth_service_add(a, mechanism, properties);
	}
	if (!chan_check(l->c, m))
		return;
	if (!good) {
		chan_blame(l->c, "bad offer of mechanisms");
		return;
	}
	if (!ours)
		return;
	/* A server that is away for a while is announced all the same. */
	if (n > 0)
		auth_service_end(a);
	a->known = true;
	server_greet_waiting(auths.sv);
}

static void
link_says(struct auth_link *l, struct chan_in *m)
{
	uint32_t conversation = cursor_u32(&m->body);
	unsigned says = cursor_u8(&m->body);
	struct view text = cursor_view(&m->body);
	struct view login = cursor_view(&m->body);
	struct session *s;
	bool ok = says >= AUTH_SAYS_CHALLENGE && says <= AUTH_SAYS_TEMPORARY;

	if (!chan_check(l->c, m))
		return;
	if (ok && says == AUTH_SAYS_CHALLENGE)
		ok = text.n <= SASL_TEXT_MAX && sasl_base64_good(text);
	else
		ok = ok && text.n <= SASL_REASON_MAX;
	if (login.n > 0 || says == AUTH_SAYS_SUCCESS)
		ok = ok && sasl_login_good(login);
	if (!ok) {
		chan_blame(l->c, "bad answer of an authentication");
		return;
	}
	s = session_asked(conversation, WAIT_AUTH);
	if (s != NULL && s->asked == l)
		auth_answered(s, (enum auth_says)says, text, login);
}

static void
link_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	(void)c;
	if (m->type == MSG_AUTH_OFFER)
		link_offer(arg, m);
	else
		link_says(arg, m);
}

static void
link_on_close(struct chan *c, void *arg)
{
	struct auth_link *l = arg;
	struct server *sv = auths.sv;
	struct session *s;
	uint32_t i;

	(void)c;
	if (l == auths.now)
		auths.now = NULL;
	for (i = 0; i < sv->cap; i++) {
		s = sv->sessions[i];
		if (s != NULL && s->auth != NULL && s->asked == l)
			auth_lost(s);
	}
	link_remove(l);
}

static enum auth_type
auth_type(const struct conf *cf)
{
	return view_is_nocase(view_trim(view_of(cf->smtpd_sasl_type)),
	    "cyrus") ? AUTH_CYRUS : AUTH_DOVECOT;
}

void
auths_peer(const struct role_peer *peer, int fd)
{
	struct auth_link *l, *old = auths.now;

	/* The one that serves the type of this service. */
	if (auths.sv->auth == NULL || peer->service !=
	    auth_type(auths.sv->cf) || (old != NULL &&
	    peer->generation < old->generation)) {
		close(fd);
		return;
	}
	l = mem_alloc(sizeof *l);
	l->generation = peer->generation;
	l->c = chan_new(fd, ROLE_SMTPD, ROLE_AUTH, peer->pid, link_on_msg,
	    link_on_close, l);
	chan_secret(l->c);
	l->next = auths.links;
	auths.links = auths.now = l;
	if (old != NULL && old->in_use == 0)
		link_remove(old);
}
