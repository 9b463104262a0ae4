#include <stdio.h>
#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_milter.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_tls.h"
#include "rules/milters.h"

/* The role has clocks of its own for each filter; this is for the role. */
#define MILTER_WAIT_MS	900000
#define VALUES_MAX	12u
#define ARGS_MAX	32u
/* So many recipients may be told before one is waited for, so that the role
 * is not told faster than it can tell. */
#define RCPTS_AT_ONCE	64u

/* An event in the making. */
struct telling {
	struct session *s;
	enum milter_stage stage;
	bool wait;
	struct view names[VALUES_MAX], values[VALUES_MAX];
	uint32_t n_values;
	struct view args[ARGS_MAX];
	uint32_t n_args;
	struct buf address, id;
};

/* -- telling --------------------------------------------------------------- */

static void
telling_init(struct telling *t, struct session *s, enum milter_stage stage)
{
	*t = (struct telling){ .s = s, .stage = stage };
	t->wait = (s->milter->waits & 1u << stage) != 0;
	buf_init(&t->address, 2 * ADDRESS_MAX + 16);
	buf_init(&t->id, QUEUE_ID_TEXT + 1);
}

static void
telling_value(struct telling *t, const char *name, struct view value)
{
	ensure(t->n_values < VALUES_MAX);
	t->names[t->n_values] = view_of(name);
	t->values[t->n_values++] = value;
}

static void
telling_arg(struct telling *t, struct view arg)
{
	/* No command has so many that the policy lets through. */
	if (t->n_args < ARGS_MAX)
		t->args[t->n_args++] = arg;
}

/* "TO:<a@b> NOTIFY=NEVER": the address in brackets, quoted where it must be,
 * and the arguments. */
static void
telling_path(struct telling *t, struct view args, const char *word)
{
	struct view rest = view_trim(view_from(args, strlen(word))), one;
	struct buf inner;
	bool utf8;

	buf_init(&inner, ADDRESS_MAX);
	/* It was read before. */
	ensure(address_path(&rest, false, &inner, &utf8) == ADDRESS_OK);
	(void)buf_putc(&t->address, '<');
	(void)address_quote(buf_view(&inner), &t->address);
	(void)buf_putc(&t->address, '>');
	buf_free(&inner);
	telling_arg(t, buf_view(&t->address));
	while ((one = view_word(&rest, " \t")).n > 0)
		telling_arg(t, one);
}

static struct view
telling_bare(const struct telling *t)
{
	return view_head(view_from(buf_view(&t->address), 1),
	    t->address.n - 2);
}

static struct view
telling_host(const struct telling *t)
{
	struct view v = telling_bare(t);
	size_t i = v.n;

	while (i > 0 && v.p[i - 1] != '@')
		i--;
	return i > 0 ? view_from(v, i) : view_of("");
}

/* True: nobody answers. */
static bool
telling_send(struct telling *t, struct view resume)
{
	struct milter_talk *m = t->s->milter;
	struct chan *c = milter_link_chan(m->link);
	struct buf *b = chan_begin(c, MSG_MILTER);
	uint32_t i;

	put_u32(b, m->no);
	put_u32(b, t->wait ? session_ask(t->s, m->link) : 0);
	put_u8(b, (uint8_t)t->stage);
	put_u32(b, t->n_values);
	for (i = 0; i < t->n_values; i++) {
		put_view(b, t->names[i]);
		put_view(b, t->values[i]);
	}
	put_u32(b, t->n_args);
	for (i = 0; i < t->n_args; i++)
		put_view(b, t->args[i]);
	chan_end(c);
	m->events++;
	buf_free(&t->address);
	buf_free(&t->id);
	if (!t->wait)
		return true;
	m->stage = t->stage;
	m->args = mem_copy(resume);
	m->args_n = resume.n;
	session_wait_for(t->s, WAIT_MILTER, MILTER_WAIT_MS);
	return false;
}

/* -- answers --------------------------------------------------------------- */

