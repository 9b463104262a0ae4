/* Command lines: from bytes to a verb, its rules, and its functions. */
#include "lib/address.h"
#include "lib/log.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_milter.h"
#include "proxy/smtpd_tls.h"

const struct verb_rule verb_rules[VERBS] = {
	[VERB_HELO] = { .name = "HELO",
		.flags = VERB_LAST | VERB_JUNK | VERB_PLAIN,
		.check = helo_check, .proceed = helo_proceed },
	[VERB_EHLO] = { .name = "EHLO",
		.flags = VERB_LAST | VERB_JUNK | VERB_PLAIN,
		.check = ehlo_check, .proceed = ehlo_proceed },
	[VERB_MAIL] = { .name = "MAIL", .event = EVENT_MESSAGE,
		.refused_open = "503 5.5.1 Error: nested MAIL command",
		.check = mail_check, .proceed = mail_proceed },
	[VERB_RCPT] = { .name = "RCPT", .event = EVENT_RECIPIENT,
		.refused_idle = "503 5.5.1 Error: need MAIL command",
		.check = rcpt_check, .proceed = rcpt_proceed },
	[VERB_DATA] = { .name = "DATA", .flags = VERB_LAST,
		.refused_idle = "503 5.5.1 Error: need RCPT command",
		.refused_open = "554 5.5.1 Error: no valid recipients",
		.check = data_check, .proceed = data_proceed },
	[VERB_BDAT] = { .name = "BDAT",
		.refused_idle = "503 5.5.1 Error: need RCPT command",
		.refused_open = "554 5.5.1 Error: no valid recipients",
		.check = bdat_check, .proceed = bdat_proceed },
	[VERB_RSET] = { .name = "RSET", .flags = VERB_JUNK,
		.check = rset_check, .proceed = rset_proceed },
	[VERB_NOOP] = { .name = "NOOP",
		.flags = VERB_LAST | VERB_JUNK | VERB_PLAIN,
		.check = noop_check, .proceed = noop_proceed },
	[VERB_VRFY] = { .name = "VRFY", .flags = VERB_LAST | VERB_JUNK,
		.check = vrfy_check, .proceed = vrfy_proceed },
	[VERB_ETRN] = { .name = "ETRN", .flags = VERB_LAST | VERB_JUNK,
		.refused_open = "503 5.5.1 Error: MAIL transaction in "
		    "progress",
		.check = etrn_check, .proceed = etrn_proceed },
	[VERB_STARTTLS] = { .name = "STARTTLS", .event = EVENT_TLS,
		.flags = VERB_LAST | VERB_ALONE | VERB_PLAIN,
		.refused_open = "503 5.5.1 Error: MAIL transaction in "
		    "progress",
		.check = starttls_check, .proceed = starttls_proceed },
	/* What follows in one packet may be its responses. */
	[VERB_AUTH] = { .name = "AUTH", .event = EVENT_AUTH,
		.refused_idle = "503 5.5.1 Error: send EHLO first",
		.refused_open = "503 5.5.1 Error: MAIL transaction in "
		    "progress",
		.check = auth_check, .proceed = auth_proceed },
	[VERB_QUIT] = { .name = "QUIT", .flags = VERB_PLAIN,
		.check = quit_check, .proceed = quit_proceed },
	[VERB_XFORWARD] = { .name = "XFORWARD",
		.refused_open = "503 5.5.1 Error: MAIL transaction in "
		    "progress",
		.check = xforward_check, .proceed = xforward_proceed },
	[VERB_XCLIENT] = { .name = "XCLIENT", .flags = VERB_LAST,
		.refused_open = "503 5.5.1 Error: MAIL transaction in "
		    "progress",
		.check = xclient_check, .proceed = xclient_proceed },
};

static enum verb
verb_find(struct view word)
{
	enum verb v;

	for (v = VERB_UNKNOWN + 1; v < VERBS; v++)
		if (view_is_nocase(word, verb_rules[v].name))
			return v;
	return VERB_UNKNOWN;
}

/* A message that came without its envelope: a header name and its colon. */
static bool
command_is_header(struct view word)
{
	size_t i;

	for (i = 0; i < word.n && word.p[i] > ' ' && word.p[i] < 0x7f; i++)
		if (word.p[i] == ':')
			return i > 0;
	return false;
}

void
command_pause(struct session *s)
{
	const struct conf *cf = s->server->cf;

	/* A session that waits for something else is slow enough. */
	if (s->errors < (uint64_t)cf->smtpd_soft_error_limit ||
	    cf->smtpd_error_sleep_time == 0 || s->wait != WAIT_NONE ||
	    s->state == SMTP_CLOSED || s->state == SMTP_DATA ||
	    s->state == SMTP_CHUNK)
		return;
	session_wait_for(s, WAIT_PAUSE, cf->smtpd_error_sleep_time);
}

