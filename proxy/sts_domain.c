#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/sts_domain.h"
#include "proxy/sts_store.h"
#include "rules/idn.h"

#define FETCHES_MAX	100u	/* at once */
#define WAITERS_MAX	50000u
#define PATIENCE_MS	5000	/* for news of a policy that is in force */
#define DNS_RETRY	60	/* s, at most */
#define RETRY_MAX	86400	/* s */
#define UNUSED_MAX	(30 * 86400)	/* s; then it is not refreshed */
#define SWEEP_MS_MAX	60000
#define SWEEP_BEGINS	20u	/* looks that one sweep begins */
#define WHY_MAX		500u

static const struct conf *conf;
static TAILQ_HEAD(, sts_entry) queue = TAILQ_HEAD_INITIALIZER(queue);
static size_t n_fetching, n_waiters;
static struct event sweep_timer;
static struct sts_counts counts;

static int64_t
now_s(void)
{
	return clock_wall().us / 1000000;
}

static int64_t
seconds(int64_t ms)
{
	return (ms + 999) / 1000;
}

/* -- answers --------------------------------------------------------------- */

static void
answer_send(struct chan *chan, uint32_t tag, const struct sts_entry *e,
    const char *why)
{
	bool valid = e != NULL && sts_cache_valid(e, now_s());
	struct buf *b = chan_begin(chan, MSG_STS_IS);

	put_u32(b, tag);
	put_u8(b, (uint8_t)(valid ? STS_POLICY : e != NULL ? e->answer :
	    STS_NO_POLICY));
	put_view(b, view_of(valid ? e->policy : ""));
	put_view(b, view_of(valid || why == NULL ? "" : why));
	chan_end(chan);
}

static void
answer_waiter(const struct sts_entry *e, const struct sts_waiter *w)
{
	struct buf b;

	if (w->chan != NULL) {
		answer_send(w->chan, w->tag, e, e->why);
		return;
	}
	buf_init(&b, 4 * STS_TEXT_MAX);
	sts_order_describe(e, &b);
	role_answer(w->tag, NULL, buf_view(&b));
	buf_free(&b);
}

static void
answer_all(struct sts_entry *e)
{
	struct sts_waiter *w;

	while ((w = TAILQ_FIRST(&e->waiters)) != NULL) {
		TAILQ_REMOVE(&e->waiters, w, link);
		n_waiters--;
		answer_waiter(e, w);
		free(w);
	}
}

/* -- the end of a look ----------------------------------------------------- */

static void queue_run(void);

static void
look_ends(struct sts_entry *e)
{
	if (e->stage == STS_QUEUED)
		TAILQ_REMOVE(&queue, e, queue);
	if (e->stage == STS_FETCHING)
		n_fetching--;
	sts_dns_cancel(&e->question);
	sts_fetch_cancel(&e->fetch);
	event_del(&e->limit);
	event_del(&e->patience);
	e->stage = STS_IDLE;
	e->forced = false;
	counts.open--;
	answer_all(e);
	queue_run();
}

static void
entry_why(struct sts_entry *e, const char *why)
{
	/* It may be the present one. */
	char *copy = why != NULL ? mem_strdup(why) : NULL;

	free(e->why);
	e->why = copy;
}

/* There is none, or nothing that is new. */
static void
look_nothing(struct sts_entry *e, const char *why, int64_t again)
{
	int64_t check = seconds(conf->smtp_tls_sts_check_time);

	if (!sts_cache_valid(e, now_s()))
		e->answer = STS_NO_POLICY;
	entry_why(e, why);
	e->next_check = now_s() + (again < check ? again : check);
	look_ends(e);
}

