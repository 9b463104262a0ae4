#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/table_client.h"
#include "queue/qmgr_probe.h"
#include "rules/table_remote.h"
#include "rules/verify_sender.h"

#define TOO_MANY	"too many addresses are being verified"

TAILQ_HEAD(probe_list, probe);
static struct {
	const struct router *router;
	struct probe_list waiting, underway, asking;
	unsigned n_waiting, n_underway, n_asking;
	uint64_t last;
} probes;

void
probe_init(const struct router *router)
{
	probes.router = router;
	TAILQ_INIT(&probes.waiting);
	TAILQ_INIT(&probes.underway);
	TAILQ_INIT(&probes.asking);
}

static unsigned
probe_total(void)
{
	return probes.n_waiting + probes.n_underway + probes.n_asking;
}

bool
probe_idle(void)
{
	return probe_total() < PROBES_MAX / 2;
}

void
probe_counts(unsigned *ret_waiting, unsigned *ret_underway)
{
	*ret_waiting = probes.n_waiting + probes.n_asking;
	*ret_underway = probes.n_underway;
}

/* It is in no list any more. */
static void
probe_finish(struct probe *p, enum probe_result result, struct view text,
    bool told)
{
	char *copy = mem_copy(text);

	if (p->dest != NULL)
		dest_probe_release(p->dest);
	p->dest = NULL;
	p->relay = NULL;
	p->number = 0;
	table_known_free(&p->tables);
	free(p->addr);
	p->addr = NULL;
	p->done(p, result, view_make(copy, text.n), told);
	free(copy);
}

static void
probe_unwait(struct probe *p, const char *why)
{
	TAILQ_REMOVE(&probes.waiting, p, link);
	probes.n_waiting--;
	probe_finish(p, PROBE_UNKNOWN, view_of(why), false);
}

/* True: one that nobody waits for (of d, if it is not NULL) has given way. */
static bool
probe_make_room(const struct dest *d)
{
	struct probe *p;

	TAILQ_FOREACH(p, &probes.waiting, link)
		if ((d == NULL || p->dest == d) &&
		    (p->wanted == NULL || !p->wanted(p))) {
			probe_unwait(p, TOO_MANY);
			return true;
		}
	return false;
}

/* -- where to -------------------------------------------------------------- */

static void probe_route(struct probe *p);

static void
probe_told(enum table_reply reply, struct view value, void *arg)
{
	struct probe *p = arg;

	p->question = NULL;
	TAILQ_REMOVE(&probes.asking, p, link);
	probes.n_asking--;
	table_known_add(p->tables, reply, value);
	probe_route(p);
}

static void
probe_wait(struct probe *p, struct dest *d)
{
	if (dest_probes(d) >= PROBES_DEST_MAX && !probe_make_room(d)) {
		probe_finish(p, PROBE_UNKNOWN, view_of(TOO_MANY), false);
		return;
	}
	p->dest = d;
	dest_probe_hold(d);
	TAILQ_INSERT_TAIL(&probes.waiting, p, link);
	probes.n_waiting++;
	loop_soon(&qmgr.schedule);
}

static void
probe_route(struct probe *p)
{
	enum probe_result result = PROBE_UNKNOWN;
	struct table_need need;
	struct dest *d;
	struct buf why;

	if (p->tables == NULL && table_remote_opened() > 0)
		p->tables = table_known_new();
	buf_init(&why, 4096);
	/* What the clock made alive again shall be. */
	sched_wake(qmgr.sched, loop_now());
	table_known_begin(p->tables);
	d = resolve_probe(probes.router, view_of(p->addr), &result, &why);
	if (table_known_end(p->tables, &need)) {
		TAILQ_INSERT_TAIL(&probes.asking, p, link);
		probes.n_asking++;
		p->question = table_client_ask(need.service, need.table,
		    need.key, probe_told, p);
	} else if (d != NULL) {
		probe_wait(p, d);
	} else {
		probe_finish(p, result, buf_view(&why), false);
	}
	buf_free(&why);
}

void
probe_start(struct probe *p, struct view addr)
{
	p->number = ++probes.last;
	p->addr = mem_copy(addr);
	if (qmgr.stopping || qmgr.handed_over || !qmgr.started)
		probe_finish(p, PROBE_UNKNOWN,
		    view_of("the queue manager is starting or ending"),
		    false);
	else if (probe_total() >= PROBES_MAX && !probe_make_room(NULL))
		probe_finish(p, PROBE_UNKNOWN, view_of(TOO_MANY), false);
	else
		probe_route(p);
}

/* -- to a relay and back --------------------------------------------------- */

