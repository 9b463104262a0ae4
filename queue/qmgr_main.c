/* The role: hooks, and when it may end. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/own_addr.h"
#include "lib/table_client.h"
#include "queue/qmgr.h"

struct qmgr qmgr;

static struct event space_timer;

#define FILES_MAX	131072u		/* descriptors */
#define FILES_OTHER	2048u		/* of them not for active messages */

/* An active message has its text open, and once more on its way to a relay. */
static void
qmgr_limit_active(void)
{
	struct rlimit files;
	rlim_t room;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		return;
	if (geteuid() == 0 && files.rlim_max < FILES_MAX) {
		files.rlim_max = FILES_MAX;
		(void)setrlimit(RLIMIT_NOFILE, &files);
		(void)getrlimit(RLIMIT_NOFILE, &files);
	}
	room = files.rlim_max > 2 * FILES_OTHER ?
	    (files.rlim_max - FILES_OTHER) / 2 : files.rlim_max / 4;
	if (qmgr.active_limit > room) {
		log_info("at most %llu active messages, because of the limit "
		    "of %llu open files", (unsigned long long)room,
		    (unsigned long long)files.rlim_max);
		qmgr.active_limit = (unsigned)room;
	}
}

static void
qmgr_load(void)
{
	struct netaddr own[OWN_ADDR_MAX];
	int rc;

	qmgr.cf = role_conf();
	qmgr.active_limit = (unsigned)qmgr.cf->qmgr_message_active_limit;
	qmgr_limit_active();
	rc = spool_open(&qmgr.spool, qmgr.cf->queue_directory,
	    qmgr.cf->hash_queue_names);
	if (rc != 0)
		fatal("cannot open the spool %s: %s",
		    qmgr.cf->queue_directory, strerror(rc));
	qmgr.router = router_open(qmgr.cf, own,
	    own_addresses(qmgr.cf, own, OWN_ADDR_MAX), log_report, NULL);
	if (qmgr.router == NULL)
		fatal("cannot open the routing tables");
	services_load();
	filter_load();
	milter_load();
	table_client_init(ROLE_QMGR, qmgr.cf->lookup_table_time_limit);
	notice_load();
	journal_load();
	origin_load();
	verify_load();
	qpool_load();
}

static void
qmgr_space(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	writer_space_check();
	flow_check();
	event_add(&space_timer, loop_timeout(1000));
}

static void
qmgr_start(void)
{
	int rc = spool_prepare(&qmgr.spool);

	if (rc != 0)
		fatal("cannot make queue subdirectories: %s", strerror(rc));
	qmgr.schedule.fn = deliver_schedule;
	pool_start((unsigned)qmgr.cf->queue_sync_threads, qmgr_check_end);
	dest_init();
	relay_init();
	intake_init();
	writer_init();
	flow_init();
	quarantine_init();
	verify_init();
	evtimer_assign(&space_timer, loop_base(), qmgr_space, NULL);
	qmgr_space(-1, 0, NULL);
}

static void
qmgr_peer(const struct role_peer *peer, int fd)
{
	switch ((int)peer->kind) {
	case ROLE_SMTPD:
	case ROLE_BOUNCE:
	case ROLE_PICKUP:
	case ROLE_TLSRPT:
		writer_peer(peer, fd);
		break;
	case ROLE_FILTER:
		filter_peer(peer, fd);
		break;
	case ROLE_MILTER:
		milter_peer(peer, fd);
		break;
	case ROLE_RELAY:
	case ROLE_LOCAL:
		relay_peer(peer, fd);
		break;
	case ROLE_TABLE:
		table_client_peer(peer, fd);
		break;
	case ROLE_SHOWQ:
		showq_peer(peer, fd);
		break;
	default:
		panic("channel to a %s", role_kind_name(peer->kind));
	}
}

static void
qmgr_control(struct chan_in *m)
{
	bool taking;

	switch ((int)m->type) {
	case MSG_START:
		if (qmgr.started)
			break;
		qmgr.started = true;
		journal_start();
		if (!handover_waiting())
			journal_recover(intake_start);
		break;
	case MSG_HANDOVER:
		taking = cursor_u8(&m->body) != 0;
		if (!chan_check(role_control(), m))
			break;
		handover_begin(taking, m->fd[0]);
		m->fd[0] = -1;
		break;
	case MSG_POOL:
		qpool_command(m);
		break;
	case MSG_FLUSH:
		dest_revive_all();
		intake_flush();
		break;
	default:
		panic("message %s", msg_rules[m->type].name);
	}
}

void
qmgr_check_end(void)
{
	if (role_phase() != PHASE_RETIRING || relay_busy() || bounce_busy() ||
	    writer_busy() || pool_pending() > 0)
		return;
	/* What is left in memory are slots that nobody will fill, and what the
	 * next start finds on disk. */
	journal_end();
	role_exit();
}

static void
qmgr_retire(void)
{
	qmgr.stopping = true;
	verify_retire();
	if (!qmgr.handed_over)
		handover_stop();
	qmgr_check_end();
}

static void
qmgr_status(struct buf *b)
{
	intake_status(b);
	writer_status(b);
	flow_status(b);
	journal_status(b);
	filter_status(b);
	milter_status(b);
	proxy_status(b);
	relay_status(b);
	verify_status(b);
	(void)buf_printf(b, "delivered %llu\ndeferred_total %llu\n"
	    "bounced %llu\nremoved %llu\nmessages_in_memory %u\n",
	    (unsigned long long)qmgr.delivered,
	    (unsigned long long)qmgr.deferred_total,
	    (unsigned long long)qmgr.bounced,
	    (unsigned long long)qmgr.removed, qmgr.messages);
	qpool_status(b);
	dest_status(b);
}

static const struct role_def qmgr_def = {
	.kind = ROLE_QMGR,
	.jail = {
		.allow = JAIL_FILES | JAIL_THREADS | JAIL_MEMFD,
		.max_files = FILES_MAX,
	},
	.load = qmgr_load,
	.start = qmgr_start,
	.peer = qmgr_peer,
	.retire = qmgr_retire,
	.control = qmgr_control,
	.status = qmgr_status,
};

int
main(int argc, char **argv)
{
	return role_main(&qmgr_def, argc, argv);
}