/* It says that there is one, and there is not. */
static void
look_failed(struct sts_entry *e, enum sts_answer answer, const char *why)
{
	int64_t delay = seconds(conf->smtp_tls_sts_retry_time), now = now_s();
	unsigned i;

	for (i = 0; i < e->failures && delay < RETRY_MAX; i++)
		delay *= 2;
	e->failures++;
	counts.failed++;
	e->retry_at = now + (delay < RETRY_MAX ? delay : RETRY_MAX);
	memcpy(e->failed_id, e->new_id, sizeof e->failed_id);
	e->next_check = now + seconds(conf->smtp_tls_sts_check_time);
	e->answer = answer;
	entry_why(e, why);
	log_info("MTA-STS: %s: %s%s", e->domain, why,
	    sts_cache_valid(e, now) ? "; the policy of before stays" : "");
	look_ends(e);
}

static void
look_policy(struct sts_entry *e, struct view text)
{
	int64_t check = seconds(conf->smtp_tls_sts_check_time), now = now_s();
	struct sts_policy p;
	char line[WHY_MAX];
	const char *why;
	struct buf b;

	if (!sts_policy_read(text, &p, &why)) {
		buf_init(&b, sizeof line);
		(void)buf_printf(&b, "the policy is not valid: %s", why);
		look_failed(e, STS_POLICY_INVALID, buf_cstr(&b));
		buf_free(&b);
		return;
	}
	sts_cache_policy(e, &p);
	memcpy(e->id, e->new_id, sizeof e->id);
	e->fetched = now;
	e->expires = now + (p.max_age > check ? p.max_age : check);
	e->next_check = now + check;
	e->retry_at = 0;
	e->failures = 0;
	entry_why(e, NULL);
	counts.fetched++;
	log_info("MTA-STS: %s: mode=%s, id=%s, mx=%u, max_age=%lld", e->domain,
	    sts_mode_name(p.mode), e->id, p.n_mx, (long long)p.max_age);
	sts_store_put(e);
	look_ends(e);
}

/* -- the web server -------------------------------------------------------- */

static void
look_fetched(enum sts_fetched what, struct view text, const char *why,
    void *arg)
{
	struct sts_entry *e = arg;

	e->fetch = NULL;
	if (what == FETCHED_TEXT)
		look_policy(e, text);
	else
		look_failed(e, what == FETCHED_CERTIFICATE ?
		    STS_WEBPKI_INVALID : STS_FETCH_ERROR, why);
}

static void
queue_run(void)
{
	char host[STS_DOMAIN_MAX + 10];
	struct sts_entry *e;
	struct buf b;

	while (n_fetching < FETCHES_MAX && (e = TAILQ_FIRST(&queue)) != NULL) {
		TAILQ_REMOVE(&queue, e, queue);
		e->stage = STS_FETCHING;
		n_fetching++;
		buf_init(&b, sizeof host);
		(void)buf_printf(&b, "mta-sts.%s", e->domain);
		e->fetch = sts_fetch_begin(buf_cstr(&b), e->addr, e->n_addr,
		    NULL, look_fetched, e);
		buf_free(&b);
	}
}

static void
look_address(const struct fact *f, void *arg)
{
	struct sts_entry *e = arg;
	struct netaddr a;
	bool inside = false;
	uint32_t i;

	e->question = NULL;
	e->n_addr = 0;
	for (i = 0; i < f->n && e->n_addr < STS_FETCH_ADDRESSES; i++) {
		if (!netaddr_from_bytes(f->record[i], &a))
			continue;
		if (sts_fetch_may(&a))
			e->addr[e->n_addr++] = a;
		else
			inside = true;
	}
	if (e->n_addr == 0) {
		look_failed(e, STS_FETCH_ERROR, inside ?
		    "its web server has a private address" :
		    f->status == FACT_TEMPORARY || f->status == FACT_BOGUS ?
		    "the address of its web server cannot be found now" :
		    "its web server has no address");
		return;
	}
	e->stage = STS_QUEUED;
	TAILQ_INSERT_TAIL(&queue, e, queue);
	queue_run();
}

static void
look_at_web_server(struct sts_entry *e, struct view id)
{
	char *host = mem_printf("mta-sts.%s", e->domain);

	/* It may be e->id. */
	memmove(e->new_id, id.p, id.n);
	e->new_id[id.n] = '\0';
	e->stage = STS_ADDRESS;
	e->question = sts_dns_ask(FACT_HOST, host, look_address, e);
	free(host);
}

