/*
 *	auth = "AUTH" SP sasl-mech [SP initial-response] CRLF
 *	       *(base64 CRLF) / "*" CRLF
 *	initial-response = base64 / "="
 *
 * RFC 4954.  Nothing of a response is ever logged, mailed or kept.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lib/chan.h"
#include "lib/dsn.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_tls.h"
#include "rules/addr_list.h"

#define STEPS_MAX	32u	/* challenges; no mechanism has so many */
#define GRACE_MS	5000	/* the auth role gives up before we do */
#define LINE_SPARE	64u	/* "AUTH", a mechanism, blanks, CRLF */

struct session_auth {
	struct auth_link *link;	/* NULL: it is gone */
	uint32_t conversation;
	unsigned steps;
	bool skipping;		/* a line that is too long */
	char method[SASL_MECHANISM_MAX + 1];
};

/* -- what s may do ---------------------------------------------------------- */

static bool
auth_enabled(const struct session *s)
{
	const struct auth_service *a = s->server->auth;

	return a != NULL && a->announced && (s->offers & OFFER_AUTH) != 0 &&
	    net_list_match(a->exceptions, session_client_name(s),
	    &s->addr) == TABLE_NOT_FOUND;
}

bool
auth_ehlo(const struct session *s, struct buf *out)
{
	const struct auth_service *a = s->server->auth;
	const char *list;

	if (!auth_enabled(s))
		return true;
	list = tls_active(s) ? a->text_tls : a->text_plain;
	if (list[0] == '\0')
		return true;
	return buf_printf(out, "250-AUTH %s\r\n", list) &&
	    (!a->cf->broken_sasl_auth_clients ||
	    buf_printf(out, "250-AUTH=%s\r\n", list));
}

static const struct auth_mechanism *
mechanism_find(const struct session *s, struct view name)
{
	const struct auth_service *a = s->server->auth;
	const struct auth_mechanism *m;
	uint32_t i;

	for (i = 0; i < a->n; i++) {
		m = &a->list[i];
		if (view_is_nocase(name, m->name))
			return (tls_active(s) ? m->tls : m->plain) ? m : NULL;
	}
	return NULL;
}

struct view
auth_shown(struct view line)
{
	struct view rest = line, word = view_word(&rest, " \t");

	if (!view_is_nocase(word, "AUTH"))
		return line;
	word = view_word(&rest, " \t");
	return word.n <= SASL_MECHANISM_MAX ? view_head(line,
	    word.n > 0 ? (size_t)(word.p + word.n - line.p) : line.n) :
	    view_head(line, 4);
}

size_t
auth_command_limit(const struct session *s, struct view in)
{
	const struct conf *cf = s->server->cf;
	int64_t limit = cf->line_length_limit;

	if (s->server->auth != NULL && view_starts_nocase(in, "AUTH ") &&
	    limit < cf->smtpd_sasl_response_limit + LINE_SPARE)
		limit = cf->smtpd_sasl_response_limit + LINE_SPARE;
	return (size_t)limit;
}

/* -- the end of a conversation ---------------------------------------------- */

static void
talk_end(struct session *s)
{
	struct session_auth *a = s->auth;

	session_ask_end(s);
	s->auth = NULL;
	if (a->link != NULL)
		auth_link_release(a->link);
	free(a);
}

/* The client gives up, or says what is none of this; or nobody answers. */
static void
talk_stop(struct session *s)
{
	struct buf *b;

	if (s->auth->link != NULL) {
		b = chan_begin(auth_link_chan(s->auth->link), MSG_AUTH_STOP);
		(void)put_u32(b, s->auth->conversation);
		chan_end(auth_link_chan(s->auth->link));
	}
	talk_end(s);
}

static void
login_forget(struct session *s)
{
	if (s->login == NULL)
		return;
	free(s->login->name);
	free(s->login->method);
	free(s->login->sender);
	free(s->login);
	s->login = NULL;
}

void
auth_forget(struct session *s)
{
	if (s->auth != NULL)
		talk_stop(s);
	login_forget(s);
}

/* As Postfix logs it: programs that shut out guessers read it. */
static void
auth_log_failed(const struct session *s, const char *method,
    struct view reason, struct view login)
{
	struct buf b;

	buf_init(&b, 2000);
	(void)buf_printf(&b, "%s: SASL %s authentication failed: %s", s->name,
	    method, reason.n > 0 ? log_safe(reason) : "(reason unavailable)");
	if (login.n > 0)
		(void)buf_printf(&b, ", sasl_username=%s", log_safe(login));
	log_warn("%s", buf_cstr(&b));
	buf_free(&b);
}

static void
auth_refused(struct session *s, const char *method, struct view reason,
    struct view login)
{
	auth_log_failed(s, method, reason, login);
	s->server->refused++;
	notice_policy(s);
	session_refuse(s, "535 5.7.8 Error: authentication failed: %s",
	    reason.n > 0 ? log_safe(reason) : "(reason unavailable)");
}

