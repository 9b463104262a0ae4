/*
 * The role pmilter: see filters/pmilter.h.  It has the socket of the mail
 * server, and neither rules nor files.
 */
#include <stdlib.h>
#include <unistd.h>

#include "filters/pmilter.h"
#include "lib/log.h"
#include "lib/loop.h"

/* A message under way has this long to come to its end when we stop. */
#define LINGER_MS	10000
/* libmilter sends an answer when the session's part is over. */
#define ANSWER_MS	1000
/* Two for each session, and some. */
#define FILES_MAX	16384

static struct event linger, answered;

static void
main_load(void)
{
	static struct pmilter_start start;

	if (!pmilter_start_get(view_of(role_service_name()), &start))
		fatal("pmilter is started by postern-milter, by nobody else");
	pmilter_hand_init();
	pmilter_session_open(role_conf(), &start);
}

/* Its listener is gone: another one is needed. */
static void
main_ended(void)
{
	if (role_phase() != PHASE_RETIRING)
		fatal("libmilter does not serve any more");
}

static void
main_start(void)
{
	pmilter_judge_init(role_conf());
	pmilter_policy_init(role_conf());
	pmilter_hand_start(main_ended);
	pmilter_session_start();
}

/* Threads that still run are of no use to anybody. */
__attribute__((noreturn))
static void
main_exit(void)
{
	log_flush();
	_exit(0);
}

static void
main_on_answered(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	main_exit();
}

/* No message is under way, and none begins any more. */
static void
main_idle(struct mono last)
{
	if (mono_since(last, clock_mono()) / 1000 > ANSWER_MS)
		main_exit();
	if (!event_pending(&answered, EV_TIMEOUT, NULL))
		event_add(&answered, loop_timeout(ANSWER_MS));
}

static void
main_on_linger(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	log_warn("messages under way are given up");
	main_exit();
}

static void
main_retire(void)
{
	/* smfi_stop() would wait, seconds long, for a thread that waits for
	 * connections. */
	evtimer_assign(&linger, loop_base(), main_on_linger, NULL);
	event_add(&linger, loop_timeout(LINGER_MS));
	evtimer_assign(&answered, loop_base(), main_on_answered, NULL);
	pmilter_hand_stop(main_idle);
}

static void
main_peer(const struct role_peer *peer, int fd)
{
	if (peer->kind == ROLE_POLICY)
		pmilter_policy_peer(peer, fd);
	else
		pmilter_judge_peer(peer, fd);
}

static void
main_status(struct buf *b)
{
	pmilter_judge_status(b);
	pmilter_policy_status(b);
}

int
main(int argc, char **argv)
{
	static const struct role_def def = {
		.kind = ROLE_PMILTER,
		.jail = { .allow = JAIL_THREADS | JAIL_MEMFD | JAIL_LIBMILTER,
			.max_files = FILES_MAX },
		.load = main_load,
		.start = main_start,
		.peer = main_peer,
		.retire = main_retire,
		.status = main_status,
	};

	return role_main(&def, argc, argv);
}