/* -- the record ------------------------------------------------------------ */

/* Of all texts one must be it (RFC 8461 section 3.1). */
static enum sts_record
record_find(const struct fact *f, struct view *ret_id)
{
	enum sts_record found = STS_RECORD_OTHER, one;
	uint32_t i;

	for (i = 0; i < f->n; i++) {
		one = sts_record_read(f->record[i], ret_id);
		if (one != STS_RECORD_OTHER)
			found = found == STS_RECORD_OTHER ? one :
			    STS_RECORD_BAD;
	}
	return found;
}

static bool
refresh_due(const struct sts_entry *e, int64_t now)
{
	int64_t age = seconds(conf->smtp_tls_sts_refresh_time);
	int64_t half = (e->expires - e->fetched) / 2;

	return now - e->fetched >= (age < half ? age : half) ||
	    e->fetched > now;
}

static void
look_record(const struct fact *f, void *arg)
{
	struct sts_entry *e = arg;
	struct view id = { NULL, 0 };
	enum sts_record r = f->status == FACT_FOUND ? record_find(f, &id) :
	    STS_RECORD_OTHER;
	int64_t now = now_s(), check = seconds(conf->smtp_tls_sts_check_time);
	bool valid = sts_cache_valid(e, now);
	bool wait = now < e->retry_at && !e->forced;

	e->question = NULL;
	if (r == STS_RECORD_GOOD) {
		if (valid && view_is(id, e->id) && !e->forced &&
		    !refresh_due(e, now)) {
			look_nothing(e, NULL, check);
		} else if (wait && view_is(id, e->failed_id)) {
			/* As it was: too soon to try again. */
			e->next_check = now + check;
			look_ends(e);
		} else {
			look_at_web_server(e, id);
		}
		return;
	}
	/* Who can hide a record shall not make a policy expire (10.2). */
	if (valid && refresh_due(e, now) && !wait) {
		look_at_web_server(e, view_of(e->id));
		return;
	}
	if (f->status == FACT_TEMPORARY || f->status == FACT_BOGUS)
		look_nothing(e, f->status == FACT_BOGUS ?
		    "its record in the DNS is not authentic" :
		    "its record in the DNS cannot be found now", DNS_RETRY);
	else
		look_nothing(e, r == STS_RECORD_BAD ?
		    "its record in the DNS is not valid, or there are several" :
		    "no record in the DNS", check);
}

static void
look_on_limit(evutil_socket_t fd, short what, void *arg)
{
	struct sts_entry *e = arg;

	(void)fd;
	(void)what;
	if (e->stage == STS_RECORD)
		look_nothing(e, "its record in the DNS was not found in time",
		    DNS_RETRY);
	else
		look_failed(e, STS_FETCH_ERROR, e->stage == STS_QUEUED ?
		    "not in time: too many web servers are asked" :
		    e->stage == STS_FETCHING ?
		    "its web server has not answered in time" :
		    "the address of its web server was not found in time");
}

static void
look_on_patience(evutil_socket_t fd, short what, void *arg)
{
	struct sts_entry *e = arg;

	(void)fd;
	(void)what;
	e->overdue = true;
	answer_all(e);
}

static void
look_begin(struct sts_entry *e)
{
	char *name = mem_printf("_mta-sts.%s", e->domain);

	if (e->policy != NULL && !sts_cache_valid(e, now_s())) {
		sts_cache_policy(e, NULL);
		sts_store_drop(e->domain);
		e->answer = STS_NO_POLICY;
	}
	counts.looked++;
	counts.open++;
	e->overdue = false;
	e->stage = STS_RECORD;
	evtimer_assign(&e->limit, loop_base(), look_on_limit, e);
	event_add(&e->limit, loop_timeout(conf->smtp_tls_sts_timeout));
	evtimer_assign(&e->patience, loop_base(), look_on_patience, e);
	if (e->policy != NULL && !e->forced)
		event_add(&e->patience, loop_timeout(PATIENCE_MS));
	e->question = sts_dns_ask(FACT_TXT, name, look_record, e);
	free(name);
}