static void
auth_unavailable(struct session *s, const char *method, struct view reason)
{
	auth_log_failed(s, method, reason, view_of(""));
	session_refuse(s, "454 4.7.0 Temporary authentication failure: %s",
	    reason.n > 0 ? log_safe(reason) : "try again later");
}

/* -- the verb --------------------------------------------------------------- */

static bool
auth_mechanism_check(struct session *s, struct view word)
{
	char method[SASL_MECHANISM_MAX + 1];

	if (mechanism_find(s, word) != NULL)
		return true;
	(void)snprintf(method, sizeof method, "%s",
	    log_safe(view_head(word, SASL_MECHANISM_MAX)));
	if (s->server->auth->n == 0) {
		auth_unavailable(s, method, view_of("no authentication "
		    "server"));
		return false;
	}
	auth_log_failed(s, method, view_of("Invalid authentication "
	    "mechanism"), view_of(""));
	session_refuse(s, "504 5.5.4 Error: authentication failed: Invalid "
	    "authentication mechanism");
	return false;
}

bool
auth_check(struct session *s, struct view args)
{
	struct view rest = args, word = view_word(&rest, " \t");
	struct view response = view_trim(rest);

	if (!auth_enabled(s))
		session_refuse(s, "503 5.5.1 Error: authentication not "
		    "enabled");
	else if (s->login != NULL)
		session_refuse(s, "503 5.5.1 Error: already authenticated");
	else if (s->server->cf->smtpd_tls_auth_only && !tls_active(s))
		session_refuse(s, "538 5.7.0 Encryption required for "
		    "requested authentication mechanism");
	else if (word.n == 0 || view_find(response, ' ') < response.n ||
	    view_find(response, '\t') < response.n)
		session_refuse(s, "501 5.5.4 Syntax: AUTH mechanism");
	else if (!auth_mechanism_check(s, word))
		;
	else if (!view_is(response, "=") && (response.n >
	    (size_t)s->server->cf->smtpd_sasl_response_limit ||
	    !sasl_base64_good(response)))
		session_refuse(s, "501 5.5.2 Error: cannot decode response");
	else
		return true;
	return false;
}

static void
auth_await(struct session *s)
{
	session_wait_for(s, WAIT_AUTH,
	    s->server->cf->smtpd_sasl_time_limit + GRACE_MS);
}

void
auth_proceed(struct session *s, struct view args)
{
	struct view rest = args, word = view_word(&rest, " \t");
	struct view response = view_trim(rest);
	const struct conf *cf = s->server->cf;
	char client[NETADDR_TEXT], local[NETADDR_TEXT];
	struct session_auth *a;
	struct auth_link *l;
	struct buf *b;

	l = auth_link_take();
	a = mem_alloc(sizeof *a);
	(void)snprintf(a->method, sizeof a->method, "%s",
	    mechanism_find(s, word)->name);
	if (l == NULL) {
		auth_unavailable(s, a->method,
		    view_of("no authentication server"));
		free(a);
		return;
	}
	a->link = l;
	s->auth = a;
	a->conversation = session_ask(s, l);
	b = chan_begin(auth_link_chan(l), MSG_AUTH_BEGIN);
	(void)put_u32(b, a->conversation);
	(void)put_view(b, view_trim(view_of(cf->smtpd_sasl_path)));
	(void)put_view(b, view_of(a->method));
	(void)put_view(b, view_head(view_of(cf->smtpd_sasl_service), 255));
	(void)put_view(b, view_head(view_of(cf->smtpd_sasl_local_domain),
	    255));
	(void)put_u8(b, tls_active(s));
	(void)put_view(b, view_head(tls_session_name(s), 255));
	(void)put_view(b, view_of(netaddr_text(&s->addr, client)));
	(void)put_u16(b, s->addr.port);
	(void)put_view(b, view_of(netaddr_text(&s->local, local)));
	(void)put_u16(b, s->local.port);
	(void)put_u8(b, response.n > 0);
	(void)put_view(b, view_is(response, "=") ? view_of("") : response);
	chan_end(auth_link_chan(l));
	auth_await(s);
}

/* -- responses -------------------------------------------------------------- */

bool
auth_expects(const struct session *s)
{
	return s->auth != NULL;
}

static void
auth_response(struct session *s, struct view line)
{
	struct session_auth *a = s->auth;
	struct buf *b;

	if (view_is(line, "*")) {
		talk_stop(s);
		session_refuse(s, "501 5.7.0 Authentication aborted");
		return;
	}
	if (!sasl_base64_good(line)) {
		talk_stop(s);
		session_refuse(s, "501 5.5.2 Error: cannot decode response");
		return;
	}
	if (a->link == NULL) {
		auth_unavailable(s, a->method, view_of("Connection lost to "
		    "authentication server"));
		talk_end(s);
		return;
	}
	b = chan_begin(auth_link_chan(a->link), MSG_AUTH_GO_ON);
	(void)put_u32(b, a->conversation);
	(void)put_view(b, line);
	chan_end(auth_link_chan(a->link));
	auth_await(s);
}

