/* The role: what it loads, when it ends. */
#include <sys/socket.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/own_addr.h"
#include "queue/showq.h"
#include "queue/spool_pool.h"

#define IDLE_MS		60000
#define THREADS		16u

struct showq showq;
static int listening = -1;
static struct event acceptable, idle_timer;

static void
showq_load(void)
{
	struct netaddr own[OWN_ADDR_MAX];
	int rc;

	showq.cf = role_conf();
	rc = spool_open(&showq.spool, showq.cf->queue_directory,
	    showq.cf->hash_queue_names);
	if (rc != 0)
		fatal("cannot open the spool %s: %s",
		    showq.cf->queue_directory, strerror(rc));
	showq.spool.read_only = true;
	showq.router = router_open(showq.cf, own,
	    own_addresses(showq.cf, own, OWN_ADDR_MAX), log_report_errors,
	    NULL);
	if (showq.router == NULL)
		fatal("cannot open the routing tables");
	client_load();
}

static void
showq_no_idle(void)
{
}

static void
showq_on_idle(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	/* Who connects now is found by master, and the next showq. */
	if (client_count() == 0 && !site_running())
		role_exit();
	event_add(&idle_timer, loop_timeout(IDLE_MS));
}

static void
showq_start(void)
{
	pool_start(THREADS, showq_no_idle);
	evtimer_assign(&idle_timer, loop_base(), showq_on_idle, NULL);
	event_add(&idle_timer, loop_timeout(IDLE_MS));
}

static void
showq_on_connection(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	(void)arg;
	event_add(&idle_timer, loop_timeout(IDLE_MS));
	client_accept(fd);
}

static void
showq_control(struct chan_in *m)
{
	switch ((int)m->type) {
	case MSG_LISTEN:
		(void)cursor_u32(&m->body);
		(void)cursor_view(&m->body);
		if (!chan_check(role_control(), m) || listening >= 0)
			break;
		listening = m->fd[0];
		m->fd[0] = -1;
		break;
	case MSG_START:
		/* By now it is joined to qmgr. */
		if (listening < 0 || role_phase() != PHASE_RUNNING)
			break;
		event_assign(&acceptable, loop_base(), listening,
		    EV_READ | EV_PERSIST, showq_on_connection, NULL);
		event_add(&acceptable, NULL);
		break;
	default:
		panic("message %s", msg_rules[m->type].name);
	}
}

static void
showq_retire(void)
{
	if (listening >= 0) {
		event_del(&acceptable);
		close(listening);
		listening = -1;
	}
	if (client_count() == 0 && !site_running())
		role_exit();
}

static void
showq_hurry(void)
{
	role_exit();
}

static void
showq_status(struct buf *b)
{
	(void)buf_printf(b, "clients %u\n", client_count());
}

static const struct role_def showq_def = {
	.kind = ROLE_SHOWQ,
	.jail = {
		.allow = JAIL_ACCEPT | JAIL_READ_FILES | JAIL_READ_DIRS |
		    JAIL_THREADS,
		.max_files = 1024,
	},
	.load = showq_load,
	.start = showq_start,
	.peer = manager_peer,
	.retire = showq_retire,
	.hurry = showq_hurry,
	.control = showq_control,
	.status = showq_status,
};

int
main(int argc, char **argv)
{
	return role_main(&showq_def, argc, argv);
}
