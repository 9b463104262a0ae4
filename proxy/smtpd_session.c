#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_milter.h"
#include "proxy/smtpd_tls.h"
#include "rules/policy_line.h"

#define SESSION_MAGIC	0x53455353u
#define OUT_MAX		(128u << 10)
#define IN_MAX		(192u << 10)

/* A cell left out is SMTP_REFUSED: a verb is refused until it is allowed. */
const uint8_t smtp_next[SMTP_STATES][VERBS] = {
	[SMTP_CONNECTED] = {
		[VERB_HELO] = SMTP_GREETED,
		[VERB_EHLO] = SMTP_GREETED,
		[VERB_STARTTLS] = SMTP_CONNECTED,
		[VERB_MAIL] = SMTP_MAIL,
		[VERB_RSET] = SMTP_CONNECTED,
		[VERB_NOOP] = SMTP_CONNECTED,
		[VERB_VRFY] = SMTP_CONNECTED,
		[VERB_ETRN] = SMTP_CONNECTED,
		[VERB_XFORWARD] = SMTP_CONNECTED,
		[VERB_XCLIENT] = SMTP_CONNECTED,
		[VERB_QUIT] = SMTP_CLOSED,
	},
	[SMTP_GREETED] = {
		[VERB_HELO] = SMTP_GREETED,
		[VERB_EHLO] = SMTP_GREETED,
		[VERB_STARTTLS] = SMTP_CONNECTED,
		[VERB_AUTH] = SMTP_GREETED,
		[VERB_MAIL] = SMTP_MAIL,
		[VERB_RSET] = SMTP_GREETED,
		[VERB_NOOP] = SMTP_GREETED,
		[VERB_VRFY] = SMTP_GREETED,
		[VERB_ETRN] = SMTP_GREETED,
		[VERB_XFORWARD] = SMTP_GREETED,
		[VERB_XCLIENT] = SMTP_CONNECTED,
		[VERB_QUIT] = SMTP_CLOSED,
	},
	[SMTP_MAIL] = {
		[VERB_HELO] = SMTP_GREETED,
		[VERB_EHLO] = SMTP_GREETED,
		[VERB_RCPT] = SMTP_RCPT,
		[VERB_RSET] = SMTP_GREETED,
		[VERB_NOOP] = SMTP_MAIL,
		[VERB_VRFY] = SMTP_MAIL,
		[VERB_QUIT] = SMTP_CLOSED,
	},
	[SMTP_RCPT] = {
		[VERB_HELO] = SMTP_GREETED,
		[VERB_EHLO] = SMTP_GREETED,
		[VERB_RCPT] = SMTP_RCPT,
		[VERB_DATA] = SMTP_DATA,
		[VERB_BDAT] = SMTP_CHUNK,
		[VERB_RSET] = SMTP_GREETED,
		[VERB_NOOP] = SMTP_RCPT,
		[VERB_VRFY] = SMTP_RCPT,
		[VERB_QUIT] = SMTP_CLOSED,
	},
	/* RFC 3030 section 2: what began with BDAT ends with it. */
	[SMTP_BDAT] = {
		[VERB_HELO] = SMTP_GREETED,
		[VERB_EHLO] = SMTP_GREETED,
		[VERB_BDAT] = SMTP_CHUNK,
		[VERB_RSET] = SMTP_GREETED,
		[VERB_NOOP] = SMTP_BDAT,
		[VERB_VRFY] = SMTP_BDAT,
		[VERB_QUIT] = SMTP_CLOSED,
	},
};

static const struct {
	const char *name;
	bool transaction;	/* there is one in this state, and only there */
} states[SMTP_STATES] = {
	[SMTP_REFUSED] = { "none", false },
	[SMTP_NAMELESS] = { "nameless", false },
	[SMTP_CONNECTED] = { "connected", false },
	[SMTP_GREETED] = { "greeted", false },
	[SMTP_MAIL] = { "mail", true },
	[SMTP_RCPT] = { "rcpt", true },
	[SMTP_DATA] = { "data", true },
	[SMTP_CHUNK] = { "chunk", true },
	[SMTP_BDAT] = { "bdat", true },
	[SMTP_SEALING] = { "sealing", true },
	[SMTP_CLOSED] = { "closed", false },
};

const char *
smtp_state_name(enum smtp_state state)
{
	return states[state].name;
}

/*
 * Enter a state.  Nothing else sets s->state, and nothing else makes or clears
 * a transaction: sender and recipients go together or not at all.
 */