static void
answer_log(struct session *s, const char *action, const char *text)
{
	struct session_event ev = { .action = action, .text = text };
	struct view rest = view_make(s->milter->args, s->milter->args_n);
	struct buf rcpt;
	bool utf8;

	buf_init(&rcpt, ADDRESS_MAX);
	if (s->tx != NULL)
		ev.sender = s->tx->sender.p != NULL ? s->tx->sender :
		    view_of("");
	if (s->milter->stage == MILTER_STAGE_RCPT) {
		rest = view_trim(view_from(rest, 3));	/* "TO:" */
		if (address_path(&rest, false, &rcpt, &utf8) == ADDRESS_OK)
			ev.rcpt = buf_view(&rcpt);
	}
	session_log_event(s, &ev);
	buf_free(&rcpt);
}

static const char *
answer_word(enum milter_says says, bool soft)
{
	if (says == MILTER_SAYS_HANG_UP)
		return soft ? "soft: would milter-shutdown" :
		    "milter-shutdown";
	return soft ? "soft: would milter-reject" : "milter-reject";
}

/* False: it was refused, and answered. */
static bool
answer_take(struct session *s, const struct milter_answer *a)
{
	struct milter_talk *m = s->milter;
	/* The role goes on as well. */
	bool soft = s->server->cf->soft_mode;
	char *text;

	if (a->says == MILTER_SAYS_GO_ON)
		return true;
	if (a->says == MILTER_SAYS_DISCARD) {
		/* The role knows, and says so when the message is there. */
		answer_log(s, soft ? "soft: would milter-discard" :
		    "milter-discard", "milter triggers DISCARD action");
		s->server->soft += soft;
		return true;
	}
	text = mem_printf("%u %.*s", a->code, VIEW_ARGS(a->text));
	answer_log(s, answer_word(a->says, soft), log_safe(view_of(text)));
	free(text);
	if (soft) {
		s->server->soft++;
		return true;
	}
	s->server->refused++;
	s->hangup = s->hangup || a->says == MILTER_SAYS_HANG_UP;
	/* As with sendmail and Postfix: to the client itself a filter's text
	 * is not the greeting, but what it hears at MAIL. */
	if (a->says == MILTER_SAYS_REFUSE &&
	    (m->stage == MILTER_STAGE_CONNECT ||
	    m->stage == MILTER_STAGE_HELO)) {
		m->unwelcome = a->code >= 500;
		return true;
	}
	if (m->stage == MILTER_STAGE_CONNECT)
		session_refuse(s, "421 %s Service unavailable - try again "
		    "later", s->server->cf->myhostname);
	else
		session_refuse_lines(s, a->code, a->text);
	if (m->stage == MILTER_STAGE_MAIL)
		session_enter(s, SMTP_GREETED);
	return false;
}

bool
milter_greets(const struct session *s)
{
	return s->milter == NULL || !s->milter->unwelcome;
}

/* There is no role: what its settings say of a filter that is not there. */
static void
answer_default(struct session *s, struct milter_answer *a)
{
	enum milter_default action =
	    (enum milter_default)s->server->milter_default;
	const char *text;
	uint16_t code = milter_default_reply(action, &text);

	*a = (struct milter_answer){ .says = code == 0 ?
		MILTER_SAYS_GO_ON : code == 421 ? MILTER_SAYS_HANG_UP :
		MILTER_SAYS_REFUSE, .code = code, .text = view_of(text) };
	s->milter->hold = s->milter->hold ||
	    (action == MILTER_DEFAULT_QUARANTINE &&
	    !s->server->cf->soft_mode);
}

