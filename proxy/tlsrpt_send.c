#include <stdlib.h>
#include <sys/random.h>
#include <xxhash.h>
#include <zlib.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/sts_dns.h"
#include "proxy/sts_fetch.h"
#include "proxy/tlsrpt_mail.h"
#include "proxy/tlsrpt_send.h"
#include "rules/tlsrpt_record.h"

#define OPEN_MAX	20u	/* reports being sent */
#define JOB_MS		120000	/* for one of them */
#define RETRY_S		300	/* doubles */
#define RETRY_MAX	7200
#define GIVE_UP		86400	/* s after the end of the report, and what
				 * smtp_tlsrpt_delay takes */
#define SOON_S		60	/* for those due while we did not run */
#define TICK_MS		1000
#define SWEEP_TICKS	60u
#define SLOTS		1024u
#define TYPE		"application/tlsrpt+gzip"

/* A closed record. */
struct job {
	TAILQ_ENTRY(job) link;
	struct job *hash_next;
	struct tlsrpt_key key;
	int64_t due;		/* s */
	unsigned tries;
	bool running;

	/* While it is */
	struct tlsrpt_report report;
	struct buf gzip;
	char *uri[TLSRPT_URIS_MAX];
	size_t n_uris, next;	/* of HTTPS */
	struct sts_question *question;
	struct sts_fetch *fetch;
	struct tlsrpt_mail *mail;
	struct event limit;
	size_t good, bad;

	/* From try to try: where it has arrived. */
	bool mailed;
	uint32_t posted;	/* 1 << index */
};

static const struct conf *conf;
static TAILQ_HEAD(, job) jobs = TAILQ_HEAD_INITIALIZER(jobs);
static struct job *slots[SLOTS];
static struct event tick_timer;
static unsigned ticks;
static bool stopped;
static const char *organization, *contact, *from, *submitter;
static struct tlsrpt_send_counts counts;

static int64_t
now_s(void)
{
	return clock_wall().us / 1000000;
}

static int64_t
random_below(int64_t n)
{
	uint32_t r = 0;

	(void)!getrandom(&r, sizeof r, 0);
	return n > 0 ? r % n : 0;
}

/* -- jobs ------------------------------------------------------------------ */

static struct job **
job_slot(const struct tlsrpt_key *k)
{
	struct job **p = &slots[XXH3_64bits(k->domain, strlen(k->domain)) %
	    SLOTS];

	while (*p != NULL && ((*p)->key.until != k->until ||
	    strcmp((*p)->key.domain, k->domain) != 0))
		p = &(*p)->hash_next;
	return p;
}

static void
job_add(const struct tlsrpt_key *k)
{
	int64_t delay = conf->smtp_tlsrpt_delay / 1000, now = now_s();
	struct job *j;

	if (*job_slot(k) != NULL)
		return;
	j = mem_alloc(sizeof *j);
	j->key = *k;
	j->due = k->until + 1 + random_below(delay);
	if (j->due < now)
		j->due = now + random_below(delay < SOON_S ? delay : SOON_S);
	buf_init(&j->gzip, TLSRPT_JSON_MAX + 65536);
	*job_slot(k) = j;
	TAILQ_INSERT_TAIL(&jobs, j, link);
	counts.waiting++;
}

/* It is not running any more. */
static void
job_stop(struct job *j)
{
	size_t i;

	if (!j->running)
		return;
	event_del(&j->limit);
	sts_dns_cancel(&j->question);
	sts_fetch_cancel(&j->fetch);
	tlsrpt_mail_cancel(&j->mail);
	for (i = 0; i < j->n_uris; i++)
		free(j->uri[i]);
	j->n_uris = 0;
	buf_free(&j->gzip);
	j->running = false;
	counts.open--;
}

static void
job_free(struct job *j)
{
	struct job **slot = job_slot(&j->key);

	job_stop(j);
	*slot = j->hash_next;
	TAILQ_REMOVE(&jobs, j, link);
	counts.waiting--;
	buf_free(&j->gzip);
	free(j);
}

static void
job_done(struct job *j)
{
	tlsrpt_store_remove(&j->key);
	job_free(j);
}