void
session_enter(struct session *s, enum smtp_state to)
{
	/* "Greeted" means a HELO was given, also after RSET. */
	if (to == SMTP_GREETED && s->helo == NULL)
		to = SMTP_CONNECTED;
	ensure(to != SMTP_REFUSED && s->state != SMTP_CLOSED);
	if (log_level() > 0)
		log_debug("session %u: %s -> %s", s->no,
		    states[s->state].name, states[to].name);
	s->state = (uint8_t)to;
	if (!states[to].transaction) {
		/* It was said for that message. */
		if (s->tx != NULL) {
			xforward_forget(s);
			milter_end(s, s->tx->sealed);
		}
		transaction_free(&s->tx);
		facts_clear(&s->facts, SHELF_TRANSACTION);
	}
	else if (s->tx == NULL)
		s->tx = transaction_new(s);
}

struct view
session_client_name(const struct session *s)
{
	return view_make(s->name != NULL ? s->name : "unknown",
	    s->name != NULL ? s->name_n : 7u);
}

struct view
session_helo(const struct session *s)
{
	return view_make(s->helo != NULL ? s->helo : "", s->helo_n);
}

const char *
session_queue_id(const struct session *s, char text[QUEUE_ID_TEXT])
{
	if (s->tx == NULL || !s->tx->has_slot)
		return "NOQUEUE";
	return queue_id_text(s->tx->slot.id, text);
}

struct session *
session_new(struct server *sv, int fd, const struct netaddr *remote)
{
	struct session *s = mem_alloc(sizeof *s);

	s->magic = SESSION_MAGIC;
	s->server = sv;
	s->offers = sv->offers;
	s->fd = fd;
	s->addr = *remote;
	s->state = SMTP_NAMELESS;
	s->began = clock_wall();
	buf_init(&s->in, IN_MAX);
	buf_init(&s->out, OUT_MAX);
	server_add(sv, s);
	session_io_start(s);
	return s;
}

static void
session_free(struct session *s)
{
	struct server *sv = s->server;
	bool sealed = s->wait == WAIT_SEAL;

	ensure(s->magic == SESSION_MAGIC);
	if (s->wait == WAIT_SLOT)
		queue_await(s, false);
	if (s->state != SMTP_CLOSED)
		session_enter(s, SMTP_CLOSED);
	session_io_stop(s);
	tls_free(s);
	close(s->fd);
	buf_free(&s->in);
	buf_free(&s->out);
	buf_free(&s->talk);
	auth_forget(s);
	session_ask_end(s);
	session_policy_free(s);
	milter_free(s, sealed);
	free(s->counting);
	free(s->name);
	free(s->reverse);
	free(s->helo);
	free(s->forwarded);
	xclient_free(s);
	server_remove(sv, s);
	if (sv->on_done != NULL)
		sv->on_done(sv, s->gate, s->client);
	s->magic = 0;
	free(s);
}

/* " ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4" */
static void
session_counts(const struct session *s, struct buf *b)
{
	static const enum verb order[] = { VERB_HELO, VERB_EHLO, VERB_STARTTLS,
		VERB_AUTH, VERB_MAIL, VERB_RCPT, VERB_DATA, VERB_BDAT,
		VERB_RSET, VERB_NOOP, VERB_VRFY, VERB_ETRN, VERB_XCLIENT,
		VERB_XFORWARD, VERB_QUIT, VERB_UNKNOWN };
	unsigned total = 0, good = 0;
	size_t i, k;
	const char *name;
	enum verb v;

	for (i = 0; i < sizeof order / sizeof order[0]; i++) {
		v = order[i];
		if (s->total[v] == 0)
			continue;
		name = v == VERB_UNKNOWN ? "unknown" : verb_rules[v].name;
		(void)buf_putc(b, ' ');
		for (k = 0; name[k] != '\0'; k++)
			(void)buf_putc(b, (char)tolower(name[k]));
		(void)buf_printf(b, "=%u", s->good[v]);
		if (s->good[v] != s->total[v])
			(void)buf_printf(b, "/%u", s->total[v]);
		total += s->total[v];
		good += s->good[v];
	}
	(void)buf_printf(b, " commands=%u", good);
	if (good != total || total == 0)
		(void)buf_printf(b, "/%u", total);
	if (s->bare_lf && s->server->bare_lf == BARE_LF_NOTE)
		(void)buf_puts(b, " notes=bare_lf");
}

