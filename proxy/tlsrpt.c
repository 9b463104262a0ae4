/*
 * The tlsrpt role: it counts what came of TLS with the mail servers of other
 * domains, and sends those that want it a report (RFC 8460).  Relays tell it;
 * the DNS it asks by way of lookup; reports go to qmgr as mail, and by HTTPS
 * to web servers that anybody may have.  It sees no mail, has no keys, and no
 * file but the one that keeps its counts.
 */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/sts_dns.h"
#include "proxy/sts_fetch.h"
#include "proxy/tlsrpt_mail.h"
#include "proxy/tlsrpt_send.h"

#define LINES_MAX	(900u << 10)	/* of an answer; master takes a MB */

static size_t n_relays;
static uint64_t n_events;

static void
tlsrpt_look_for_end(void)
{
	if (role_phase() != PHASE_RETIRING)
		return;
	tlsrpt_send_stop();
	if (n_relays > 0)
		return;
	tlsrpt_store_flush();
	role_exit();
}

static void
relay_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct tlsrpt_event e;

	(void)arg;
	if (!tlsrpt_event_get(&m->body, &e)) {
		chan_blame(c, "a TLS result that is none");
		return;
	}
	n_events++;
	tlsrpt_store_add(&e);
}

static void
relay_on_close(struct chan *c, void *arg)
{
	(void)arg;
	chan_free(&c);
	n_relays--;
	tlsrpt_look_for_end();
}

static void
tlsrpt_peer(const struct role_peer *peer, int fd)
{
	switch ((int)peer->kind) {
	case ROLE_LOOKUP:
		sts_dns_peer(ROLE_TLSRPT, peer, fd);
		break;
	case ROLE_QMGR:
		tlsrpt_mail_peer(peer, fd);
		break;
	case ROLE_RELAY:
		(void)chan_new(fd, ROLE_TLSRPT, ROLE_RELAY, peer->pid,
		    relay_on_msg, relay_on_close, NULL);
		n_relays++;
		break;
	default:
		close(fd);
		break;
	}
}

/* -- postern tlsrpt -------------------------------------------------------- */

struct listing {
	struct buf lines;
	struct view domain;	/* empty: a line for each; else its report */
	size_t cut, found;
};

static void
put_day(struct buf *b, int64_t s)
{
	time_t t = (time_t)s;
	struct tm tm;
	char text[40];

	if (gmtime_r(&t, &tm) != NULL &&
	    strftime(text, sizeof text, "%Y-%m-%d", &tm) > 0)
		(void)buf_puts(b, text);
}

static void
list_one(const struct tlsrpt_key *k, struct view value, void *arg)
{
	struct tlsrpt_tally *t = tlsrpt_tally_get(value);
	struct tlsrpt_report r;
	struct listing *l = arg;
	size_t before = l->lines.n;
	uint64_t good, bad;

	if (t == NULL || t->n_policies == 0) {
		tlsrpt_tally_free(&t);
		return;
	}
	if (l->domain.n > 0 && view_is_nocase(l->domain, k->domain)) {
		tlsrpt_send_describe(k, t->since, &r);
		l->found++;
		/* One that does not fit is not shown by halves. */
		if (!tlsrpt_report_json(&r, t, &l->lines)) {
			l->lines.n = before;
			(void)buf_puts(&l->lines,
			    "(a report that is too large to be shown)\n");
		}
	} else if (l->domain.n == 0 && l->lines.n + 1000 > l->lines.max) {
		l->cut++;
	} else if (l->domain.n == 0) {
		tlsrpt_tally_sums(t, &good, &bad);
		put_day(&l->lines, k->day * TLSRPT_DAY);
		(void)buf_printf(&l->lines, " %s succeeded=%llu failed=%llu"
		    "%s\n", k->domain, (unsigned long long)good,
		    (unsigned long long)bad, k->until != 0 ? " (to be sent)" :
		    "");
	}
	tlsrpt_tally_free(&t);
}

static void
order_list(uint32_t tag, struct view domain)
{
	struct listing l = { .domain = domain };

	tlsrpt_store_flush();
	buf_init(&l.lines, LINES_MAX);
	tlsrpt_store_each(list_one, &l);
	if (l.cut > 0)
		(void)buf_printf(&l.lines, "... and %zu more\n", l.cut);
	role_answer(tag, domain.n > 0 && l.found == 0 ?
	    "nothing was counted for it" : NULL, buf_view(&l.lines));
	buf_free(&l.lines);
}

static void
tlsrpt_control(struct chan_in *m)
{
	uint32_t tag;
	struct view words, verb;
	struct buf b;

	if (m->type != MSG_ORDER)
		return;
	tag = cursor_u32(&m->body);
	words = cursor_view(&m->body);
	if (!chan_check(role_control(), m))
		return;
	verb = view_word(&words, " ");
	words = view_trim(words);
	if (view_is(verb, "list") && words.n == 0) {
		order_list(tag, words);
	} else if (view_is(verb, "show") && words.n > 0) {
		order_list(tag, words);
	} else if (view_is(verb, "send")) {
		buf_init(&b, 100);
		(void)buf_printf(&b, "%zu reports are being sent\n",
		    tlsrpt_send_now(words));
		role_answer(tag, NULL, buf_view(&b));
		buf_free(&b);
	} else {
		role_answer(tag, "unknown command", view_of(""));
	}
}

/* -- the role -------------------------------------------------------------- */

static void
tlsrpt_load(void)
{
	const struct conf *cf = role_conf();

	sts_fetch_load(cf);
	tlsrpt_send_load(cf);
	tlsrpt_store_load(cf);
}

static void
tlsrpt_status(struct buf *b)
{
	const struct tlsrpt_send_counts *n = tlsrpt_send_counts();

	(void)buf_printf(b, "results %llu\ndropped %llu\nsent %llu\n"
	    "unwanted %llu\nfailed %llu\ngiven_up %llu\nwaiting %zu\n",
	    (unsigned long long)n_events,
	    (unsigned long long)tlsrpt_store_dropped(),
	    (unsigned long long)n->sent, (unsigned long long)n->unwanted,
	    (unsigned long long)n->failed, (unsigned long long)n->given_up,
	    n->waiting);
}

int
main(int argc, char **argv)
{
	static const struct role_def def = {
		.kind = ROLE_TLSRPT,
		.jail = { .allow = JAIL_CONNECT | JAIL_SYNC,
			.max_files = 1024 },
		.load = tlsrpt_load,
		.start = tlsrpt_send_start,
		.peer = tlsrpt_peer,
		.retire = tlsrpt_look_for_end,
		.control = tlsrpt_control,
		.status = tlsrpt_status,
	};

	return role_main(&def, argc, argv);
}