static void
job_retry(struct job *j, const char *why)
{
	int64_t wait = RETRY_S, now = now_s();
	unsigned i;

	for (i = 0; i < j->tries && wait < RETRY_MAX; i++)
		wait *= 2;
	wait = wait < RETRY_MAX ? wait : RETRY_MAX;
	j->tries++;
	counts.failed++;
	if (now + wait > j->key.until + GIVE_UP +
	    conf->smtp_tlsrpt_delay / 1000) {
		log_warn("TLSRPT: %s: report given up: %s", j->key.domain,
		    why);
		counts.given_up++;
		job_done(j);
		return;
	}
	log_info("TLSRPT: %s: report not sent: %s; again in %llds",
	    j->key.domain, why, (long long)wait);
	job_stop(j);
	j->due = now + wait;
}

static void
job_on_limit(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	job_retry(arg, "not in time");
}

/* -- what became of it ----------------------------------------------------- */

static void job_go_on(struct job *j);

/* One address, or all of mail. */
static void
job_told(struct job *j, bool ok, const char *to, const char *why)
{
	if (ok)
		j->good++;
	else
		j->bad++;
	log_info("TLSRPT: %s: report %s %s (%s)", j->key.domain, ok ?
	    "sent to" : "not sent to", to, why);
	job_go_on(j);
}

static void
job_mailed(bool ok, const char *why, void *arg)
{
	struct job *j = arg;

	j->mail = NULL;
	j->mailed = ok;
	job_told(j, ok, "its addresses", why);
}

static void
job_posted(enum sts_fetched what, struct view text, const char *why,
    void *arg)
{
	struct job *j = arg;
	char *uri = mem_strdup(j->uri[j->next]);

	(void)text;
	j->fetch = NULL;
	if (what == FETCHED_TEXT)
		j->posted |= 1u << j->next;
	j->next++;
	job_told(j, what == FETCHED_TEXT, uri, what == FETCHED_TEXT ? "taken" :
	    why);
	free(uri);
}

/* -- HTTPS ----------------------------------------------------------------- */

static void
post_address(const struct fact *f, void *arg)
{
	struct netaddr a, list[STS_FETCH_ADDRESSES];
	struct job *j = arg;
	struct sts_post post = { .type = TYPE, .body = buf_view(&j->gzip) };
	struct buf host, path;
	size_t n = 0;
	uint32_t i;

	j->question = NULL;
	for (i = 0; i < f->n && n < STS_FETCH_ADDRESSES; i++)
		if (netaddr_from_bytes(f->record[i], &a) &&
		    sts_fetch_may(&a))
			list[n++] = a;
	if (n == 0) {
		job_posted(FETCHED_NOTHING, view_of(""),
		    "its web server has no address that is used", j);
		return;
	}
	buf_init(&host, 2 * TLSRPT_URI_MAX);
	buf_init(&path, 2 * TLSRPT_URI_MAX);
	ensure(tlsrpt_uri_https(view_of(j->uri[j->next]), &host, &path));
	post.path = buf_cstr(&path);
	j->fetch = sts_fetch_begin(buf_cstr(&host), list, n, &post,
	    job_posted, j);
	buf_free(&host);
	buf_free(&path);
}

/* The next address of HTTPS that has not got it; false: none. */
static bool
job_post(struct job *j)
{
	struct buf host, path;
	bool found = false;

	buf_init(&host, 2 * TLSRPT_URI_MAX);
	buf_init(&path, 2 * TLSRPT_URI_MAX);
	for (; j->next < j->n_uris; j->next++) {
		buf_clear(&host);
		if ((j->posted & 1u << j->next) != 0 || !tlsrpt_uri_https(
		    view_of(j->uri[j->next]), &host, &path))
			continue;
		j->question = sts_dns_ask(FACT_HOST, buf_cstr(&host),
		    post_address, j);
		found = true;
		break;
	}
	buf_free(&host);
	buf_free(&path);
	return found;
}

static void
job_go_on(struct job *j)
{
	if (j->mail != NULL || j->question != NULL || j->fetch != NULL)
		return;
	if (job_post(j))
		return;
	if (j->bad > 0) {
		job_retry(j, "not all of its addresses took it");
		return;
	}
	counts.sent++;
	job_done(j);
}

/* -- mail ------------------------------------------------------------------ */