/* What was told may go on; or its refusal. */
static void
talk_go_on(struct session *s, enum milter_stage stage, struct view args,
    bool ok)
{
	switch (stage) {
	case MILTER_STAGE_CONNECT:
		session_greeting(s);
		break;
	case MILTER_STAGE_HELO:
	case MILTER_STAGE_RCPT:
	case MILTER_STAGE_DATA:
		if (ok)
			verb_rules[s->verb].proceed(s, args);
		break;
	case MILTER_STAGE_MAIL:
		if (ok)
			mail_accepted(s);
		break;
	case MILTER_STAGE_UNKNOWN:
		if (ok)
			command_not_known(s);
		break;
	case MILTER_STAGE_REFUSED:
	case MILTER_STAGE_ABORT:
	case MILTER_STAGE_QUIT:
	case MILTER_STAGES:
		break;
	}
}

/* No filter is for this client, and the role has forgotten it. */
static void
talk_none(struct session *s)
{
	struct milter_talk *m = s->milter;

	s->milter = NULL;
	if (m->link != NULL)
		milter_link_release(m->link);
	free(m->args);
	free(m);
}

static void
talk_answer(struct session *s, const struct milter_answer *a)
{
	struct milter_talk *m = s->milter;
	enum milter_stage stage = m->stage;
	char *args = m->args;
	size_t n = m->args_n;
	bool ok = true;

	/* What we refused before is refused, whatever filters think. */
	if (stage != MILTER_STAGE_REFUSED)
		ok = answer_take(s, a);
	/* What goes on may wait for something itself. */
	m->args = NULL;
	m->args_n = 0;
	if ((m->waits & 1u << MILTER_STAGE_CONNECT) == 0)
		talk_none(s);
	talk_go_on(s, stage, view_make(args, n), ok);
	free(args);
}

/* -- the session's side ---------------------------------------------------- */

/* There is a role that hears it.  False: there is none, and *ret says whether
 * the session goes on without it. */
static bool
talk_works(struct session *s, enum milter_stage stage, struct view args,
    bool *ret)
{
	struct milter_talk *m = s->milter;
	struct milter_answer a;

	*ret = true;
	if (m == NULL)
		return false;
	if (m->link != NULL)
		return true;
	/* An unknown command is refused anyway. */
	if (stage == MILTER_STAGE_UNKNOWN || stage == MILTER_STAGE_REFUSED)
		return false;
	answer_default(s, &a);
	m->stage = stage;
	/* for the log */
	m->args = mem_copy(args);
	m->args_n = args.n;
	*ret = answer_take(s, &a);
	free(m->args);
	m->args = NULL;
	m->args_n = 0;
	return false;
}

bool
milter_connect(struct session *s)
{
	char addr[NETADDR_TEXT], own[NETADDR_TEXT], port[8], own_port[8];
	char *name, *who;
	struct telling t;
	bool go_on;

	if (!s->server->milters)
		return true;
	if (++s->server->milter_serial == 0)
		s->server->milter_serial = 1;
	s->milter = mem_alloc(sizeof *s->milter);
	s->milter->no = s->server->milter_serial;
	s->milter->waits = ~1u;
	s->milter->link = milter_link_take();
	if (!talk_works(s, MILTER_STAGE_CONNECT, view_of(""), &go_on))
		return go_on;
	(void)netaddr_text(&s->addr, addr);
	(void)netaddr_text(&s->local, own);
	(void)snprintf(port, sizeof port, "%u", s->addr.port);
	(void)snprintf(own_port, sizeof own_port, "%u", s->local.port);
	/* libmilter's documentation of xxfi_connect */
	name = s->name_status == NAME_OK ?
	    mem_copy(session_client_name(s)) : mem_printf("[%s]", addr);
	/* as sendmail's and Postfix's */
	who = mem_printf("%s [%s]%s", s->reverse != NULL ? s->reverse :
	    "unknown", addr, s->reverse != NULL &&
	    s->name_status != NAME_OK ? " (may be forged)" : "");
	telling_init(&t, s, MILTER_STAGE_CONNECT);
	telling_value(&t, "_", view_of(who));
	telling_value(&t, "client_name", view_of(name));
	telling_value(&t, "client_addr", view_of(addr));
	telling_value(&t, "client_port", view_of(port));
	telling_value(&t, "client_ptr", view_of(s->reverse != NULL ?
	    s->reverse : "unknown"));
	telling_value(&t, "client_resolve", view_of(
	    s->name_status == NAME_OK ? "OK" : s->name_status ==
	    NAME_TEMPFAIL ? "TEMP" : s->reverse != NULL ? "FORGED" :
	    "FAIL"));
	telling_value(&t, "daemon_addr", view_of(own));
	telling_value(&t, "if_addr", view_of(own));
	telling_value(&t, "daemon_port", view_of(own_port));
	telling_arg(&t, view_of(name));
	telling_arg(&t, s->addr.family != 0 ? view_of(addr) : view_of(""));
	telling_arg(&t, view_of(port));
	go_on = telling_send(&t, view_of(""));
	free(name);
	free(who);
	return go_on;
}

