/*
 * What `postern sts` shows and does.
 */
#include <stdlib.h>
#include <time.h>

#include "lib/mem.h"
#include "proxy/sts_domain.h"
#include "proxy/sts_store.h"

#define LINES_MAX	(900u << 10)	/* of a list; master takes a MB */

static void
put_time(struct buf *b, const char *name, int64_t s)
{
	time_t t = (time_t)s;
	struct tm tm;
	char text[40];

	if (gmtime_r(&t, &tm) != NULL &&
	    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm) > 0)
		(void)buf_printf(b, "%s%s", name, text);
}

static const char *
answer_text(enum sts_answer a)
{
	switch (a) {
	case STS_FETCH_ERROR:
		return "cannot be fetched";
	case STS_POLICY_INVALID:
		return "not valid";
	case STS_WEBPKI_INVALID:
		return "certificate not valid";
	case STS_NO_POLICY:
	case STS_POLICY:
	case STS_ANSWERS:
		break;
	}
	return "none";
}

void
sts_order_describe(const struct sts_entry *e, struct buf *b)
{
	int64_t now = clock_wall().us / 1000000;
	bool valid = sts_cache_valid(e, now);

	(void)buf_printf(b, "domain: %s\npolicy: %s\n", e->domain,
	    valid ? sts_mode_name(e->mode) : answer_text(e->answer));
	if (valid) {
		(void)buf_printf(b, "id: %s\n", e->id);
		put_time(b, "fetched: ", e->fetched);
		put_time(b, "\nexpires: ", e->expires);
		(void)buf_puts(b, "\n");
	}
	if (e->why != NULL)
		(void)buf_printf(b, "problem: %s\n", e->why);
	if (valid)
		(void)buf_printf(b, "\n%s", e->policy);
}

struct listing {
	struct buf lines;
	int64_t now;
	bool valid;		/* those with a policy; else the others */
	size_t cut;
};

static void
list_one(struct sts_entry *e, void *arg)
{
	struct listing *l = arg;
	bool valid = sts_cache_valid(e, l->now);
	struct buf *b = &l->lines;

	if (valid != l->valid || (!valid && e->answer == STS_NO_POLICY))
		return;
	if (b->n + 1000 > b->max) {
		l->cut++;
		return;
	}
	(void)buf_printf(b, "%s %s", e->domain, valid ?
	    sts_mode_name(e->mode) : "-");
	if (valid) {
		(void)buf_printf(b, " id=%s", e->id);
		put_time(b, " fetched=", e->fetched);
		put_time(b, " expires=", e->expires);
	}
	if (e->why != NULL)
		(void)buf_printf(b, " (%s)", e->why);
	(void)buf_puts(b, "\n");
}

static void
order_list(uint32_t tag)
{
	struct listing l = { .now = clock_wall().us / 1000000,
		.valid = true };

	buf_init(&l.lines, LINES_MAX);
	sts_cache_each(list_one, &l);
	l.valid = false;
	sts_cache_each(list_one, &l);
	if (l.cut > 0)
		(void)buf_printf(&l.lines, "... and %zu more\n", l.cut);
	role_answer(tag, NULL, buf_view(&l.lines));
	buf_free(&l.lines);
}

struct flushing {
	struct view domain;	/* empty: all */
	size_t n;
};

static void
flush_one(struct sts_entry *e, void *arg)
{
	struct flushing *f = arg;

	if (f->domain.n > 0 && !view_is_nocase(f->domain, e->domain))
		return;
	f->n++;
	if (e->policy != NULL) {
		sts_cache_policy(e, NULL);
		sts_store_drop(e->domain);
	}
	/* One that is being looked at waits for nothing but news. */
	if (e->stage == STS_IDLE)
		sts_cache_remove(e);
}

static void
order_flush(uint32_t tag, struct view domain)
{
	struct flushing f = { .domain = domain };
	struct buf b;

	sts_cache_each(flush_one, &f);
	sts_store_flush();
	buf_init(&b, 100);
	(void)buf_printf(&b, "%zu forgotten\n", f.n);
	role_answer(tag, NULL, buf_view(&b));
	buf_free(&b);
}

void
sts_order(uint32_t tag, struct view words)
{
	struct view rest = words, verb = view_word(&rest, " ");

	rest = view_trim(rest);
	if (view_is(verb, "list") && rest.n == 0)
		order_list(tag);
	else if (view_is(verb, "query") && rest.n > 0)
		sts_domain_ask(NULL, tag, rest, false);
	else if (view_is(verb, "refresh") && rest.n > 0)
		sts_domain_ask(NULL, tag, rest, true);
	else if (view_is(verb, "flush"))
		order_flush(tag, rest);
	else
		role_answer(tag, "unknown command",
		    view_make(NULL, 0));
}