static void
probe_give(struct probe *p, struct chan *relay)
{
	const struct dest *d = p->dest;
	struct buf sender, *b;

	TAILQ_REMOVE(&probes.waiting, p, link);
	probes.n_waiting--;
	TAILQ_INSERT_TAIL(&probes.underway, p, link);
	probes.n_underway++;
	p->relay = relay;
	p->since = loop_now();
	buf_init(&sender, 2 * ADDRESS_MAX);
	verify_sender_put(qmgr.cf, clock_wall(), &sender);
	b = chan_begin(relay, MSG_PROBE);
	put_u64(b, p->number);
	put_view(b, view_of(transport_name(dest_transport(d))));
	qpool_put_nexthop(b, d);
	put_view(b, buf_view(&sender));
	put_view(b, view_of(p->addr));
	put_u64(b, (uint64_t)qmgr.cf->daemon_timeout);
	chan_end(relay);
	buf_free(&sender);
}

void
probe_schedule(void)
{
	unsigned n = probes.n_waiting;
	struct chan *relay;
	struct probe *p;
	const char *dead;

	/* Those that cannot begin go to the end: others have their turn. */
	while (n-- > 0 && (p = TAILQ_FIRST(&probes.waiting)) != NULL) {
		dead = dest_dead_why(p->dest);
		if (dead == NULL)
			dead = transport_dead(dest_transport(p->dest));
		if (dead == NULL)
			dead = qpool_unusable(p->dest);
		if (dead != NULL) {
			probe_unwait(p, dead);
			continue;
		}
		relay = relay_take_probe(transport_relays(
		    dest_transport(p->dest)));
		if (relay != NULL && dest_probe_begin(p->dest)) {
			probe_give(p, relay);
			continue;
		}
		if (relay != NULL)
			relay_put_probe(relay);
		TAILQ_REMOVE(&probes.waiting, p, link);
		TAILQ_INSERT_TAIL(&probes.waiting, p, link);
	}
}

static enum sched_result
probe_sched_result(uint8_t trouble)
{
	return trouble == TROUBLE_NONE ? RESULT_OK : trouble ==
	    TROUBLE_LOST ? RESULT_SHRINK : RESULT_FAILED;
}

/* This host is the best MX of its next hop: somebody else may know. */
static void
probe_loops(struct probe *p, struct view text)
{
	enum probe_result result = PROBE_UNKNOWN;
	struct dest *from = p->dest, *d;
	struct buf why;

	buf_init(&why, 4096);
	(void)buf_putv(&why, view_head(text, 4096));
	d = resolve_probe_loop(from, p->passed, &result, &why);
	if (d != NULL) {
		p->passed = true;
		p->relay = NULL;
		p->dest = NULL;
		probe_wait(p, d);
		dest_probe_release(from);
	} else {
		probe_finish(p, result, buf_view(&why), false);
	}
	buf_free(&why);
}

/* A probe that a relay had is over; p is gone after it, unless it loops. */
static void
probe_back(struct probe *p, uint8_t trouble, struct view why,
    enum probe_result result, struct view text)
{
	struct dest *d = p->dest;
	bool died;

	TAILQ_REMOVE(&probes.underway, p, link);
	probes.n_underway--;
	sched_wake(qmgr.sched, loop_now());
	died = dest_probe_ended(d, probe_sched_result(trouble), why);
	if (died)
		dest_died(d);
	/* It holds d, so this comes last. */
	if (result == PROBE_LOOPED)
		probe_loops(p, text);
	else
		probe_finish(p, result, text, result != PROBE_UNKNOWN);
	loop_soon(&qmgr.schedule);
}

void
probe_ended(struct chan *relay, struct chan_in *in)
{
	struct cursor *c = &in->body;
	uint64_t number = cursor_u64(c);
	uint8_t trouble = cursor_u8(c), result;
	struct view why = cursor_view(c), status, text;
	struct probe *p;

	result = cursor_u8(c);
	status = cursor_view(c);
	text = cursor_view(c);
	if (!chan_check(relay, in))
		return;
	TAILQ_FOREACH(p, &probes.underway, link)
		if (p->number == number && p->relay == relay)
			break;
	if (p == NULL || trouble < TROUBLE_NONE || trouble > TROUBLE_ROUTE ||
	    result < PROBE_DELIVERABLE || result >= PROBE_RESULTS) {
		chan_blame(relay, "bad report of a probe");
		return;
	}
	(void)status;		/* the reply in text has it */
	relay_put_probe(relay);
	probe_back(p, trouble, why, (enum probe_result)result, text);
}

void
probe_check(struct mono now)
{
	const struct probe *p;

	TAILQ_FOREACH(p, &probes.underway, link)
		if (relay_late(p->since, qmgr.cf->daemon_timeout, now))
			relay_hung(p->relay);
}

void
probe_relay_gone(const struct chan *relay)
{
	struct probe *p, *next;

	for (p = TAILQ_FIRST(&probes.underway); p != NULL; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->relay == relay)
			probe_back(p, TROUBLE_LOST, view_of(""),
			    PROBE_UNKNOWN, view_of("relay process ended"));
	}
}