static void
session_log_broken(const struct session *s, const char *why)
{
	char id[QUEUE_ID_TEXT];
	const char *noid = session_queue_id(s, id);

	switch ((enum session_where)s->where) {
	case WHERE_CONNECT:
		log_info("%s: %s after CONNECT from %s", noid, why, s->name);
		break;
	case WHERE_VERB:
		log_info("%s: %s after %s from %s", noid, why,
		    s->verb == VERB_UNKNOWN ? "UNKNOWN" :
		    verb_rules[s->verb].name, s->name);
		break;
	case WHERE_DATA:
		log_info("%s: %s after %s (%llu bytes) from %s", noid, why,
		    verb_rules[s->verb].name, (unsigned long long)(s->tx != NULL ? s->tx->size : 0),
		    s->name);
		break;
	case WHERE_EOM:
		/* Not to wait for the answer is common and harmless. */
		if (strcmp(why, "lost connection") != 0)
			log_info("%s: %s after END-OF-MESSAGE from %s", noid,
			    why, s->name);
		break;
	}
}

void
session_close(struct session *s, const char *why)
{
	struct buf b;

	if (s->name != NULL) {
		if (why != NULL)
			session_log_broken(s, why);
		if (s->state != SMTP_CLOSED)
			session_enter(s, SMTP_CLOSED);
		buf_init(&b, 1000);
		session_counts(s, &b);
		log_info("disconnect from %s%s", s->name, buf_cstr(&b));
		buf_free(&b);
		notice_send(s);
	}
	session_free(s);
}

/* -- replies -------- */

static void __attribute__((format(printf, 3, 0)))
session_vreply(struct session *s, bool refused, const char *fmt, va_list ap)
{
	char line[REPLY_MAX + 2];
	struct buf footer;
	int n = vsnprintf(line, REPLY_MAX, fmt, ap);
	bool sent = false;

	ensure(n >= 4);
	if ((size_t)n >= REPLY_MAX)
		n = REPLY_MAX - 1;
	if (line[1] == '2' && line[2] == '1')
		s->hangup = true;
	buf_init(&footer, FOOTER_MAX);
	if (line[0] == '4' || line[0] == '5') {
		n = (int)refusal_filter(s, line, (size_t)n, REPLY_MAX);
		refusal_footer(s, view_make(line, (size_t)n), &footer);
	}
	if (s->server->cf->soft_bounce && line[0] == '5') {
		line[0] = '4';
		if (line[4] == '5' && line[5] == '.')
			line[4] = '4';
	}
	if (line[1] == '2' && line[2] == '1')
		s->hangup = true;
	notice_said(s, "Out", view_make(line, (size_t)n));
	if (refused)
		notice_refused(s, view_make(line, (size_t)n));
	if (footer.n > 0)
		sent = refusal_write(s, view_make(line, (size_t)n),
		    buf_view(&footer));
	buf_free(&footer);
	if (sent)
		return;
	line[n++] = '\r';
	line[n++] = '\n';
	if (!buf_put(&s->out, line, (size_t)n))
		s->hangup = true;
}

void
session_reply(struct session *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	session_vreply(s, false, fmt, ap);
	va_end(ap);
}

void
session_accept(struct session *s, enum verb v, const char *fmt, ...)
{
	va_list ap;

	s->good[v]++;
	va_start(ap, fmt);
	session_vreply(s, false, fmt, ap);
	va_end(ap);
}

void
session_refuse(struct session *s, const char *fmt, ...)
{
	va_list ap;

	s->errors++;
	va_start(ap, fmt);
	session_vreply(s, true, fmt, ap);
	va_end(ap);
}

void
session_log_event(struct session *s, const struct session_event *ev)
{
	char id[QUEUE_ID_TEXT];
	const struct policy_line line = { .id = session_queue_id(s, id),
		.action = ev->action, .command = s->where == WHERE_CONNECT ?
		"CONNECT" : s->where == WHERE_EOM ? "END-OF-MESSAGE" :
		s->verb == VERB_UNKNOWN ? "UNKNOWN" : verb_rules[s->verb].name,
		.client = s->name, .text = ev->text, .sender = ev->sender,
		.rcpt = ev->rcpt, .rule = ev->rule,
		.proto = s->esmtp ? "ESMTP" : "SMTP", .helo = s->helo,
		.login = s->login != NULL ? s->login->name : NULL };

	policy_line_log(&line);
}

void
session_log_reject(struct session *s, const char *action, const char *text,
    struct view recipient)
{
	struct session_event ev = { .action = action, .text = text,
		.rcpt = recipient };

