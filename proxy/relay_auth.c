/* AUTH in the conversation of a session. */
#include <stdlib.h>
#include <string.h>

#include "lib/conf_choice.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_auth.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_sasl.h"
#include "proxy/relay_smtp.h"
#include "proxy/relay_tls.h"

#define SAID_MAX	1000u
#define CHALLENGE_MAX	(RELAY_REPLY_LINE_MAX - 16)
#define COMMAND_MAX	(SASL_TEXT_MAX + 64)

struct session_auth {
	struct relay_credentials_question *asked;
	char *user, *secret;
	bool token;
	bool renewed;		/* the server has refused another token */
	uint32_t refused;	/* mechanisms that the server does not take */
	struct relay_sasl *exchange;
	struct relay_binding binding;
};

bool
relay_auth_open(struct relay *r)
{
	const struct conf *cf = r->conf;

	if (cf->smtp_sasl_auth_enable && !relay_sasl_open())
		fatal("OpenSSL lacks what SASL needs");
	r->auth_filter = word_list_open("smtp_sasl_mechanism_filter",
	    cf->smtp_sasl_mechanism_filter, cf->config_directory,
	    log_report_errors, NULL);
	return r->auth_filter != NULL;
}

static void
auth_forget(struct session_auth *a)
{
	relay_sasl_free(&a->exchange);
	if (a->secret != NULL)
		explicit_bzero(a->secret, strlen(a->secret));
	free(a->secret);
	free(a->user);
	a->secret = a->user = NULL;
	explicit_bzero(&a->binding, sizeof a->binding);
}

void
relay_auth_free(struct session *s)
{
	if (s->auth == NULL)
		return;
	relay_credentials_cancel(&s->auth->asked);
	auth_forget(s->auth);
	free(s->auth);
	s->auth = NULL;
}

struct view
relay_auth_sender(const struct delivery *d)
{
	const struct conf *cf = d->relay->conf;

	return cf->smtp_sasl_auth_enable &&
	    cf->smtp_sender_dependent_authentication ? d->env.sender :
	    view_of("");
}

/* -- how it ends ----------------------------------------------------------- */

/* Not with this server, for now; frees why. */
static void
auth_failed(struct session *s, const char *dsn, enum relay_state to,
    char *why)
{
	struct delivery *d = s->delivery;

	relay_auth_free(s);
	delivery_trouble(d, TROUBLE_CONNECT, why);
	delivery_failed(d, WHOM_OPEN, 0, true, dsn, why);
	free(why);
	smtp_finish(s, to);
}

/* It is who it should be to the server, or nobody to it: mail may follow. */
static void
auth_done(struct session *s, bool authenticated)
{
	relay_auth_free(s);
	s->auth_settled = true;
	s->authenticated = authenticated;
	delivery_ready(s->delivery);
	smtp_begin(s);
}

/* The server does what it must not: nothing more is said to it. */
static void
auth_broken(struct session *s, const char *what)
{
	const char *name = relay_mechanisms[relay_sasl_mechanism(
	    s->auth->exchange)].name;

	log_warn("%s: SASL %s authentication failed: %s", s->peer, name, what);
	auth_failed(s, "4.7.0", RELAY_CLOSED, mem_printf("SASL authentication "
	    "failed; cannot authenticate to server %s with %s: %s",
	    s->peer_short, name, what));
}

/* -- which way ------------------------------------------------------------- */

static uint32_t
auth_options(const struct session *s)
{
	const struct conf *cf = s->relay->conf;

	switch (relay_tls_strength(s)) {
	case RELAY_TLS_VERIFIED:
		return conf_choice("smtp_sasl_tls_verified_security_options",
		    view_of(cf->smtp_sasl_tls_verified_security_options));
	case RELAY_TLS_ENCRYPTED:
		return conf_choice("smtp_sasl_tls_security_options",
		    view_of(cf->smtp_sasl_tls_security_options));
	case RELAY_TLS_NONE:
		break;
	}
	return conf_choice("smtp_sasl_security_options",
	    view_of(cf->smtp_sasl_security_options));
}

/* Is this one for this login, on this connection? */
static bool
auth_fits(const struct session *s, enum relay_mechanism m)
{
	const struct relay_mechanism_info *i = &relay_mechanisms[m];

	return i->token == s->auth->token &&
	    (!i->binding || s->auth->binding.type != NULL) &&
	    (!i->token || relay_tls_strength(s) != RELAY_TLS_NONE) &&
	    sasl_permitted(auth_options(s), i->properties) &&
	    (view_trim(view_of(s->relay->conf->smtp_sasl_mechanism_filter)).n
	    == 0 || word_list_match(s->relay->auth_filter,
	    view_of(i->name)) == TABLE_FOUND);
}

static enum relay_mechanism
auth_choose(const struct session *s)
{
	uint32_t left = s->ehlo.mechanisms & ~s->auth->refused;
	int m;

	for (m = 1; m < MECHANISMS; m++)
		if ((left & 1u << m) != 0 && auth_fits(s, m))
			return m;
	return MECHANISM_NONE;
}

