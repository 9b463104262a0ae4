/*
 * check_policy_service: what is known of the session goes to a server outside
 * as lines "name=value", and its answer is like a result of an access table
 * (Postfix's SMTPD_POLICY_README).
 */
#include <stdlib.h>

#include "lib/log.h"
#include "rules/policy_priv.h"

/* -- endpoints ------------------------------------------------------------- */

static void
service_complain(struct restriction_reader *rd, const char *why,
    struct view what)
{
	char *text = mem_printf("%s: check_policy_service: %s: \"%.*s\"",
	    rd->what, why, VIEW_ARGS(what));

	rd->report(true, text, rd->arg);
	free(text);
}

/* "inet:host:port" or "unix:path" */
static bool
service_endpoint(struct view v)
{
	struct view rest, host;
	uint16_t port;

	if (view_starts_nocase(v, "unix:"))
		return v.n > 5 && v.n < 100;
	if (!view_starts_nocase(v, "inet:"))
		return false;
	rest = view_from(v, 5);
	return netaddr_split_hostport(rest, &host, &port, 0) && port != 0;
}

static bool
service_option(struct restriction_reader *rd, struct policy_service *s,
    struct view option)
{
	struct view name, value;
	size_t equals;

	if (option.n > 1 && option.p[0] == '{')
		option = view_trim(view_make(option.p + 1, option.n - 2));
	equals = view_find(option, '=');
	name = view_trim(view_head(option, equals));
	value = view_trim(view_from(option, equals + 1));
	if (view_is(name, "timeout")) {
		if (conf_parse_time(value, 's', &s->timeout) &&
		    s->timeout > 0)
			return true;
	} else if (view_is(name, "default_action")) {
		free(s->default_action);
		s->default_action = mem_copy(value);
		return true;
	} else if (view_is(name, "policy_context")) {
		free(s->context);
		s->context = mem_copy(value);
		return true;
	} else if (view_is(name, "max_idle") || view_is(name, "max_ttl") ||
	    view_is(name, "request_limit") || view_is(name, "retry_delay") ||
	    view_is(name, "try_limit")) {
		/* Connections belong to the lookup role, and have the limits
		 * of main.cf. */
		service_complain(rd, "this can be set only in main.cf",
		    name);
		return false;
	}
	service_complain(rd, "bad option", option);
	return false;
}

const struct policy_service *
service_open(struct restriction_reader *rd, struct view spec)
{
	const struct conf *cf = rd->p->cf;
	struct policy_service *s;
	struct view rest = spec, word;
	bool ok = true;

	for (s = rd->p->services; s != NULL; s = s->next)
		if (view_is(spec, s->spec))
			return s;
	s = mem_alloc(sizeof *s);
	s->next = rd->p->services;
	rd->p->services = s;
	s->spec = mem_copy(spec);
	s->timeout = cf->smtpd_policy_service_timeout;
	s->default_action = mem_strdup(
	    cf->smtpd_policy_service_default_action);
	s->context = mem_strdup(cf->smtpd_policy_service_policy_context);
	if (spec.n > 1 && spec.p[0] == '{')
		rest = view_make(spec.p + 1, spec.n - 2);
	word = conf_word(&rest);
	s->endpoint = mem_copy(word);
	if (!service_endpoint(word)) {
		service_complain(rd, "need inet:host:port or unix:path",
		    word);
		ok = false;
	}
	while (ok && (word = conf_word(&rest)).n > 0) {
		/* "name = value" without braces comes as three words. */
		if (view_find(word, '=') == word.n) {
			service_complain(rd, "write options as "
			    "name=value or {name = value}", word);
			ok = false;
		} else {
			ok = service_option(rd, s, word);
		}
	}
	return ok ? s : NULL;
}

void
services_free(struct policy *p)
{
	struct policy_service *s;

	while ((s = p->services) != NULL) {
		p->services = s->next;
		free(s->spec);
		free(s->endpoint);
		free(s->default_action);
		free(s->context);
		free(s);
	}
}

/* -- requests -------------------------------------------------------------- */

/* A value ends with its line. */
static bool
request_put(struct buf *b, const char *name, struct view value)
{
	size_t i;
	bool ok = buf_puts(b, name) && buf_putc(b, '=');

	for (i = 0; ok && i < value.n; i++)
		ok = buf_putc(b, value.p[i] == '\n' || value.p[i] == '\0' ?
		    ' ' : value.p[i]);
	return ok && buf_putc(b, '\n');
}

static bool
request_put_number(struct buf *b, const char *name, uint64_t n)
{
	return buf_printf(b, "%s=%llu\n", name, (unsigned long long)n);
}

/* The port of no address is 0, and written as nothing is known. */
static bool
request_put_address(struct buf *b, const char *address, const char *port,
    const struct netaddr *a)
{
	char text[NETADDR_TEXT];

	return request_put(b, address, a->family == 0 ? view_of("") :
	    view_of(netaddr_text(a, text))) &&
	    request_put_number(b, port, a->port);
}

