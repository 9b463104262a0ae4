/*
 * Sites whose deferred mail somebody asked for from outside (ETRN).  Finding
 * it means reading the deferred queue, which is showq's work; showq is started
 * when it is needed.
 *
 * Strangers may ask, so this is bounded: a name is kept once, SITES_MAX names
 * at most, one search runs at a time, and SITE_PAUSE_MS lie between the end of
 * one and the beginning of the next.  Nothing is lost when a wish is: mail
 * that is not found now is tried when it is due.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "queue/qmgr.h"
#include "queue/queue_match.h"

#define SITES_MAX	100u
#define SITE_PAUSE_MS	10000
#define SITE_ASK_MS	5000	/* until master is asked for a showq again */
#define SITE_SEARCH_MS	3600000	/* for a search */

struct site {
	struct site *next;
	size_t n;
	char *name;
};

static struct {
	struct site *first;	/* while running: the one searched for */
	unsigned n;
	struct chan *showq;	/* NULL: none */
	bool running;		/* showq searches */
	/* For the timer: the end of a pause, of the search that runs, or, if
	 * asked, of the time that a showq has to come. */
	bool waiting, asked;
	bool full;		/* the log was told */
	struct event timer;
	bool timer_set;
} sites;

static void site_next(void);

/* The search is over. */
static void
site_drop_first(void)
{
	struct site *s = sites.first;

	sites.first = s->next;
	sites.n--;
	if (sites.n < SITES_MAX / 2)
		sites.full = false;
	sites.running = false;
	free(s->name);
	free(s);
}

static void site_on_timer(evutil_socket_t fd, short what, void *arg);

static void
site_wait(int64_t ms)
{
	sites.waiting = true;
	if (!sites.timer_set)
		evtimer_assign(&sites.timer, loop_base(), site_on_timer, NULL);
	sites.timer_set = true;
	event_add(&sites.timer, loop_timeout(ms));
}

static void
site_on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	sites.waiting = sites.asked = false;
	if (sites.running) {
		/* The next showq would do no better. */
		site_drop_first();
		chan_blame(sites.showq, "no end of a search for a site");
		site_wait(SITE_PAUSE_MS);
	}
	site_next();
}

static void
site_want_showq(void)
{
	struct buf *b;

	if (role_control() != NULL) {
		b = chan_begin(role_control(), MSG_WANT);
		put_u8(b, ROLE_SHOWQ);
		chan_end(role_control());
	}
	site_wait(SITE_ASK_MS);
	sites.asked = true;
}

static void
site_next(void)
{
	struct buf *b;

	if (sites.first == NULL || sites.running || sites.waiting ||
	    qmgr.stopping || qmgr.handed_over)
		return;
	if (sites.showq == NULL) {
		site_want_showq();
		return;
	}
	sites.running = true;
	b = chan_begin(sites.showq, MSG_QUEUE_SITE);
	(void)put_view(b, view_make(sites.first->name, sites.first->n));
	chan_end(sites.showq);
	site_wait(qmgr.cf->daemon_timeout < SITE_SEARCH_MS ?
	    qmgr.cf->daemon_timeout : SITE_SEARCH_MS);
}

bool
site_wanted(struct view name)
{
	struct site **p = &sites.first, *s;

	if (name.n == 0 || name.n > MATCH_TEXT_MAX)
		return false;
	/* One that is being searched for may have got mail since. */
	if (sites.running)
		p = &(*p)->next;
	for (; *p != NULL; p = &(*p)->next)
		if (view_eq_nocase(view_make((*p)->name, (*p)->n), name))
			return true;
	if (sites.n == SITES_MAX) {
		if (!sites.full)
			log_warn("too many sites are asked for by ETRN: "
			    "%.100s is not looked for", log_safe(name));
		sites.full = true;
		return true;
	}
	s = mem_alloc(sizeof *s);
	s->name = mem_copy(name);
	s->n = name.n;
	*p = s;
	sites.n++;
	site_next();
	return true;
}

void
site_done(struct chan *c, struct chan_in *in)
{
	const struct site *s = sites.first;
	uint32_t n = cursor_u32(&in->body);

	if (!chan_check(c, in))
		return;
	if (c != sites.showq || !sites.running) {
		chan_blame(c, "no site was asked for");
		return;
	}
	log_info("site %s: %u deferred messages to be tried now",
	    log_safe(view_make(s->name, s->n)), n);
	site_drop_first();
	site_wait(SITE_PAUSE_MS);
}

void
site_showq(struct chan *c)
{
	if (sites.showq != NULL)
		return;
	sites.showq = c;
	if (sites.asked) {
		event_del(&sites.timer);
		sites.waiting = sites.asked = false;
	}
	site_next();
}

void
site_showq_gone(const struct chan *c)
{
	if (sites.showq != c)
		return;
	sites.showq = NULL;
	/* Not finished: asked for again, of the next one. */
	if (sites.running) {
		sites.running = false;
		site_wait(SITE_PAUSE_MS);
	}
}