size_t
auth_line(struct session *s, struct view in)
{
	size_t limit = (size_t)s->server->cf->smtpd_sasl_response_limit + 2;
	size_t lf = view_find(in, '\n');
	struct session_auth *a = s->auth;

	if (lf == in.n) {
		if (!a->skipping && in.n <= limit)
			return 0;
		a->skipping = in.n > 0 || a->skipping;
		return in.n;
	}
	if (a->skipping || lf > limit) {
		/* RFC 4954 section 4 */
		talk_stop(s);
		session_refuse(s, "500 5.5.6 Error: authentication exchange "
		    "line is too long");
	} else {
		notice_said(s, "In", view_of("(response)"));
		auth_response(s, view_trim(view_head(in, lf)));
	}
	command_pause(s);
	return lf + 1;
}

/* -- answers ---------------------------------------------------------------- */

static void
auth_challenge(struct session *s, struct view text)
{
	if (++s->auth->steps > STEPS_MAX) {
		auth_unavailable(s, s->auth->method,
		    view_of("too many challenges"));
		talk_stop(s);
		return;
	}
	notice_said(s, "Out", view_of("334 (challenge)"));
	/* Longer than other replies. */
	if (!buf_puts(&s->out, "334 ") || !buf_putv(&s->out, text) ||
	    !buf_puts(&s->out, "\r\n"))
		s->hangup = true;
}

void
auth_trust(struct session *s, struct view login, const char *method)
{
	ensure(s->login == NULL);
	s->login = mem_alloc(sizeof *s->login);
	s->login->name = mem_copy(login);
	s->login->method = mem_strdup(method);
}

static void
auth_success(struct session *s, struct view login)
{
	auth_trust(s, login, s->auth->method);
	talk_end(s);
	session_accept(s, VERB_AUTH, "235 2.7.0 Authentication successful");
}

void
auth_answered(struct session *s, enum auth_says says, struct view text,
    struct view login)
{
	char method[SASL_MECHANISM_MAX + 1];

	ensure(s->wait == WAIT_AUTH && s->auth != NULL);
	memcpy(method, s->auth->method, sizeof method);
	switch (says) {
	case AUTH_SAYS_CHALLENGE:
		auth_challenge(s, text);
		break;
	case AUTH_SAYS_SUCCESS:
		auth_success(s, login);
		break;
	case AUTH_SAYS_FAILURE:
		talk_end(s);
		auth_refused(s, method, text, login);
		break;
	case AUTH_SAYS_TEMPORARY:
		talk_end(s);
		auth_unavailable(s, method, text);
		break;
	}
	session_resume(s);
}

void
auth_give_up(struct session *s)
{
	auth_unavailable(s, s->auth->method, view_of("no answer of the "
	    "authentication server"));
	talk_stop(s);
	session_resume(s);
}

void
auth_lost(struct session *s)
{
	if (s->auth == NULL)
		return;
	s->auth->link = NULL;
	if (s->wait != WAIT_AUTH)
		return;		/* the client hears of it when it goes on */
	auth_answered(s, AUTH_SAYS_TEMPORARY, view_of("Connection lost to "
	    "authentication server"), view_of(""));
}

/* -- what is known of it ---------------------------------------------------- */

/* RFC 4954 section 5: "<>" or xtext. */
static bool
sender_decode(struct view value, struct buf *out)
{
	return view_is(value, "<>") || (value.n > 0 &&
	    xtext_get(out, value) && sasl_login_good(buf_view(out)));
}

bool
auth_sender_good(struct view value)
{
	struct buf b;
	bool good;

	buf_init(&b, SASL_LOGIN_MAX);
	good = sender_decode(value, &b);
	buf_free(&b);
	return good;
}

void
auth_sender(struct session *s, struct view value)
{
	struct buf b;

	/* The word of who is nobody is worth nothing. */
	if (s->login == NULL)
		return;
	free(s->login->sender);
	s->login->sender = NULL;
	buf_init(&b, SASL_LOGIN_MAX);
	if (value.n > 0 && sender_decode(value, &b) && b.n > 0)
		s->login->sender = mem_copy(buf_view(&b));
	buf_free(&b);
}

void
auth_facts(const struct session *s, struct policy_facts *f)
{
	if (s->login == NULL)
		return;
	f->login = view_of(s->login->name);
	f->login_method = view_of(s->login->method);
	if (s->login->sender != NULL)
		f->login_sender = view_of(s->login->sender);
}

void
auth_log(const struct session *s, struct buf *b)
{
	if (s->login == NULL)
		return;
	(void)buf_printf(b, ", sasl_method=%s", s->login->method);
	(void)buf_printf(b, ", sasl_username=%s",
	    log_safe(view_of(s->login->name)));
	if (s->login->sender != NULL)
		(void)buf_printf(b, ", sasl_sender=%s",
		    log_safe(view_of(s->login->sender)));
}