static const char *
request_state(const struct eval *e)
{
	switch (e->stage) {
	case STAGE_CLIENT:
		return "CONNECT";
	case STAGE_HELO:
		return "HELO";
	case STAGE_MAIL:
		return "MAIL";
	case STAGE_DATA:
		return "DATA";
	case STAGE_EOD:
		return "END-OF-MESSAGE";
	case STAGE_ETRN:
		return "ETRN";
	case STAGE_RCPT:
	case STAGE_NONE:
	case STAGES:
		break;
	}
	return "RCPT";
}

static bool
request_session(const struct eval *e, struct buf *b)
{
	const struct policy_facts *f = e->f;

	return request_put(b, "request", view_of("smtpd_access_policy")) &&
	    request_put(b, "protocol_state", f->verb.n > 0 ? f->verb :
	    view_of(request_state(e))) &&
	    request_put(b, "protocol_name", f->protocol) &&
	    request_put_address(b, "client_address", "client_port",
	    &f->client) &&
	    request_put(b, "client_name", f->client_name) &&
	    request_put(b, "reverse_client_name", f->reverse_name) &&
	    request_put_address(b, "server_address", "server_port",
	    &f->server) &&
	    request_put(b, "helo_name", f->has_helo ? f->helo : view_of("")) &&
	    request_put(b, "sender", f->sender) &&
	    request_put(b, "recipient", f->recipient) &&
	    request_put_number(b, "recipient_count", e->stage == STAGE_DATA ||
	    e->stage == STAGE_EOD ? f->recipients : 0) &&
	    request_put(b, "queue_id", f->queue_id) &&
	    request_put(b, "instance", f->instance) &&
	    request_put_number(b, "size", f->size) &&
	    request_put(b, "etrn_domain", f->etrn) &&
	    request_put(b, "stress", view_of(""));
}

static bool
request_credentials(const struct eval *e, const struct policy_service *s,
    struct buf *b)
{
	const struct policy_facts *f = e->f;
	struct view none = view_of("");

	return request_put(b, "sasl_method", f->login_method) &&
	    request_put(b, "sasl_username", f->login) &&
	    request_put(b, "sasl_sender", f->login_sender) &&
	    request_put(b, "ccert_subject", f->tls_trusted ? f->tls_subject :
	    none) &&
	    request_put(b, "ccert_issuer", f->tls_trusted ? f->tls_issuer :
	    none) &&
	    request_put(b, "ccert_fingerprint", f->tls_fingerprint) &&
	    request_put(b, "ccert_pubkey_fingerprint",
	    f->tls_pubkey_fingerprint) &&
	    request_put(b, "encryption_protocol", f->tls_protocol) &&
	    request_put(b, "encryption_cipher", f->tls_cipher) &&
	    request_put_number(b, "encryption_keysize", f->tls_bits) &&
	    request_put(b, "tls_sni", f->tls_sni) &&
	    request_put(b, "policy_context", view_of(s->context)) &&
	    request_put(b, "compatibility_level",
	    view_of(e->p->cf->compatibility_level)) &&
	    request_put(b, "mail_version", view_of(e->p->cf->mail_version)) &&
	    buf_putc(b, '\n');
}

static enum step
service_ask(struct eval *e, const struct policy_service *s, enum step asked)
{
	struct buf b;

	buf_init(&b, FACT_REQUEST_MAX);
	if (!request_session(e, &b) || !request_credentials(e, s, &b)) {
		/* Names and addresses have limits; this is not reached. */
		buf_free(&b);
		return eval_config_failed(e);
	}
	e->r->endpoint = view_of(s->endpoint);
	e->r->request = eval_copy(e, buf_view(&b));
	e->r->request_ms = s->timeout;
	buf_free(&b);
	return asked;
}

enum step
service_check(struct eval *e, const struct restriction *r)
{
	const struct policy_service *s = r->service;
	struct fact_name name = { FACT_SERVICE, 0, view_of(s->spec) };
	struct fact fact;
	enum step step;

	/* Limits are those of keys; words longer than that stand for
	 * themselves by their endpoint. */
	if (name.key.n > FACT_KEY_MAX)
		name.key = view_of(s->endpoint);
	if (!eval_fact(e, &name, SHELF_EVALUATION, &fact, &step)) {
		if (step != STEP_NEED)
			return step;
		return service_ask(e, s, step);
	}
	e->where = view_of(s->endpoint);
	return access_result(e, fact.status == FACT_FOUND && fact.n == 1 ?
	    fact.record[0] : view_of(s->default_action), s->endpoint,
	    e->name, e->subject);
}

bool
policy_service_reply(struct view text, struct view *ret_action)
{
	struct view line, name;
	bool found = false;
	size_t n, i;

	while (text.n > 0) {
		n = view_find(text, '\n');
		if (n == text.n)
			return false;	/* it ends with an empty line */
		line = view_head(text, n);
		text = view_from(text, n + 1);
		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		if (line.n == 0)
			return found && text.n == 0;
		name = view_head(line, view_find(line, '='));
		if (name.n == line.n || name.n == 0)
			return false;
		if (!view_is(name, "action"))
			continue;
		*ret_action = view_trim(view_from(line, name.n + 1));
		for (i = 0; i < ret_action->n; i++)
			if (ret_action->p[i] == '\0')
				return false;
		found = true;
	}
	return false;
}