/* What of a line may be shown: who said AUTH, and was refused, may go on with
 * his password all the same. */
static struct view
command_shown(const struct session *s, struct view line)
{
	struct view rest = line;

	return s->after_auth && verb_find(view_word(&rest, " \t")) ==
	    VERB_UNKNOWN ? view_of("(response)") : auth_shown(line);
}

static void
command_unknown(struct session *s, struct view word, struct view line)
{
	s->total[VERB_UNKNOWN]++;
	s->verb = VERB_UNKNOWN;
	s->where = WHERE_VERB;
	if (command_is_header(word) || word_list_match(
	    s->server->forbidden_commands, word) == TABLE_FOUND) {
		log_warn("non-SMTP command from %s: %.100s", s->name,
		    log_safe(command_shown(s, line)));
		session_reply(s, "221 2.7.0 Error: I can break rules, too. "
		    "Goodbye.");
		return;
	}
	if (milter_unknown(s, line))
		command_not_known(s);
}

/* What of ahead may be shown: nothing behind an AUTH. */
static struct view
ahead_shown(enum verb v, struct view ahead)
{
	struct view rest = ahead, line, shown;
	size_t n;

	ahead = view_head(ahead, 100);
	if (v == VERB_AUTH)
		return view_head(ahead, 0);
	while (rest.n > 0) {
		n = view_find(rest, '\n');
		line = view_head(rest, n);
		shown = auth_shown(line);
		if (shown.n < line.n)
			return view_head(ahead,
			    (size_t)(shown.p + shown.n - ahead.p));
		rest = view_from(rest, n + 1);
	}
	return ahead;
}

/* Nothing may follow in one packet what ends a pipelining group; without
 * EHLO, nothing at all. */
static bool
command_ahead(struct session *s, enum verb v, struct view ahead)
{
	if (ahead.n == 0 ||
	    (s->esmtp && (verb_rules[v].flags & VERB_LAST) == 0))
		return false;
	if (!s->server->cf->smtpd_forbid_unauth_pipelining &&
	    (verb_rules[v].flags & VERB_ALONE) == 0) {
		/* For reject_unauth_pipelining. */
		s->pipelined = true;
		return false;
	}
	log_info("improper command pipelining after %s from %s: %.100s",
	    verb_rules[v].name, s->name, log_safe(ahead_shown(v, ahead)));
	session_reply(s, "554 5.5.0 Error: SMTP protocol synchronization");
	s->hangup = true;
	return true;
}

void
command_run(struct session *s, struct view args)
{
	const struct verb_rule *rule = &verb_rules[s->verb];

	if (rule->check(s, args))
		command_go(s, args);
}

void
command_go(struct session *s, struct view args)
{
	if (milter_verb(s, args))
		verb_rules[s->verb].proceed(s, args);
}

void
command_not_known(struct session *s)
{
	session_refuse(s, "500 5.5.2 Error: command not recognized");
}

static void
command_verb(struct session *s, enum verb v, struct view args,
    struct view ahead)
{
	const struct verb_rule *rule = &verb_rules[v];
	enum smtp_state to = smtp_next[s->state][v];
	const char *refusal;

	s->total[v]++;
	s->verb = (uint8_t)v;
	s->after_auth = v == VERB_AUTH;
	s->where = WHERE_VERB;
	if (command_ahead(s, v, ahead))
		return;
	if (s->tls == NULL && (rule->flags & VERB_PLAIN) == 0 &&
	    s->server->tls != NULL && s->server->tls->mandatory)
		session_refuse(s, "530 5.7.0 Must issue a STARTTLS command "
		    "first");
	else if (to == SMTP_REFUSED) {
		refusal = s->state == SMTP_BDAT ? "503 5.5.1 Error: the "
		    "message is being sent with BDAT" : s->tx != NULL ?
		    rule->refused_open : rule->refused_idle;
		ensure(refusal != NULL);
		session_refuse(s, "%s", refusal);
	} else if (rule->event == 0 || session_count(s,
	    (enum client_event)rule->event, args))
		command_run(s, args);
	if ((rule->flags & VERB_JUNK) != 0 &&
	    s->junk++ > (uint64_t)s->server->cf->smtpd_junk_command_limit)
		s->errors++;
}

/* The line is not fit to look for a verb in it. */
static bool
command_malformed(struct session *s, struct view line)
{
	const char *why = NULL;

	if (line.n == 0 || view_find(line, '\0') < line.n)
		why = "bad syntax";
	else if (s->server->cf->smtputf8_enable && !address_utf8(line, NULL))
		why = "bad UTF-8 syntax";
	if (why == NULL)
		return false;
	s->total[VERB_UNKNOWN]++;
	s->verb = VERB_UNKNOWN;
	s->where = WHERE_VERB;
	session_refuse(s, "500 5.5.2 Error: %s", why);
	return true;
}