static void
telling_rcpt(struct telling *t, struct view args)
{
	telling_path(t, args, "TO:");
	telling_value(t, "rcpt_addr", telling_bare(t));
	telling_value(t, "rcpt_host", telling_host(t));
	telling_value(t, "rcpt_mailer", view_of("smtp"));
	t->wait = t->wait ||
	    t->s->tx->nrcpts % RCPTS_AT_ONCE == RCPTS_AT_ONCE - 1;
}

/* As sendmail has them; names out of a certificate that somebody we know has
 * signed. */
static void
telling_tls(struct telling *t, const struct policy_facts *f, char bits[16])
{
	if (f->tls_protocol.n == 0)
		return;
	(void)snprintf(bits, 16, "%u", f->tls_bits);
	telling_value(t, "tls_version", f->tls_protocol);
	telling_value(t, "cipher", f->tls_cipher);
	telling_value(t, "cipher_bits", view_of(bits));
	telling_value(t, "tls_sni", f->tls_sni);
	if (!f->tls_trusted)
		return;
	telling_value(t, "cert_subject", f->tls_subject);
	telling_value(t, "cert_issuer", f->tls_issuer);
}

bool
milter_verb(struct session *s, struct view args)
{
	struct policy_facts tls = { .tls_trusted = false };
	enum milter_stage stage;
	char bits[16];
	struct telling t;
	bool go_on;

	switch ((int)s->verb) {
	case VERB_HELO:
	case VERB_EHLO:
		stage = MILTER_STAGE_HELO;
		break;
	case VERB_RCPT:
		stage = MILTER_STAGE_RCPT;
		break;
	case VERB_BDAT:
		/* Once for a message. */
		if (s->state == SMTP_BDAT)
			return true;
		stage = MILTER_STAGE_DATA;
		break;
	case VERB_DATA:
		stage = MILTER_STAGE_DATA;
		break;
	default:
		return true;
	}
	if (!talk_works(s, stage, args, &go_on))
		return go_on;
	telling_init(&t, s, stage);
	if (stage == MILTER_STAGE_HELO) {
		tls_facts(s, &tls);
		telling_tls(&t, &tls, bits);
		telling_arg(&t, view_head(args, HELO_NAME_MAX));
	} else if (stage == MILTER_STAGE_RCPT)
		telling_rcpt(&t, args);
	return telling_send(&t, args);
}

/* Who logged in, and for whom he says that he speaks. */
static void
telling_login(struct telling *t)
{
	struct policy_facts f = { .utf8 = false };

	auth_facts(t->s, &f);
	if (f.login.n == 0)
		return;
	telling_value(t, "auth_type", f.login_method);
	telling_value(t, "auth_authen", f.login);
	if (f.login_sender.n > 0)
		telling_value(t, "auth_author", f.login_sender);
}

bool
milter_mail(struct session *s, struct view args)
{
	char id[QUEUE_ID_TEXT];
	struct telling t;
	bool go_on;

	if (s->milter != NULL)
		s->milter->hold = false;
	if (!talk_works(s, MILTER_STAGE_MAIL, args, &go_on))
		return go_on;
	s->milter->told = true;
	telling_init(&t, s, MILTER_STAGE_MAIL);
	telling_path(&t, args, "FROM:");
	telling_value(&t, "i", view_of(session_queue_id(s, id)));
	telling_value(&t, "mail_addr", telling_bare(&t));
	telling_value(&t, "mail_host", telling_host(&t));
	telling_value(&t, "mail_mailer", view_of("smtp"));
	telling_login(&t);
	return telling_send(&t, args);
}