static void
job_mail(struct job *j)
{
	char *to[TLSRPT_TO_MAX];
	struct view list[TLSRPT_TO_MAX];
	size_t i, n = 0;
	struct buf b;

	buf_init(&b, 2 * TLSRPT_URI_MAX);
	for (i = 0; i < j->n_uris && n < TLSRPT_TO_MAX; i++) {
		buf_clear(&b);
		if (!tlsrpt_uri_mail(view_of(j->uri[i]), &b))
			continue;
		to[n] = mem_copy(buf_view(&b));
		list[n] = view_of(to[n]);
		n++;
	}
	buf_free(&b);
	buf_init(&b, TLSRPT_MAIL_MAX);
	if (n > 0 && tlsrpt_report_mail(&j->report, buf_view(&j->gzip), list,
	    n, clock_wall(), &b))
		j->mail = tlsrpt_mail_send(buf_view(&b), list, n, job_mailed,
		    j);
	else if (n > 0)
		j->bad++;
	buf_free(&b);
	for (i = 0; i < n; i++)
		free(to[i]);
}

/* -- what it is ------------------------------------------------------------ */

static bool
job_pack(struct job *j, struct view json)
{
	z_stream z = { .next_in = NULL };
	size_t bound;
	char *to;
	bool ok;

	/* 16: gzip */
	if (deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9,
	    Z_DEFAULT_STRATEGY) != Z_OK)
		return false;
	bound = deflateBound(&z, json.n);
	buf_clear(&j->gzip);
	to = buf_room(&j->gzip, bound);
	if (to != NULL) {
		/* It takes what it does not change as char *. */
		memcpy(&z.next_in, &json.p, sizeof z.next_in);
		z.avail_in = (uInt)json.n;
		z.next_out = (Bytef *)to;
		z.avail_out = (uInt)bound;
	}
	ok = to != NULL && deflate(&z, Z_FINISH) == Z_STREAM_END;
	j->gzip.n = ok ? z.total_out : 0;
	(void)deflateEnd(&z);
	return ok;
}

/* The counts, read again: false, there is no report. */
static bool
job_build(struct job *j)
{
	struct tlsrpt_tally *t = tlsrpt_store_read(&j->key);
	struct buf json;
	bool ok;

	if (t == NULL)
		return false;
	tlsrpt_send_describe(&j->key, t->since, &j->report);
	buf_init(&json, TLSRPT_JSON_MAX);
	ok = tlsrpt_report_json(&j->report, t, &json) &&
	    job_pack(j, buf_view(&json));
	buf_free(&json);
	tlsrpt_tally_free(&t);
	return ok;
}

/* Those that can be used, at most as many as are wanted. */
static void
job_take_uris(struct job *j, const struct tlsrpt_uris *u)
{
	size_t i, most = (size_t)conf->smtp_tlsrpt_address_limit;
	struct buf a, b;

	buf_init(&a, 2 * TLSRPT_URI_MAX);
	buf_init(&b, 2 * TLSRPT_URI_MAX);
	for (i = 0; i < u->n && j->n_uris < most; i++) {
		buf_clear(&a);
		buf_clear(&b);
		if (tlsrpt_uri_mail(u->uri[i], &a) ||
		    tlsrpt_uri_https(u->uri[i], &a, &b))
			j->uri[j->n_uris++] = mem_copy(u->uri[i]);
	}
	buf_free(&a);
	buf_free(&b);
}

/* Of all texts, those of this version; one must be left. */
static enum tlsrpt_record
record_find(const struct fact *f, struct tlsrpt_uris *ret)
{
	enum tlsrpt_record found = TLSRPT_RECORD_OTHER, one;
	struct tlsrpt_uris u;
	uint32_t i;

	for (i = 0; i < f->n; i++) {
		one = tlsrpt_record_read(f->record[i], &u);
		if (one == TLSRPT_RECORD_OTHER)
			continue;
		if (found != TLSRPT_RECORD_OTHER) {
			ret->n = 0;
			return TLSRPT_RECORD_BAD;
		}
		found = one;
		*ret = u;
	}
	return found;
}

static void
job_record(const struct fact *f, void *arg)
{
	struct tlsrpt_uris u = { .n = 0 };
	struct job *j = arg;

	j->question = NULL;
	if (f->status == FACT_TEMPORARY || f->status == FACT_BOGUS) {
		job_retry(j, f->status == FACT_BOGUS ?
		    "its record in the DNS is not authentic" :
		    "its record in the DNS cannot be found now");
		return;
	}
	if (f->status == FACT_FOUND &&
	    record_find(f, &u) == TLSRPT_RECORD_BAD)
		log_info("TLSRPT: %s: its record in the DNS is not valid, or "
		    "there are several", j->key.domain);
	job_take_uris(j, &u);
	if (j->n_uris == 0 || !job_build(j)) {
		counts.unwanted++;
		job_done(j);
		return;
	}
	if (!j->mailed)
		job_mail(j);
	job_go_on(j);
}

