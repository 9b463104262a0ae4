/* link: proxy/tlsrpt_send.c proxy/tlsrpt_store.c */
/*
 * TLS reports by the day: a clock of our own, a file, and a DNS, a web and a
 * queue that are this test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/sts_dns.h"
#include "proxy/sts_fetch.h"
#include "proxy/tlsrpt_mail.h"
#include "proxy/tlsrpt_send.h"

#define DAY	TLSRPT_DAY
#define FIRST	(INT64_C(20000) * DAY)
#define OPEN	100u

static int64_t now = FIRST + DAY / 2;

struct mono
clock_mono(void)
{
	return (struct mono){ now * 1000000 };
}

struct wall
clock_wall(void)
{
	return (struct wall){ now * 1000000 };
}

/* -- who is asked ---------------------------------------------------------- */

struct sts_question {
	char name[300];
	sts_dns_done *done;
	void *arg;
};
static struct sts_question *open_questions[OPEN];
static size_t n_open, n_mails;

struct sts_question *
sts_dns_ask(enum fact_dns type, const char *name, sts_dns_done *done,
    void *arg)
{
	struct sts_question *q = mem_alloc(sizeof *q);

	assert_int_equal(type, FACT_TXT);
	assert_true(n_open < OPEN);
	(void)snprintf(q->name, sizeof q->name, "%s", name);
	q->done = done;
	q->arg = arg;
	open_questions[n_open++] = q;
	return q;
}

void
sts_dns_cancel(struct sts_question **q)
{
	size_t i;

	for (i = 0; i < n_open; i++)
		if (open_questions[i] == *q) {
			open_questions[i] = open_questions[--n_open];
			free(*q);
			break;
		}
	*q = NULL;
}

/* All that wait. */
static void
answer(enum fact_status status, const char *text)
{
	struct fact f = { .status = status, .n = text != NULL,
		.record = { view_of(text) } };
	struct sts_question *q;

	while (n_open > 0) {
		q = open_questions[--n_open];
		q->done(&f, q->arg);
		free(q);
	}
}

bool
sts_fetch_may(const struct netaddr *addr)
{
	(void)addr;
	return false;
}

struct sts_fetch *
sts_fetch_begin(const char *host, const struct netaddr *addr, size_t n,
    const struct sts_post *post, sts_fetch_done *done, void *arg)
{
	(void)host;
	(void)addr;
	(void)n;
	(void)post;
	(void)done;
	(void)arg;
	fail();
	return NULL;
}

void
sts_fetch_cancel(struct sts_fetch **f)
{
	*f = NULL;
}

struct tlsrpt_mail {
	tlsrpt_mail_done *done;
	void *arg;
};
static struct tlsrpt_mail *mail;
static char mail_file[1000];

struct tlsrpt_mail *
tlsrpt_mail_send(struct view text, const struct view *to, size_t n_to,
    tlsrpt_mail_done *done, void *arg)
{
	struct tlsrpt_mail *m = mem_alloc(sizeof *m);
	char *copy = mem_copy(text), *at = strstr(copy, "filename=\"");

	assert_int_equal(n_to, 1);
	assert_true(view_is(to[0], "r@reports.example"));
	assert_non_null(at);
	at += strlen("filename=\"");
	*strchr(at, '"') = '\0';
	(void)snprintf(mail_file, sizeof mail_file, "%s", at);
	free(copy);
	*m = (struct tlsrpt_mail){ done, arg };
	mail = m;
	n_mails++;
	return m;
}

void
tlsrpt_mail_cancel(struct tlsrpt_mail **m)
{
	if (*m == mail)
		mail = NULL;
	free(*m);
	*m = NULL;
}

static void
mail_taken(bool ok)
{
	struct tlsrpt_mail *m = mail;

	assert_non_null(m);
	mail = NULL;
	m->done(ok, "said so", m->arg);
	free(m);
}

/* -- help ------------------------------------------------------------------ */

static void
met(const char *domain)
{
	struct tlsrpt_event e = { .domain = view_of(domain),
		.type = TLSRPT_NO_POLICY, .result = TLSRPT_SUCCESS };

	tlsrpt_store_add(&e);
}

/* A minute; all that is due has begun, as far as there is room. */
static void
minute(void)
{
	unsigned i;

	now += 60;
	for (i = 0; i < 60; i++)
		tlsrpt_send_tick();
}

static size_t n_records;

static void
count_one(const struct tlsrpt_key *k, struct view value, void *arg)
{
	(void)k;
	(void)value;
	(void)arg;
	n_records++;
}

static size_t
records(void)
{
	n_records = 0;
	tlsrpt_store_each(count_one, NULL);
	return n_records;
}

static int64_t
until_midnight(void)
{
	return DAY - now % DAY;
}

/* -- tests ----------------------------------------------------------------- */