	if (s->tx != NULL)
		ev.sender = s->tx->sender.p != NULL ? s->tx->sender :
		    view_of("");
	session_log_event(s, &ev);
	s->server->refused++;
}

/* -- waiting -------- */

void
session_wait_for(struct session *s, enum session_wait w, int64_t ms)
{
	ensure(s->wait == WAIT_NONE && w != WAIT_NONE);
	s->wait = (uint8_t)w;
	session_timer(s, ms);
	if (w == WAIT_SLOT)
		queue_await(s, true);
}

void
session_resume(struct session *s)
{
	enum session_wait w = s->wait;

	ensure(s->magic == SESSION_MAGIC && w != WAIT_NONE);
	if (w == WAIT_SLOT)
		queue_await(s, false);
	s->wait = WAIT_NONE;
	switch (w) {
	case WAIT_SLOT:
		if (s->verb == VERB_MAIL)
			session_mail_resume(s);
		else
			session_rcpt_resume(s);
		break;
	case WAIT_MILTER:
		milter_resume(s);
		break;
	case WAIT_SPILL:
		session_text_resume(s);
		break;
	case WAIT_FACT:
		session_policy_resume(s);
		break;
	case WAIT_RATE:
		session_rate_resume(s);
		break;
	case WAIT_NONE:
	case WAIT_NAME:
	case WAIT_SEAL:
	case WAIT_PAUSE:
	case WAIT_TLS:
	case WAIT_AUTH:
	case WAIT_CLIENT:
	case WAITS:
		break;
	}
	/* An answer that had to be waited for is no quicker way to err. */
	if (w == WAIT_FACT || w == WAIT_RATE || w == WAIT_MILTER ||
	    w == WAIT_AUTH)
		command_pause(s);
	session_timer_state(s);
	session_go(s);
}

void
session_hurry(struct session *s)
{
	if (s->state == SMTP_NAMELESS || s->wait == WAIT_TLS)
		session_close(s, NULL);
	else if (s->wait == WAIT_NONE)
		session_go(s);	/* which sees that the server is in a hurry */
}

/* With smtpd_delay_reject = no, a client may be denied before the greeting:
 * then the refusal stands for it (RFC 5321 section 3.1). */
void
session_greet(struct session *s)
{
	if (s->denied || milter_connect(s) || s->wait != WAIT_MILTER)
		session_greeting(s);
}

void
session_greeting(struct session *s)
{
	struct server *sv = s->server;

	session_enter(s, SMTP_CONNECTED);
	/* A client that speaks first does not wait for replies either. */
	if (sv->cf->smtpd_forbid_unauth_pipelining && session_spoke(s)) {
		log_info("improper command pipelining after CONNECT from %s",
		    s->name);
		if (!s->denied)
			session_reply(s, "554 5.5.0 Error: SMTP protocol "
			    "synchronization");
		s->hangup = true;
	} else if (!milter_greets(s)) {
		session_reply(s, "554 %s ESMTP not accepting connections",
		    sv->cf->myhostname);
	} else if (!s->denied && !s->hangup) {
		session_reply(s, "220 %s", sv->cf->smtpd_banner);
	}
}

void
session_named(struct session *s, enum name_status status, struct view name,
    struct view reverse)
{
	struct server *sv = s->server;
	char addr[NETADDR_TEXT];
	struct view known = name;

	ensure(s->name == NULL && s->state == SMTP_NAMELESS);
	s->wait = WAIT_NONE;
	if (known.n == 0 || known.n > 255)
		known = view_of("unknown");
	s->name = mem_printf("%.*s[%s]", VIEW_ARGS(known),
	    netaddr_text(&s->addr, addr));
	s->name_n = (uint8_t)known.n;
	s->name_status = (uint8_t)status;
	if (reverse.n > 0 && reverse.n <= 255 && !view_is(reverse, "unknown"))
		s->reverse = mem_copy(reverse);
	s->where = WHERE_CONNECT;
	log_info("connect from %s", s->name);
	sv->connections++;
	s->in_mynetworks = policy_in_mynetworks(sv->policy, known,
	    &s->addr) == TABLE_FOUND;
	if (s->xclient == NULL && starttls_wrap(s))
		session_go(s);
	else
		session_admit(s);
}

void
session_admit(struct session *s)
{
	if (session_policy(s, STAGE_CLIENT, view_of(""), view_of("")) ||
	    s->denied)
		session_greet(s);
	session_timer_state(s);
	session_go(s);
}