/* smtpd_noop_commands: nothing is looked at but the word. */
static bool
command_nothing(struct session *s, struct view word)
{
	if (s->server->cf->smtpd_noop_commands[0] == '\0' ||
	    word_list_match(s->server->noop_commands, word) != TABLE_FOUND)
		return false;
	s->where = WHERE_VERB;
	s->verb = VERB_NOOP;
	session_reply(s, "250 2.0.0 Ok");
	if (s->junk++ > (uint64_t)s->server->cf->smtpd_junk_command_limit)
		s->errors++;
	return true;
}

/*
 * What smtpd_command_filter makes of the line, in a buffer of its own.  False:
 * no answer, and the session ends, as with Postfix: the line was not to be
 * taken as it is.
 */
static bool
command_filter(struct session *s, struct view *line, struct buf *out)
{
	const struct table *t = s->server->command_filter;
	unsigned n;

	switch (table_find(t, *line, out, &n)) {
	case TABLE_NOT_FOUND:
		return true;
	case TABLE_FOUND:
		log_info("%s: replacing command \"%.100s\" with \"%.100s\"",
		    s->name, log_safe(view_head(command_shown(s, *line), 100)),
		    log_safe(view_head(command_shown(s, buf_view(out)),
		    100)));
		*line = view_trim(buf_view(out));
		return true;
	case TABLE_FAILED:
		break;
	}
	log_warn("%s lookup error for \"%.100s\"", table_name(t),
	    log_safe(view_head(command_shown(s, *line), 100)));
	session_reply(s, "421 4.3.0 %s Server local data error",
	    s->server->cf->myhostname);
	s->hangup = true;
	return false;
}

/* A whole line, without its end; ahead: what the client sent behind it. */
static void
command_line(struct session *s, struct view line, struct view ahead)
{
	struct view all = line, word = view_word(&line, " \t");
	enum verb v;

	if (command_nothing(s, word))
		return;
	v = verb_find(word);
	if (v == VERB_UNKNOWN)
		command_unknown(s, word, all);
	else
		command_verb(s, v, view_trim(line), ahead);
}

static void
command_filtered(struct session *s, struct view line, struct view ahead)
{
	struct buf out;

	if (command_malformed(s, line))
		return;
	if (s->server->command_filter == NULL) {
		command_line(s, line, ahead);
		return;
	}
	buf_init(&out, auth_command_limit(s, line));
	/* What comes out is looked at as if it had been sent. */
	if (command_filter(s, &line, &out) && !command_malformed(s, line))
		command_line(s, line, ahead);
	buf_free(&out);
}

/* A line that ended in LF alone.  True: it is refused. */
static bool
command_bare_lf(struct session *s)
{
	const struct conf *cf = s->server->cf;

	s->bare_lf = true;
	if (s->server->bare_lf != BARE_LF_REJECT ||
	    net_list_match(s->server->bare_lf_exclusions,
	    session_client_name(s), &s->addr) == TABLE_FOUND)
		return false;
	session_log_reject(s, "reject", "bare <LF> received", (struct view){
		NULL, 0 });
	session_reply(s, "%d 5.5.2 %s Error: bare <LF> received",
	    (int)cf->smtpd_forbid_bare_newline_reject_code, cf->myhostname);
	s->hangup = true;
	return true;
}

size_t
session_command(struct session *s, struct view in)
{
	size_t limit = auth_command_limit(s, in);
	size_t lf = view_find(in, '\n'), used = lf + 1;
	struct view line;

	if (lf == in.n) {
		if (!s->skipping && in.n <= limit)
			return 0;
		/* Too long: nothing of it will be executed or kept. */
		s->skipping = in.n > 0 || s->skipping;
		return in.n;
	}
	if (s->skipping || lf > limit) {
		s->skipping = false;
		s->total[VERB_UNKNOWN]++;
		s->verb = VERB_UNKNOWN;
		s->where = WHERE_VERB;
		session_refuse(s, "500 5.5.2 %s Error: command too long",
		    s->server->cf->myhostname);
		command_pause(s);
		return used;
	}
	if ((lf == 0 || in.p[lf - 1] != '\r') && command_bare_lf(s))
		return used;
	line = view_trim(view_head(in, lf));
	notice_said(s, "In", command_shown(s, line));
	if (!chunk_begin(s, line))
		return used;
	if (s->denied && !view_is_nocase(line, "quit")) {
		/* RFC 5321 section 3.1 */
		s->total[VERB_UNKNOWN]++;
		session_refuse(s, "503 5.7.0 Error: access denied for %s",
		    s->name);
	} else {
		command_filtered(s, line, view_from(in, used));
	}
	command_pause(s);
	return used;
}
