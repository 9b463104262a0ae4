/*
 * postern test: what the rules say to a stranger and to attachments that are
 * refused as a rule.  By a trial: nothing of it gets into the queue.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lib/mem.h"
#include "proxy/postern_test.h"
#include "proxy/postern_trial.h"

#define TEXT_MAX	65536u

struct rules_seen {
	enum action action;
	bool judged;
	char where[300];
};

static void
seen_line(enum role_kind role, struct view text, void *arg)
{
	(void)role;
	(void)text;
	(void)arg;
}

static void
seen_fact(struct view text, void *arg)
{
	(void)text;
	(void)arg;
}

static void
seen_talk(const char *who, struct view text, void *arg)
{
	(void)who;
	(void)text;
	(void)arg;
}

static void
seen_delivery(struct view transport, struct view text, void *arg)
{
	(void)transport;
	(void)text;
	(void)arg;
}

static void
seen_judged(const struct judgement *j, const struct envelope *e, void *arg)
{
	struct rules_seen *seen = arg;

	(void)e;
	seen->judged = true;
	seen->action = j->verdict.action;
	snprintf(seen->where, sizeof seen->where, "%s",
	    log_safe(view_head(j->verdict.where, 290)));
}

/* The reply; "" after a breakdown. */
static const char *
rules_ask(struct trial *t, const char *client, const char *from,
    const char *to, const char *text)
{
	struct view rcpt = view_of(to);
	struct trial_message m = { .helo = "postern-test.example",
		.from = view_of(from), .to = &rcpt, .n_to = 1 };
	const char *reply = NULL;
	struct buf b;

	buf_init(&b, TEXT_MAX);
	if (netaddr_parse(view_of(client), &m.client)) {
		if (text != NULL) {
			trial_text(view_of(text), &b);
			m.has_text = true;
			m.text = buf_view(&b);
		}
		reply = trial_run(t, &m);
	}
	buf_free(&b);
	return reply != NULL ? reply : "";
}

static void
rules_relay(struct selftest *s, struct trial *t)
{
	const char *const senders[] = { "", s->postmaster };
	unsigned refused = 0;
	const char *reply;
	size_t i;

	for (i = 0; i < 2; i++) {
		reply = rules_ask(t, s->outside, senders[i], s->stranger,
		    NULL);
		printf("    %s, from <%s> to <%s>: %s\n", s->outside,
		    senders[i], s->stranger, log_safe(view_of(reply)));
		if (reply[0] == '2')
			selftest_mark(s, MARK_FAILED, selftest_place(s, s->cf,
			    "smtpd_relay_restrictions"), "AN OPEN RELAY: %s "
			    "may send from <%s> to <%s>", s->outside,
			    senders[i], s->stranger);
		refused += reply[0] == '4' || reply[0] == '5';
	}
	if (refused == 2)
		selftest_mark(s, MARK_OK, NULL, "%s may not send to other "
		    "domains", s->outside);
}

static char *
rules_text(const struct selftest *s, const char *file)
{
	return mem_printf("From: <%s>\nTo: <%s>\nSubject: a test\n"
	    "Message-ID: <%s.rules>\nDate: Mon, 5 Jan 2026 10:00:00 +0000\n"
	    "MIME-Version: 1.0\n"
	    "Content-Type: multipart/mixed; boundary=\"frontier\"\n\n"
	    "--frontier\nContent-Type: text/plain\n\nAn ordinary text.\n"
	    "--frontier\nContent-Type: %s; name=\"%s\"\n"
	    "Content-Disposition: attachment; filename=\"%s\"\n\n"
	    "This is harmless text.\n--frontier--\n", s->stranger,
	    s->postmaster, s->message_id, strstr(file, ".txt") != NULL ?
	    "text/plain" : "application/octet-stream", file, file);
}

/* True: the rules looked at it. */
static bool
rules_file(struct selftest *s, struct trial *t, struct rules_seen *seen,
    const char *file, bool bad)
{
	const char *const clients[] = { s->outside, "127.0.0.1" };
	const char *to = s->to != NULL ? s->to : s->postmaster;
	char *text = rules_text(s, file);
	const char *reply = "";
	bool kept;
	size_t i;

	*seen = (struct rules_seen){ .judged = false };
	for (i = 0; i < 2 && !seen->judged; i++)
		reply = rules_ask(t, clients[i], s->stranger, to, text);
	free(text);
	printf("    %s: %s\n", file, log_safe(view_of(reply)));
	kept = reply[0] != '2' || seen->action == ACTION_DISCARD ||
	    seen->action == ACTION_HOLD || seen->action == ACTION_REDIRECT;
	if (!seen->judged)
		selftest_mark(s, MARK_NOT_DONE, NULL, "%s: no message from "
		    "outside to %s is asked for its text: %s", file, to,
		    log_safe(view_of(reply)));
	else if (bad && kept)
		selftest_mark(s, MARK_OK, NULL, "%s is kept out%s%s", file,
		    seen->where[0] != '\0' ? " by " : "", seen->where);
	else if (bad)
		selftest_mark(s, MARK_FAILED, selftest_place(s, s->cf,
		    "attachment_checks"), "%s gets through", file);
	else if (kept)
		selftest_mark(s, MARK_FAILED, seen->where[0] != '\0' ?
		    seen->where : selftest_place(s, s->cf, "header_checks"),
		    "an ordinary message with %s does not get through: %s",
		    file, log_safe(view_of(reply)));
	else
		selftest_mark(s, MARK_OK, NULL, "an ordinary message gets "
		    "through");
	return seen->judged;
}

void
selftest_rules(struct selftest *s)
{
	struct rules_seen seen = { .judged = false };
	struct trial_options o = { .on_line = seen_line,
		.on_fact = seen_fact, .on_talk = seen_talk,
		.on_delivery = seen_delivery, .on_judged = seen_judged,
		.arg = &seen };
	bool any = s->cf->attachment_checks[0] != '\0' ||
	    s->cf->body_checks[0] != '\0' || s->cf->header_checks[0] != '\0';
	struct trial *t;

	selftest_title("Rules");
	if (!s->owner || s->outside == NULL || s->stranger == NULL) {
		selftest_mark(s, MARK_NOT_DONE, NULL, "%s", s->owner ?
		    "there is nobody outside" :
		    "only the owner of the instance may try them");
		return;
	}
	(void)fflush(stdout);
	table_check_only();
	t = trial_open(s->config_dir, &o);
	if (t == NULL) {
		selftest_mark(s, MARK_FAILED, "`postern check`", "the rules "
		    "cannot be tried");
		return;
	}
	if (!s->count->relay_asked)
		rules_relay(s, t);
	if (!any)
		selftest_mark(s, MARK_NOTE, selftest_place(s, s->cf,
		    "attachment_checks"), "there are no rules for the text "
		    "of messages");
	else if (rules_file(s, t, &seen, "notes.txt", false)) {
		(void)rules_file(s, t, &seen, "invoice.pdf.exe", true);
		(void)rules_file(s, t, &seen, "holiday.jpg.scr", true);
	}
	trial_free(&t);
}
