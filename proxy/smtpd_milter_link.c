/* The smtpd role's side of milter roles: the newest gets new sessions, those
 * before it stay until theirs are over. */
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "proxy/smtpd_link.h"
#include "proxy/smtpd_milter.h"

#define TEXT_MAX	65536u	/* of an answer */

struct milter_link {
	struct milter_link *next;
	struct chan *c;
	uint32_t generation;
	uint32_t in_use;		/* sessions */
};

static struct {
	struct server *sv;
	struct milter_link *links, *now;
} milters;

void
milters_init(struct server *sv)
{
	milters.sv = sv;
}

static void
link_remove(struct milter_link *l)
{
	struct milter_link **p;

	for (p = &milters.links; *p != l; p = &(*p)->next)
		ensure(*p != NULL);
	*p = l->next;
	if (milters.now == l)
		milters.now = NULL;
	chan_free(&l->c);
	free(l);
}

struct milter_link *
milter_link_take(void)
{
	if (milters.now != NULL)
		milters.now->in_use++;
	return milters.now;
}

void
milter_link_release(struct milter_link *l)
{
	ensure(l->in_use > 0);
	l->in_use--;
	if (l->in_use == 0 && l != milters.now)
		link_remove(l);
}

struct chan *
milter_link_chan(const struct milter_link *l)
{
	return l->c;
}

static void
link_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct milter_link *l = arg;
	uint32_t tag = cursor_u32(&m->body);
	struct milter_answer a = { .says = cursor_u8(&m->body) };
	struct session *s;
	bool ok;

	a.code = cursor_u16(&m->body);
	a.text = cursor_view(&m->body);
	a.waits = cursor_u32(&m->body);
	if (!chan_check(c, m))
		return;
	ok = a.says >= MILTER_SAYS_GO_ON && a.says <= MILTER_SAYS_HANG_UP &&
	    a.text.n <= TEXT_MAX;
	if (ok && (a.says == MILTER_SAYS_REFUSE ||
	    a.says == MILTER_SAYS_HANG_UP))
		ok = a.code >= 400 && a.code <= 599;
	if (!ok) {
		chan_blame(c, "bad answer of filters");
		return;
	}
	s = session_asked(tag, WAIT_MILTER);
	if (s != NULL && s->asked == l)
		milter_answered(s, &a);
}

static void
link_on_close(struct chan *c, void *arg)
{
	struct milter_link *l = arg;
	struct server *sv = milters.sv;
	struct session *s;
	uint32_t i;

	(void)c;
	if (l == milters.now)
		milters.now = NULL;
	/* It stays in the list while they are told. */
	l->in_use++;
	for (i = 0; i < sv->cap; i++) {
		s = sv->sessions[i];
		if (s != NULL && s->milter != NULL && s->milter->link == l)
			milter_lost(s);
	}
	ensure(l->in_use == 1);
	link_remove(l);
}

void
milters_peer(const struct role_peer *peer, int fd)
{
	struct milter_link *l, *old = milters.now;

	if (!milters.sv->milters ||
	    (old != NULL && peer->generation < old->generation)) {
		close(fd);
		return;
	}
	l = mem_alloc(sizeof *l);
	l->generation = peer->generation;
	l->c = chan_new(fd, ROLE_SMTPD, ROLE_MILTER, peer->pid, link_on_msg,
	    link_on_close, l);
	l->next = milters.links;
	milters.links = milters.now = l;
	if (old != NULL && old->in_use == 0)
		link_remove(old);
}