/* -- questions ------------------------------------------------------------- */

static bool
entry_fresh(const struct sts_entry *e, int64_t now)
{
	/* Far ahead: the clock was set back. */
	return now < e->next_check && e->next_check - now <= RETRY_MAX &&
	    (e->policy == NULL || now < e->expires);
}

static bool
domain_name(struct view domain, char ret[STS_DOMAIN_MAX])
{
	if (domain.n > 0 && domain.p[domain.n - 1] == '.')
		domain.n--;
	return idn_to_ascii(domain, ret, STS_DOMAIN_LONGEST) &&
	    address_valid_hostname(view_of(ret));
}

static void
ask_refused(struct chan *chan, uint32_t tag, const char *why)
{
	if (chan == NULL)
		role_answer(tag, why, view_make(NULL, 0));
	else
		answer_send(chan, tag, NULL, why);
}

void
sts_domain_ask(struct chan *chan, uint32_t tag, struct view domain,
    bool forced)
{
	struct sts_waiter now_waiting = { .chan = chan, .tag = tag }, *w;
	char name[STS_DOMAIN_MAX];
	int64_t now = now_s();
	struct sts_entry *e;

	counts.asked++;
	if (!domain_name(domain, name)) {
		ask_refused(chan, tag, "no name of a domain");
		return;
	}
	e = sts_cache_find(view_of(name));
	if (e == NULL)
		e = sts_cache_make(view_of(name));
	if (e == NULL || n_waiters == WAITERS_MAX) {
		ask_refused(chan, tag, "too many at once");
		return;
	}
	sts_cache_touch(e, now);
	if (!forced && (e->stage == STS_IDLE ? entry_fresh(e, now) :
	    e->overdue && sts_cache_valid(e, now))) {
		answer_waiter(e, &now_waiting);
		return;
	}
	w = mem_alloc(sizeof *w);
	*w = now_waiting;
	TAILQ_INSERT_TAIL(&e->waiters, w, link);
	n_waiters++;
	if (e->stage == STS_IDLE) {
		e->forced = forced;
		look_begin(e);
	}
}

static void
entry_forget(struct sts_entry *e, void *arg)
{
	struct sts_waiter *w, *next;

	for (w = TAILQ_FIRST(&e->waiters); w != NULL; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->chan != arg)
			continue;
		TAILQ_REMOVE(&e->waiters, w, link);
		n_waiters--;
		free(w);
	}
}

void
sts_domain_forget(struct chan *chan)
{
	/* The look goes on: its result is worth keeping. */
	sts_cache_each(entry_forget, chan);
}

/* -- care ------------------------------------------------------------------ */

static void
entry_care(struct sts_entry *e, void *arg)
{
	unsigned *begun = arg;
	int64_t now = now_s();

	if (e->stage != STS_IDLE || e->policy == NULL)
		return;
	if (!sts_cache_valid(e, now)) {
		sts_cache_policy(e, NULL);
		sts_store_drop(e->domain);
		e->answer = STS_NO_POLICY;
	} else if (*begun < SWEEP_BEGINS && refresh_due(e, now) &&
	    now >= e->retry_at && now - e->used < UNUSED_MAX) {
		++*begun;
		look_begin(e);
	}
}

static void
sweep(evutil_socket_t fd, short what, void *arg)
{
	unsigned begun = 0;

	(void)fd;
	(void)what;
	(void)arg;
	sts_cache_each(entry_care, &begun);
}

void
sts_domain_load(const struct conf *cf)
{
	conf = cf;
}

void
sts_domain_start(void)
{
	int64_t ms = conf->smtp_tls_sts_refresh_time / 4;
	struct timeval tv;

	ms = ms < SWEEP_MS_MAX ? ms : SWEEP_MS_MAX;
	tv = (struct timeval){ ms / 1000, ms % 1000 * 1000 };
	event_assign(&sweep_timer, loop_base(), -1, EV_PERSIST, sweep, NULL);
	event_add(&sweep_timer, &tv);
}

const struct sts_counts *
sts_domain_counts(void)
{
	return &counts;
}