static void
job_run(struct job *j)
{
	char *name = mem_printf("_smtp._tls.%s", j->key.domain);

	j->running = true;
	j->next = j->good = j->bad = 0;
	counts.open++;
	evtimer_assign(&j->limit, loop_base(), job_on_limit, j);
	event_add(&j->limit, loop_timeout(JOB_MS));
	j->question = sts_dns_ask(FACT_TXT, name, job_record, j);
	free(name);
}

/* -- what is due ----------------------------------------------------------- */

struct found {
	struct view domain;	/* empty: all */
	int64_t today;
	bool all;		/* open ones of today, too */
	struct tlsrpt_key *list;
	size_t n, room;
};

static void
sweep_one(const struct tlsrpt_key *k, struct view value, void *arg)
{
	struct found *f = arg;

	(void)value;
	if (k->until != 0) {
		job_add(k);
		return;
	}
	if ((k->day >= f->today && !f->all) || (f->domain.n > 0 &&
	    !view_is_nocase(f->domain, k->domain)))
		return;
	if (f->n == f->room) {
		f->room = f->room * 2 + 64;
		f->list = mem_resize(f->list, f->room, sizeof *f->list);
	}
	f->list[f->n++] = *k;
}

/* Close what is over, and find what was closed before. */
static void
sweep(struct view domain, bool all)
{
	int64_t now = now_s(), until;
	struct found f = { .domain = domain, .today = now / TLSRPT_DAY,
		.all = all };
	size_t i;

	tlsrpt_store_flush();
	tlsrpt_store_each(sweep_one, &f);
	for (i = 0; i < f.n; i++) {
		until = (f.list[i].day + 1) * TLSRPT_DAY - 1;
		if (tlsrpt_store_close(&f.list[i], until < now ? until : now))
			job_add(&f.list[i]);
	}
	free(f.list);
}

static void
run_due(void)
{
	int64_t now = now_s();
	struct job *j, *next;

	for (j = TAILQ_FIRST(&jobs); j != NULL && counts.open < OPEN_MAX;
	    j = next) {
		next = TAILQ_NEXT(j, link);
		if (!j->running && j->due <= now)
			job_run(j);
	}
}

void
tlsrpt_send_tick(void)
{
	if (stopped)
		return;
	if (ticks++ % SWEEP_TICKS == 0)
		sweep(view_of(""), false);
	run_due();
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	tlsrpt_send_tick();
}

size_t
tlsrpt_send_now(struct view domain)
{
	struct job *j;
	size_t n = 0;

	if (stopped)
		return 0;
	sweep(domain, true);
	TAILQ_FOREACH(j, &jobs, link) {
		if (domain.n > 0 && !view_is_nocase(domain, j->key.domain))
			continue;
		j->due = 0;
		n++;
	}
	run_due();
	return n;
}

void
tlsrpt_send_describe(const struct tlsrpt_key *k, int64_t since,
    struct tlsrpt_report *ret)
{
	*ret = (struct tlsrpt_report){ .organization = organization,
		.contact = contact, .from = from, .submitter = submitter,
		.domain = view_of(k->domain), .since = since,
		.until = k->until != 0 ? k->until : now_s() };
}

void
tlsrpt_send_load(const struct conf *cf)
{
	conf = cf;
	organization = cf->smtp_tlsrpt_organization;
	contact = cf->smtp_tlsrpt_contact;
	from = cf->smtp_tlsrpt_sender;
	submitter = strrchr(from, '@');
	submitter = submitter != NULL && submitter[1] != '\0' ?
	    submitter + 1 : cf->myhostname;
}

void
tlsrpt_send_start(void)
{
	static const struct timeval tick = { TICK_MS / 1000, 0 };

	event_assign(&tick_timer, loop_base(), -1, EV_PERSIST, on_tick, NULL);
	event_add(&tick_timer, &tick);
}

void
tlsrpt_send_stop(void)
{
	struct job *j;

	stopped = true;
	TAILQ_FOREACH(j, &jobs, link)
		job_stop(j);
}

const struct tlsrpt_send_counts *
tlsrpt_send_counts(void)
{
	return &counts;
}