/* Nothing on its own day; then each at a moment of its own. */
static void
test_day(void **state)
{
	char domain[40];
	size_t at_once, asked = 0;
	unsigned i;

	(void)state;
	for (i = 0; i < 15; i++) {
		(void)snprintf(domain, sizeof domain, "d%u.example", i);
		met(domain);
	}
	for (i = 0; i < 5; i++)
		minute();
	assert_int_equal(n_open, 0);
	assert_int_equal(records(), 15);
	now += until_midnight() - 120;
	minute();
	assert_int_equal(n_open, 0);
	minute();
	minute();
	at_once = n_open;
	assert_true(at_once < 15);
	assert_int_equal(tlsrpt_send_counts()->waiting, 15);
	for (i = 0; i < 4 * 60 + 2; i++) {
		asked += n_open;
		answer(FACT_NO_NAME, NULL);
		minute();
	}
	asked += n_open;
	answer(FACT_NO_NAME, NULL);
	assert_int_equal(asked, 15);
	assert_int_equal(tlsrpt_send_counts()->unwanted, 15);
	assert_int_equal(records(), 0);
}

/* The report is about the whole day, whenever it is sent. */
static void
test_range(void **state)
{
	char name[200];
	int64_t begin = now - now % DAY;

	(void)state;
	met("range.example");
	minute();
	now += until_midnight();
	met("range.example");
	while (n_open == 0)
		minute();
	assert_string_equal(open_questions[0]->name,
	    "_smtp._tls.range.example");
	answer(FACT_FOUND, "v=TLSRPTv1; rua=mailto:r@reports.example");
	(void)snprintf(name, sizeof name,
	    "gw.example!range.example!%lld!%lld.json.gz", (long long)begin,
	    (long long)(begin + DAY - 1));
	assert_string_equal(mail_file, name);
	mail_taken(true);
	/* What was met on the next day is still there. */
	assert_int_equal(records(), 1);
	assert_int_equal(tlsrpt_send_counts()->sent, 1);
	assert_int_equal(tlsrpt_send_counts()->waiting, 0);
	now += until_midnight();
	while (n_open == 0)
		minute();
	answer(FACT_NO_NAME, NULL);
	assert_int_equal(records(), 0);
}

/* It is tried again and again, less and less, and then no more. */
static void
test_give_up(void **state)
{
	int64_t end = now - now % DAY + DAY - 1, last = 0, gap = 0;
	size_t tries = 0, mails = n_mails;
	bool mailed;

	(void)state;
	met("gone.example");
	minute();
	now += until_midnight();
	while (tlsrpt_send_counts()->given_up == 0) {
		minute();
		assert_true(now < end + 3 * DAY);
		if (n_open == 0)
			continue;
		mailed = tries++ % 2 == 0;
		/* Never sooner than the last time. */
		assert_true(last == 0 || now - last >= gap);
		gap = last != 0 ? now - last - 60 : 0;
		last = now;
		if (mailed) {
			answer(FACT_FOUND,
			    "v=TLSRPTv1; rua=mailto:r@reports.example");
			mail_taken(false);
		} else {
			answer(FACT_TEMPORARY, NULL);
		}
	}
	assert_true(now > end + DAY && now < end + DAY + 6 * 3600);
	assert_true(tries > 10 && tries < 25);
	assert_true(n_mails > mails);
	assert_int_equal(records(), 0);
	assert_int_equal(tlsrpt_send_counts()->waiting, 0);
}

/* The clock is set back, and forward by years: nothing is lost or looped. */
static void
test_clock(void **state)
{
	(void)state;
	met("clock.example");
	minute();
	now -= 3 * DAY;
	met("clock.example");
	minute();
	assert_int_equal(records(), 2);
	now += 1000 * DAY;
	minute();
	minute();
	minute();
	assert_int_equal(n_open, 2);
	answer(FACT_TEMPORARY, NULL);
	assert_int_equal(records(), 0);
	assert_int_equal(tlsrpt_send_counts()->waiting, 0);
}

/* The end of a process: what is under way is there for the next. */
static void
test_stop(void **state)
{
	(void)state;
	met("stop.example");
	assert_int_equal(tlsrpt_send_now(view_of("stop.example")), 1);
	assert_int_equal(n_open, 1);
	tlsrpt_send_stop();
	assert_int_equal(n_open, 0);
	minute();
	assert_int_equal(n_open, 0);
	assert_int_equal(tlsrpt_send_now(view_of("")), 0);
	/* Closed; and an empty one for what comes on the rest of the day. */
	assert_int_equal(records(), 2);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_day),
		cmocka_unit_test(test_range),
		cmocka_unit_test(test_give_up),
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_stop),
	};
	char dir[] = "/tmp/postern-tlsrpt-XXXXXX", text[300], path[100];
	static const char *const ends[] = { "", "-lock" };
	struct conf *cf;
	size_t i;
	int rc;

	log_to(LOG_SINK_FILE, -1, 0);
	if (mkdtemp(dir) == NULL)
		return 1;
	(void)snprintf(text, sizeof text, "myhostname = gw.example\n"
	    "mynetworks =\nsmtp_tlsrpt_sender = t@gw.example\n"
	    "smtp_tlsrpt_map = lmdb:%s/t\n", dir);
	cf = conf_parse(view_of(text), "main.cf", NULL, NULL);
	if (cf == NULL)
		return 1;
	tlsrpt_send_load(cf);
	tlsrpt_store_load(cf);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	for (i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof path, "%s/t.lmdb%s", dir, ends[i]);
		(void)unlink(path);
	}
	(void)rmdir(dir);
	conf_free(&cf);
	return rc;
}