bool
milter_unknown(struct session *s, struct view line)
{
	struct telling t;
	bool go_on;

	if (!talk_works(s, MILTER_STAGE_UNKNOWN, line, &go_on))
		return true;
	telling_init(&t, s, MILTER_STAGE_UNKNOWN);
	telling_arg(&t, line);
	return telling_send(&t, line);
}

/* As sendmail and Postfix tell it: the mailer is "error". */
void
milter_refused(struct session *s, struct view rcpt, const char *status,
    const char *text)
{
	struct telling t;
	bool go_on;

	if (s->milter == NULL || (s->milter->waits & 1) == 0 ||
	    !talk_works(s, MILTER_STAGE_REFUSED, rcpt, &go_on))
		return;
	telling_init(&t, s, MILTER_STAGE_REFUSED);
	(void)buf_putc(&t.address, '<');
	(void)address_quote(rcpt, &t.address);
	(void)buf_putc(&t.address, '>');
	telling_arg(&t, buf_view(&t.address));
	telling_value(&t, "rcpt_mailer", view_of("error"));
	telling_value(&t, "rcpt_host", view_of(status));
	telling_value(&t, "rcpt_addr", view_of(text));
	(void)telling_send(&t, rcpt);
}

/* An event that nobody answers. */
static void
talk_tell(struct session *s, enum milter_stage stage)
{
	struct telling t;

	telling_init(&t, s, stage);
	t.wait = false;
	(void)telling_send(&t, view_of(""));
}

void
milter_end(struct session *s, bool sealed)
{
	struct milter_talk *m = s->milter;

	if (m == NULL)
		return;
	if (m->told && !sealed && m->link != NULL)
		talk_tell(s, MILTER_STAGE_ABORT);
	m->told = m->hold = false;
}

void
milter_free(struct session *s, bool sealed)
{
	struct milter_talk *m = s->milter;

	if (m == NULL)
		return;
	s->milter = NULL;
	if (m->link != NULL) {
		struct buf *b = chan_begin(milter_link_chan(m->link),
		    MSG_MILTER);

		put_u32(b, m->no);
		put_u32(b, 0);
		put_u8(b, MILTER_STAGE_QUIT);
		put_u32(b, 0);
		/* A message of it is still judged. */
		put_u32(b, sealed ? 1 : 0);
		if (sealed)
			put_view(b, view_of("sealed"));
		chan_end(milter_link_chan(m->link));
		milter_link_release(m->link);
	}
	free(m->args);
	free(m);
}

void
milter_answered(struct session *s, const struct milter_answer *a)
{
	struct milter_talk *m = s->milter;

	m->waits = a->waits;
	/* For milter_resume(). */
	s->server->milter_answer = a;
	session_resume(s);
}

void
milter_resume(struct session *s)
{
	const struct milter_answer *a = s->server->milter_answer;
	struct milter_answer none;

	s->server->milter_answer = NULL;
	if (a == NULL) {
		answer_default(s, &none);
		a = &none;
	}
	talk_answer(s, a);
}

void
milter_lost(struct session *s)
{
	struct milter_talk *m = s->milter;
	struct milter_link *l = m->link;

	m->link = NULL;
	if (s->wait == WAIT_MILTER)
		session_resume(s);
	milter_link_release(l);
}

void
milter_give_up(struct session *s)
{
	struct milter_link *l = s->milter->link;

	log_warn("%s: no answer from the milter role", s->name);
	/* It is told that this is over, whatever it thinks. */
	talk_tell(s, MILTER_STAGE_QUIT);
	s->milter->link = NULL;
	session_resume(s);
	milter_link_release(l);
}
