/*
 * -bs: SMTP on standard input and output (RFC 5321), for programs that hand
 * in their mail that way.  A small dialogue: each message goes into maildrop/
 * as one from the command line does, and its 250 means as much.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/dsn.h"
#include "lib/log.h"
#include "queue/sendmail.h"
#include "queue/submit.h"

#define LINE_MAX_BYTES	2048u
#define ERRORS_MAX	20u

struct dialogue {
	const struct sendmail *s;
	char in[65536];
	size_t at, have;
	struct buf line;
	bool hello, mail, end;
	unsigned errors;
	struct submission m;
};

/* The next byte, or -1. */
static int
next_byte(struct dialogue *d)
{
	ssize_t n;

	if (d->at == d->have) {
		(void)fflush(stdout);
		do
			n = submit_stopped() ? 0 :
			    read(STDIN_FILENO, d->in, sizeof d->in);
		while (n < 0 && errno == EINTR);
		if (n <= 0)
			return -1;
		d->at = 0;
		d->have = (size_t)n;
	}
	return (unsigned char)d->in[d->at++];
}

/* A command without its line end; false: no more input.  One that is too
 * long is cut, and *ret_long set. */
static bool
next_line(struct dialogue *d, bool *ret_long)
{
	int c;

	*ret_long = false;
	buf_clear(&d->line);
	while ((c = next_byte(d)) >= 0 && c != '\n')
		if (!buf_putc(&d->line, (char)c))
			*ret_long = true;
	if (d->line.n > 0 && d->line.p[d->line.n - 1] == '\r')
		d->line.n--;
	return c >= 0;
}

static void
reply(struct dialogue *d, const char *text)
{
	(void)printf("%s\r\n", text);
	if (text[0] >= '4' && ++d->errors > ERRORS_MAX) {
		(void)printf("421 4.7.0 %s Error: too many errors\r\n",
		    d->s->cf->myhostname);
		d->end = true;
	}
}

/* Sender, recipients and text go together. */
static void
reset(struct dialogue *d)
{
	if (d->mail)
		submission_drop(&d->m);
	d->mail = false;
}

static void
do_hello(struct dialogue *d, struct view args, bool extended)
{
	const struct conf *cf = d->s->cf;

	if (view_trim(args).n == 0) {
		reply(d, extended ? "501 Syntax: EHLO hostname" :
		    "501 Syntax: HELO hostname");
		return;
	}
	reset(d);
	d->hello = true;
	if (!extended) {
		(void)printf("250 %s\r\n", cf->myhostname);
		return;
	}
	(void)printf("250-%s\r\n250-PIPELINING\r\n250-SIZE %lld\r\n"
	    "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n"
	    "250 SMTPUTF8\r\n", cf->myhostname,
	    (long long)cf->message_size_limit);
}

/* "FROM:<path> PARAMETERS"; false: answered. */
static bool
take_path(struct dialogue *d, struct view *args, const char *word,
    struct buf *out)
{
	bool utf8;

	if (!view_starts_nocase(*args, word)) {
		reply(d, "501 5.5.4 Syntax: MAIL FROM:<address>, "
		    "RCPT TO:<address>");
		return false;
	}
	*args = view_trim(view_from(*args, strlen(word)));
	if (address_path(args, false, out, &utf8) != ADDRESS_OK) {
		reply(d, word[0] == 'F' ? "501 5.1.7 Bad sender address syntax"
		    : "501 5.1.3 Bad recipient address syntax");
		return false;
	}
	return true;
}

static void
do_mail(struct dialogue *d, struct view args)
{
	const struct conf *cf = d->s->cf;
	struct buf sender, envid;
	struct view word;
	int64_t size;
	char ret = 0;

	if (!d->hello || d->mail) {
		reply(d, d->mail ? "503 5.5.1 Error: nested MAIL command" :
		    "503 5.5.1 Error: send HELO/EHLO first");
		return;
	}
	buf_init(&sender, ADDRESS_MAX);
	buf_init(&envid, DSN_ENVID_MAX);
	if (!take_path(d, &args, "FROM:", &sender))
		goto out;
	while ((word = view_word(&args, " ")).n > 0) {
		if (view_starts_nocase(word, "SIZE=")) {
			if (!conf_parse_int(view_from(word, 5), 0, INT64_MAX,
			    &size)) {
				reply(d, "501 5.5.4 Bad message size syntax");
				goto out;
			}
			if (cf->message_size_limit > 0 &&
			    size > cf->message_size_limit) {
				reply(d, "552 5.3.4 Message size exceeds "
				    "fixed limit");
				goto out;
			}
		} else if (view_starts_nocase(word, "RET=")) {
			ret = (char)dsn_ret(view_from(word, 4));
			if (ret == 0) {
				reply(d, "501 5.5.4 Bad RET parameter syntax");
				goto out;
			}
		} else if (view_starts_nocase(word, "ENVID=")) {
			buf_clear(&envid);
			if (!dsn_envid_get(&envid, view_from(word, 6))) {
				reply(d, "501 5.5.4 Bad ENVID parameter "
				    "syntax");
				goto out;
			}
		} else if (!view_starts_nocase(word, "BODY=") &&
		    !view_is_nocase(word, "SMTPUTF8") &&
		    !view_starts_nocase(word, "AUTH=")) {
			reply(d, "555 5.5.4 Unsupported option");
			goto out;
		}
	}
	if (!submission_begin(&d->m, d->s, buf_view(&sender),
	    view_make("", 0), buf_view(&envid), ret))
		reply(d, "501 5.5.4 Bad parameter");
	else {
		d->mail = true;
		reply(d, "250 2.1.0 Ok");
	}
out:
	buf_free(&sender);
	buf_free(&envid);
}

