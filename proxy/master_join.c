#include <stdlib.h>
#include <sys/socket.h>

#include "proxy/master.h"

/*
 * Who is joined to whom.  A retiring user of a lasting pair is given new
 * servers too: an old smtpd with a slow client needs a qmgr for as long as
 * that client stays, and an old qmgr a filter for what such a client sends.
 */
static const struct {
	enum role_kind user, server;
	bool lasting;
} pairs[] = {
	{ ROLE_GATE, ROLE_SMTPD, false },
	{ ROLE_SMTPD, ROLE_QMGR, true },
	{ ROLE_SMTPD, ROLE_LOOKUP, true },
	{ ROLE_SMTPD, ROLE_TABLE, true },
	{ ROLE_SMTPD, ROLE_AUTH, true },
	{ ROLE_FILTER, ROLE_TABLE, true },
	{ ROLE_QMGR, ROLE_TABLE, true },
	{ ROLE_RELAY, ROLE_TABLE, true },
	{ ROLE_QMGR, ROLE_FILTER, true },
	{ ROLE_QMGR, ROLE_RELAY, false },
	{ ROLE_QMGR, ROLE_LOCAL, false },
	{ ROLE_RELAY, ROLE_LOOKUP, true },
	{ ROLE_RELAY, ROLE_STS, true },
	{ ROLE_RELAY, ROLE_CREDENTIALS, true },
	{ ROLE_CREDENTIALS, ROLE_TABLE, true },
	{ ROLE_STS, ROLE_LOOKUP, true },
	{ ROLE_RELAY, ROLE_TLSRPT, true },
	{ ROLE_TLSRPT, ROLE_LOOKUP, true },
	{ ROLE_TLSRPT, ROLE_QMGR, true },
	{ ROLE_QMGR, ROLE_BOUNCE, true },
	{ ROLE_PICKUP, ROLE_QMGR, true },
	{ ROLE_SHOWQ, ROLE_QMGR, true },
	{ ROLE_SMTPD, ROLE_MILTER, true },
	{ ROLE_QMGR, ROLE_MILTER, true },
};

static bool
join_is_pair(const struct instance *user, const struct instance *server)
{
	size_t k;

	for (k = 0; k < sizeof pairs / sizeof pairs[0]; k++)
		if (pairs[k].user == user->kind &&
		    pairs[k].server == server->kind &&
		    (server->kind != ROLE_CREDENTIALS ||
		    server->service == user->service))
			return user->state == INSTANCE_SERVING ||
			    pairs[k].lasting;
	return false;
}

static void
join_listeners(struct instance *gate)
{
	const struct listen_set *set = gate->m->now->listen;
	struct buf *b;
	size_t k;

	for (k = 0; k < set->n; k++) {
		if (set->list[k].fd < 0)
			continue;
		b = chan_begin(gate->control, MSG_LISTEN);
		put_u32(b, set->list[k].service);
		put_view(b, view_of(set->list[k].name));
		chan_put_fd(gate->control, set->list[k].fd, true);
		chan_end(gate->control);
	}
}

static void
join_send_handover(struct instance *to, bool taking, int fd)
{
	struct buf *b = chan_begin(to->control, MSG_HANDOVER);

	put_u8(b, taking);
	chan_put_fd(to->control, fd, false);
	chan_end(to->control);
}

/*
 * The spool has one owner.  What the old qmgr still works on it names to the
 * new one on a socket of their own, before the new one may look.
 */
static void
join_qmgrs(struct instance *taker)
{
	struct instance *i, *giver = NULL;
	int pair[2];

	for (i = taker->m->instances; i != NULL; i = i->next)
		if (i != taker && i->kind == ROLE_QMGR && i->control != NULL &&
		    i->state == INSTANCE_RETIRING && (giver == NULL ||
		    i->generation > giver->generation))
			giver = i;
	if (giver == NULL)
		return;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	    pair) != 0) {
		/* Two owners would be worse than interrupted deliveries. */
		instance_kill(giver, "no socket to hand the queue over");
		return;
	}
	join_send_handover(giver, false, pair[0]);
	join_send_handover(taker, true, pair[1]);
}

void
instance_serve(struct instance *i)
{
	struct instance *o;

	if (i->control == NULL)
		return;		/* it just died; its end will be reaped */
	i->state = INSTANCE_SERVING;
	i->since = loop_now();
	if (i->kind == ROLE_QMGR)
		join_qmgrs(i);
	for (o = i->m->instances; o != NULL; o = o->next) {
		if (o->state != INSTANCE_SERVING &&
		    o->state != INSTANCE_RETIRING)
			continue;
		/* A qmgr that is about to end knows of messages that nobody
		 * else does. */
		if (join_is_pair(i, o) && (o->state == INSTANCE_SERVING ||
		    i->kind == ROLE_SHOWQ))
			instance_join(i, o);
		else if (join_is_pair(o, i))
			instance_join(o, i);
	}
	if (i->kind == ROLE_GATE)
		join_listeners(i);
	if (i->kind == ROLE_SHOWQ)
		showq_listen(i);
}

void
instance_go(struct instance *i)
{
	if (i->control != NULL && i->state == INSTANCE_SERVING)
		chan_send(i->control, MSG_START);
}
