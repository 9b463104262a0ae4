/*
 * The socket of showq.  Everybody may connect; showq itself asks who it is
 * and what he may.  It stands in pid/, which everybody can enter and only
 * master's user can change.  While no showq runs, master waits for the first
 * connection, which stays in the socket's queue until one does.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/master.h"

#define BACKLOG		64
#define AGAIN_MS	1000	/* throttled, or in the middle of a reload */

static bool
showq_runs(const struct master *m)
{
	const struct instance *i;

	for (i = m->instances; i != NULL; i = i->next)
		if (i->kind == ROLE_SHOWQ && i->state != INSTANCE_RETIRING)
			return true;
	return false;
}

static void
showq_on_connection(evutil_socket_t fd, short what, void *arg)
{
	struct master *m = arg;

	(void)fd;
	/* Not watched while it starts: turn_ended() or turn_commit() come
	 * here again.  Should it not have been started, time does. */
	if ((what & EV_TIMEOUT) == 0 && !showq_runs(m)) {
		turn_want(m, ROLE_SHOWQ);
		event_del(&m->showq_event);
		event_assign(&m->showq_event, loop_base(), -1, 0,
		    showq_on_connection, m);
		event_add(&m->showq_event, loop_timeout(AGAIN_MS));
		return;
	}
	showq_watch(m);
}

void
showq_watch(struct master *m)
{
	event_del(&m->showq_event);
	if (m->showq < 0 || showq_runs(m) || m->stop_stage != STOP_NOT)
		return;
	event_assign(&m->showq_event, loop_base(), m->showq, EV_READ,
	    showq_on_connection, m);
	event_add(&m->showq_event, NULL);
}

void
showq_listen(struct instance *i)
{
	struct buf *b;

	event_del(&i->m->showq_event);
	if (i->m->showq < 0)
		return;
	b = chan_begin(i->control, MSG_LISTEN);
	put_u32(b, 0);
	put_view(b, view_of("showq"));
	chan_put_fd(i->control, i->m->showq, true);
	chan_end(i->control);
}

bool
showq_open(struct master *m)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX,
		.sun_path = MASTER_SHOWQ };
	mode_t mask;
	int rc;

	event_assign(&m->showq_event, loop_base(), -1, 0, showq_on_connection,
	    m);
	/* We hold the lock, so nobody else listens there. */
	(void)unlink(MASTER_SHOWQ);
	m->showq = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	    0);
	if (m->showq < 0)
		return false;
	mask = umask(0111);
	rc = bind(m->showq, (struct sockaddr *)&un, sizeof un);
	(void)umask(mask);
	return rc == 0 && listen(m->showq, BACKLOG) == 0;
}

void
showq_close(struct master *m)
{
	if (m->showq < 0)
		return;
	(void)unlink(MASTER_SHOWQ);
	close(m->showq);
	m->showq = -1;
}