static void
do_rcpt(struct dialogue *d, struct view args)
{
	struct buf rcpt, orcpt;
	struct view word;
	uint8_t notify = d->s->notify;

	if (!d->mail) {
		reply(d, "503 5.5.1 Error: need MAIL command");
		return;
	}
	buf_init(&rcpt, ADDRESS_MAX);
	buf_init(&orcpt, DSN_ORCPT_MAX);
	if (!take_path(d, &args, "TO:", &rcpt))
		goto out;
	while ((word = view_word(&args, " ")).n > 0) {
		if (view_starts_nocase(word, "NOTIFY=") &&
		    (notify = dsn_notify(view_from(word, 7))) != 0)
			continue;
		if (view_starts_nocase(word, "ORCPT=") && orcpt.n == 0 &&
		    dsn_orcpt_get(&orcpt, view_from(word, 6), true))
			continue;
		reply(d, "555 5.5.4 Unsupported option");
		goto out;
	}
	if (rcpt.n == 0)
		reply(d, "501 5.1.3 Bad recipient address syntax");
	else if (!submission_rcpt(&d->m, buf_view(&rcpt), notify,
	    buf_view(&orcpt)))
		reply(d, "452 4.5.3 Error: too many recipients");
	else
		reply(d, "250 2.1.5 Ok");
out:
	buf_free(&rcpt);
	buf_free(&orcpt);
}

/* The text up to the final dot; false: the input ended before it. */
static bool
read_text(struct dialogue *d, int *ret_status, const char **ret_why)
{
	char piece[4096];
	size_t n = 0;
	int c, rc = EX_OK;
	bool start = true, dot = false, cr = false;

	/* States of a line that begins with a dot: seen it, and its CR. */
	while ((c = next_byte(d)) >= 0) {
		if (start && c == '.') {
			start = false;
			dot = true;
			continue;
		}
		if (dot && c == '\r' && !cr) {
			cr = true;
			continue;
		}
		if (dot && c == '\n')
			break;
		if (cr)
			piece[n++] = '\r';
		dot = cr = false;
		piece[n++] = (char)c;
		start = c == '\n';
		if (n >= sizeof piece - 2) {
			if (rc == EX_OK)
				rc = submission_text(&d->m,
				    view_make(piece, n), ret_why);
			n = 0;
		}
	}
	if (rc == EX_OK && n > 0)
		rc = submission_text(&d->m, view_make(piece, n), ret_why);
	*ret_status = rc;
	return c >= 0;
}

static void
do_data(struct dialogue *d)
{
	const char *why = "";
	int rc;

	if (!d->mail || d->m.rcpts == 0) {
		reply(d, d->mail ? "554 5.5.1 Error: no valid recipients" :
		    "503 5.5.1 Error: need RCPT command");
		return;
	}
	rc = submission_open(&d->m, &why);
	if (rc != EX_OK) {
		(void)printf("451 4.3.0 Error: %s\r\n", why);
		reset(d);
		return;
	}
	reply(d, "354 End data with <CR><LF>.<CR><LF>");
	if (!read_text(d, &rc, &why)) {
		reset(d);
		d->end = true;
		return;
	}
	if (rc == EX_OK) {
		rc = submission_end(&d->m, &why);
		d->mail = false;
	} else
		reset(d);
	if (rc == EX_OK) {
		d->errors = 0;
		(void)printf("250 2.0.0 Ok: queued%s%s\r\n",
		    d->m.name[0] != '\0' ? " as " : "", d->m.name);
	} else if (rc == EX_DATAERR)
		(void)printf("552 5.3.4 Error: %s\r\n", why);
	else
		(void)printf("451 4.3.0 Error: %s\r\n", why);
}

static void
command(struct dialogue *d, struct view line)
{
	struct view rest = line, verb = view_word(&rest, " \t");

	rest = view_trim(rest);
	if (view_is_nocase(verb, "EHLO"))
		do_hello(d, rest, true);
	else if (view_is_nocase(verb, "HELO"))
		do_hello(d, rest, false);
	else if (view_is_nocase(verb, "MAIL"))
		do_mail(d, rest);
	else if (view_is_nocase(verb, "RCPT"))
		do_rcpt(d, rest);
	else if (view_is_nocase(verb, "DATA"))
		do_data(d);
	else if (view_is_nocase(verb, "RSET")) {
		reset(d);
		reply(d, "250 2.0.0 Ok");
	} else if (view_is_nocase(verb, "NOOP"))
		reply(d, "250 2.0.0 Ok");
	else if (view_is_nocase(verb, "VRFY"))
		reply(d, "252 2.0.0 Send some mail, it will be tried");
	else if (view_is_nocase(verb, "QUIT")) {
		reply(d, "221 2.0.0 Bye");
		d->end = true;
	} else
		reply(d, "500 5.5.2 Error: command not recognized");
}

int
sendmail_smtp(const struct sendmail *s)
{
	struct dialogue *d = mem_alloc(sizeof *d);
	bool too_long;

	submit_authorize(s->cf);
	d->s = s;
	buf_init(&d->line, LINE_MAX_BYTES);
	(void)printf("220 %s ESMTP %s\r\n", s->cf->myhostname,
	    s->cf->mail_name);
	while (!d->end && next_line(d, &too_long)) {
		if (too_long)
			reply(d, "500 5.5.2 Error: line too long");
		else
			command(d, buf_view(&d->line));
	}
	reset(d);
	(void)fflush(stdout);
	buf_free(&d->line);
	free(d);
	return EX_OK;
}