/* The best mechanism that is left; false: none is. */
static bool
auth_begin(struct session *s)
{
	struct session_auth *a = s->auth;
	enum relay_mechanism m, bound;
	struct relay_sasl_about about;

	relay_sasl_free(&a->exchange);
	relay_tls_binding(s, &a->binding);
	m = auth_choose(s);
	if (m == MECHANISM_NONE)
		return false;
	bound = m == MECHANISM_SCRAM_SHA_1 ? MECHANISM_SCRAM_SHA_1_PLUS :
	    MECHANISM_SCRAM_SHA_256_PLUS;
	about = (struct relay_sasl_about){ .mechanism = m,
		.user = view_of(a->user), .secret = view_of(a->secret),
		.host = view_of(s->host), .port = s->addr.port,
		.binding = &a->binding,
		/* The server must have taken it from its offer itself. */
		.could_bind = auth_fits(s, bound) &&
		    (s->ehlo.mechanisms & 1u << bound) == 0 };
	a->exchange = relay_sasl_new(&about, NULL);
	return true;
}

static void
auth_no_mechanism(struct session *s)
{
	auth_failed(s, "4.7.0", RELAY_QUIT, mem_printf(
	    "SASL authentication failed; server %s offered no compatible "
	    "authentication mechanisms for this type of connection security",
	    s->peer_short));
}

/* -- what the credentials role says ---------------------------------------- */

static void
auth_found(struct session *s, const struct relay_credentials *c)
{
	struct session_auth *a = s->auth;

	auth_forget(a);
	a->user = mem_copy(c->user);
	a->secret = mem_copy(c->secret);
	a->token = c->answer == CREDENTIALS_TOKEN;
	if ((s->ehlo.features & FEATURE_AUTH) == 0)
		auth_failed(s, "4.7.0", RELAY_QUIT, mem_printf("SASL "
		    "login/password exists, but host %s does not announce "
		    "SASL authentication support", s->peer_short));
	else if (s->plain && !relay_tls_active(s) && s->delivery->tls != NULL)
		/* Whoever broke its TLS may want the login. */
		auth_failed(s, "4.7.4", RELAY_QUIT, mem_printf("SASL "
		    "login/password exists, but TLS with host %s does not "
		    "work", s->peer_short));
	else if (auth_begin(s))
		session_enter(s, RELAY_AUTH);
	else
		auth_no_mechanism(s);
}

/* As it was when it was tried; why: "5.7.8 535 5.7.8 ..." */
static void
auth_refused_before(struct session *s, struct view why)
{
	struct view said = why, status = view_word(&said, " ");
	char dsn[RELAY_STATUS_MAX] = "5.7.8";

	said = view_trim(said);
	if (status.n > 0 && status.n < sizeof dsn &&
	    relay_status_size(status, '5') == status.n)
		(void)snprintf(dsn, sizeof dsn, "%.*s", VIEW_ARGS(status));
	if (s->relay->conf->smtp_sasl_auth_soft_bounce)
		dsn[0] = '4';
	auth_failed(s, dsn, RELAY_QUIT, mem_printf("SASL [CACHED] "
	    "authentication failed; server %s said: %s", s->peer_short,
	    log_safe(said)));
}

static void
auth_told(const struct relay_credentials *c, void *arg)
{
	struct session *s = arg;
	struct view why;

	s->auth->asked = NULL;
	switch (c->answer) {
	case CREDENTIALS_PASSWORD:
	case CREDENTIALS_TOKEN:
		auth_found(s, c);
		return;
	case CREDENTIALS_NONE:
		if (!s->auth->renewed) {
			auth_done(s, false);
			return;
		}
		break;
	case CREDENTIALS_REFUSED:
		auth_refused_before(s, c->why);
		return;
	case CREDENTIALS_FAILED:
	case CREDENTIALS_ANSWERS:
		break;
	}
	why = c->why.n > 0 ? c->why : view_of("there is none any more");
	log_warn("%s: login: %s", s->peer, log_safe(why));
	/* Why is not for those outside who get a notice. */
	auth_failed(s, "4.7.0", RELAY_QUIT, mem_printf(
	    "SASL login/password lookup error for host %s", s->peer_short));
}

void
relay_auth_ask(struct session *s)
{
	struct delivery *d = s->delivery;
	struct relay_credentials_about about = {
		.sender = relay_auth_sender(d), .next_hop = d->hop_text,
		.host = view_of(s->host), .port = s->addr.port };

	if (s->auth == NULL)
		s->auth = mem_alloc(sizeof *s->auth);
	about.refused = s->auth->renewed;
	s->auth->asked = relay_credentials_ask(&about, auth_told, s);
}

bool
relay_auth_due(struct session *s)
{
	const struct conf *cf = s->relay->conf;

	if (!cf->smtp_sasl_auth_enable || s->auth_settled ||
	    s->delivery->proxy != NULL)
		return false;
	if ((s->ehlo.features & FEATURE_AUTH) == 0 &&
	    !cf->smtp_sasl_auth_enforce)
		return false;
	session_enter(s, RELAY_CREDENTIALS);
	return true;
}

