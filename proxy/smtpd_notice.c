/*
 * What the postmaster wants to hear of sessions (notify_classes).  A refusal
 * belongs to a class by its reply; at the end of a session with one that is
 * asked for, a mail tells what was said.
 *
 * A client can cause as many of these as it has sessions, so their number has
 * a limit.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd.h"

#define TALK_MAX	8192u	/* bytes of a conversation kept */
#define LINE_SHOWN	500u	/* of a line */
#define NOTICES_MAX	20u	/* in a minute */
#define MINUTE_US	60000000

/* Memory for what is said is spent only where clients' mistakes count; what
 * goes wrong here is in the log. */
static bool
notice_listens(const struct session *s)
{
	return (s->server->notify & (TELL_POLICY | TELL_PROTOCOL)) != 0;
}

void
notice_said(struct session *s, const char *who, struct view text)
{
	struct view line;
	size_t n;

	if (!notice_listens(s))
		return;
	while (text.n > 0) {
		n = view_find(text, '\n');
		line = view_trim(view_head(text, n));
		text = view_from(text, n + 1);
		/* The latest is what matters. */
		while (s->talk.n > TALK_MAX - LINE_SHOWN - 16)
			buf_consume(&s->talk, view_find(buf_view(&s->talk),
			    '\n') + 1);
		s->talk.max = TALK_MAX;
		(void)buf_printf(&s->talk, "%s: %s\r\n", who,
		    log_safe(view_head(line, LINE_SHOWN)));
	}
}

/* "550 5.7.1 no" */
static uint8_t
reply_class(struct view reply)
{
	struct view rest = reply, code = view_word(&rest, " -");
	struct view status = view_word(&rest, " ");
	char subject = status.n >= 5 && status.p[1] == '.' ? status.p[2] : 0;
	char detail = subject != 0 && status.p[3] == '.' ? status.p[4] : 0;

	if (subject == '7' || (subject == '5' && detail == '3'))
		return TELL_POLICY;
	if (subject == '3')
		return detail == '4' ? TELL_POLICY :
		    detail == '5' ? TELL_SOFTWARE : TELL_RESOURCE;
	if (subject == '5' || view_starts_nocase(code, "50"))
		return TELL_PROTOCOL;
	return 0;
}

void
notice_policy(struct session *s)
{
	s->noted |= TELL_POLICY;
	s->note_known = true;
}

void
notice_refused(struct session *s, struct view reply)
{
	if (!s->note_known)
		s->noted |= reply_class(reply);
	s->note_known = false;
}

static void
notice_text(const struct session *s, uint8_t which, const char *to,
    struct buf *b)
{
	const struct conf *cf = s->server->cf;

	(void)buf_printf(b, "Received: by %s (%s); %s\r\n", cf->myhostname,
	    cf->mail_name, received_date());
	(void)buf_printf(b, "Date: %s\r\n", received_date());
	(void)buf_printf(b, "From: MAILER-DAEMON@%s (Mail Delivery System)\r\n"
	    "To: %s\r\nSubject: %s SMTP server: errors from %s\r\n"
	    "Message-Id: <%llx.%x@%s>\r\nAuto-Submitted: auto-generated\r\n"
	    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
	    "Content-Transfer-Encoding: 8bit\r\n\r\n", cf->myorigin, to,
	    cf->mail_name, s->name, (unsigned long long)clock_wall().us,
	    s->client, cf->myhostname);
	(void)buf_puts(b, "A session that you want to hear of "
	    "(notify_classes:");
	conf_choice_put("notify_classes", which, b);
	(void)buf_printf(b, ").\r\n\r\nClient: %s\r\nHELO: %s\r\n\r\n",
	    s->name, s->helo != NULL ? s->helo : "none");
	if (s->talk.n > 0) {
		(void)buf_puts(b, "What was said last:\r\n\r\n");
		(void)buf_putv(b, buf_view(&s->talk));
	}
	(void)buf_puts(b, "\r\nThe log has more.\r\n");
}

/* Not more than there may be; those that were too many are counted. */
static bool
notice_allowed(struct server *sv)
{
	int64_t now = clock_mono().us;

	if (now - sv->notices_since.us > MINUTE_US) {
		if (sv->notices > NOTICES_MAX)
			log_warn("%u notices to the postmaster were left out",
			    sv->notices - NOTICES_MAX);
		sv->notices_since.us = now;
		sv->notices = 0;
	}
	return ++sv->notices <= NOTICES_MAX;
}

void
notice_send(struct session *s)
{
	uint8_t which = s->noted & s->server->notify;
	const struct conf *cf = s->server->cf;
	char *from, *to;
	struct buf b;

	/* A full spool is not made fuller by mail that says so. */
	if (which == 0 || s->name == NULL || s->server->no_space ||
	    !notice_allowed(s->server))
		return;
	from = mem_printf("%s@%s", cf->double_bounce_sender, cf->myhostname);
	to = strchr(cf->error_notice_recipient, '@') != NULL ?
	    mem_strdup(cf->error_notice_recipient) :
	    mem_printf("%s@%s", cf->error_notice_recipient, cf->myorigin);
	buf_init(&b, TALK_MAX + 8192);
	notice_text(s, which, to, &b);
	if (!queue_notice(view_of(from), view_of(to), buf_view(&b)))
		log_warn("cannot tell the postmaster of errors from %s",
		    s->name);
	buf_free(&b);
	free(from);
	free(to);
}