/* -- what is said, and what the server says -------------------------------- */

/* Our response to a challenge; first: it goes with the command. */
static void
auth_respond(struct session *s, struct view challenge, bool first)
{
	struct relay_sasl *x = s->auth->exchange;
	struct buf line, word;
	const char *why = NULL;

	buf_init(&line, COMMAND_MAX);
	buf_init(&word, COMMAND_MAX);
	/* They do not move, which would leave copies. */
	ensure(buf_room(&line, COMMAND_MAX) != NULL);
	ensure(buf_room(&word, COMMAND_MAX) != NULL);
	if (first)
		(void)buf_printf(&line, "AUTH %s",
		    relay_mechanisms[relay_sasl_mechanism(x)].name);
	if ((!first || relay_sasl_first(x)) &&
	    relay_sasl_step(x, challenge, &word, &why) == RELAY_SASL_BAD) {
		auth_broken(s, why);
	} else {
		if (first && relay_sasl_first(x))
			(void)buf_putc(&line, ' ');
		if (!buf_putv(&line, buf_view(&word)) ||
		    !buf_puts(&line, "\r\n"))
			panic("a response over its maximum");
		session_write(s, buf_view(&line));
	}
	explicit_bzero(line.p, line.cap);
	explicit_bzero(word.p, word.cap);
	buf_free(&line);
	buf_free(&word);
}

void
relay_auth_say(struct session *s)
{
	auth_respond(s, view_make("", 0), true);
}

static void
auth_challenged(struct session *s)
{
	struct view line = view_of("");
	size_t pos = 0;

	if (s->reply.lines != 1 || s->reply.code != 334 ||
	    !relay_reply_line(&s->reply, &pos, &line)) {
		auth_broken(s, "a challenge that is none");
		return;
	}
	/* The end of a longer line is not kept. */
	if (line.n >= CHALLENGE_MAX) {
		auth_broken(s, "a challenge that is too long");
		return;
	}
	session_touch(s);
	auth_respond(s, view_trim(line), false);
}

/* So that it is not tried again for a while: smtp_sasl_auth_cache_name. */
static void
auth_remember(struct session *s, const char *dsn, struct view said)
{
	struct relay_credentials_about about = { .host = view_of(s->host),
		.port = s->addr.port };
	struct relay_credentials is = { .user = view_of(s->auth->user),
		.secret = view_of(s->auth->secret) };
	struct buf why;

	if (s->relay->conf->smtp_sasl_auth_cache_name[0] == '\0' ||
	    s->auth->token)
		return;
	buf_init(&why, SAID_MAX + RELAY_STATUS_MAX + 1);
	(void)buf_printf(&why, "%s %.*s", dsn, VIEW_ARGS(said));
	is.why = buf_view(&why);
	relay_credentials_refused(&about, &is);
	buf_free(&why);
}

static void
auth_refused(struct session *s)
{
	struct session_auth *a = s->auth;
	enum relay_mechanism m = relay_sasl_mechanism(a->exchange);
	const char *name = relay_mechanisms[m].name;
	char dsn[RELAY_STATUS_MAX];
	unsigned code = s->reply.code;
	struct view said;
	bool soft = s->relay->conf->smtp_sasl_auth_soft_bounce;

	relay_reply_status(&s->reply, dsn);
	said = relay_reply_said(&s->reply, SAID_MAX);
	log_warn("%s: SASL %s authentication failed for user %s: %s%s%s",
	    s->peer, name, log_safe(view_of(a->user)), log_safe(said),
	    *relay_sasl_detail(a->exchange) != '\0' ? ": " : "",
	    relay_sasl_detail(a->exchange));
	/* That mechanism, not that login: RFC 4954 section 4, RFC 5248. */
	a->refused |= 1u << m;
	if ((code == 504 || code == 534 || code == 538) && auth_begin(s)) {
		session_enter(s, RELAY_AUTH);
		return;
	}
	/* A token that was good may have been revoked or have expired. */
	if (code == 535 && a->token && !a->renewed) {
		a->renewed = true;
		a->refused = 0;
		session_enter(s, RELAY_CREDENTIALS);
		return;
	}
	if (code == 535)
		auth_remember(s, dsn, said);
	if (dsn[0] == '5' && soft)
		dsn[0] = '4';
	auth_failed(s, dsn, code == 421 ? RELAY_CLOSED : RELAY_QUIT,
	    mem_printf("SASL authentication failed; server %s said: %.*s",
	    s->peer_short, VIEW_ARGS(said)));
}

void
relay_auth_reply(struct session *s)
{
	if (s->reply.code / 100 == 3) {
		auth_challenged(s);
	} else if (s->reply.code / 100 != 2) {
		auth_refused(s);
	} else if (!relay_sasl_complete(s->auth->exchange)) {
		auth_broken(s, "the server said yes before it was time");
	} else {
		log_debug("%s: logged in as %s with %s", s->peer,
		    log_safe(view_of(s->auth->user)), relay_mechanisms[
		    relay_sasl_mechanism(s->auth->exchange)].name);
		auth_done(s, true);
	}
}
