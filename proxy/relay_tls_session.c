/* STARTTLS in the conversation, and whether the server is who it should be. */
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_smtp.h"
#include "proxy/relay_tls_impl.h"
#include "proxy/relay_tlsrpt.h"
#include "rules/idn.h"

#define SAID_MAX	1000u
#define NAME_SIZE	256u

/* -- failure --------------------------------------------------------------- */

void
relay_tls_refuse(struct session *s, const char *dsn, enum relay_state to, char *why)
{
	struct delivery *d = s->delivery;

	delivery_trouble(d, TROUBLE_CONNECT, why);
	delivery_failed(d, WHOM_OPEN, 0, true, dsn, why);
	free(why);
	smtp_finish(s, to);
}

/* TLS came to nothing: connect again without, or give this server up. */
static void
tls_failed(struct session *s, const char *how)
{
	struct delivery *d = s->delivery;
	const char *reason = NULL;

	s->relay->tls->failed++;
	if (s->tls != NULL && !s->tls->active && s->tls->broken)
		(void)relay_tls_failure(s, &reason);
	log_info("SSL_connect error to %s: %s", s->peer, reason != NULL ?
	    reason : how);
	relay_tlsrpt_session(s, TLSRPT_VALIDATION_FAILURE, reason != NULL ?
	    reason : how);
	if (relay_tls_level(s) > TLS_LEVEL_MAY) {
		relay_tls_refuse(s, "4.7.5", RELAY_CLOSED,
		    mem_strdup("Cannot start TLS: handshake failure"));
		return;
	}
	log_info("%s: TLS does not work with %s: trying without", d->id,
	    s->peer);
	session_abort(s);
	delivery_plain(d);
}

bool
relay_tls_lost(struct session *s, const char *how)
{
	bool begun = s->state == RELAY_TLS;
	bool early = s->state == RELAY_STARTTLS || ((s->state == RELAY_EHLO ||
	    s->state == RELAY_GREETING) && relay_tls_active(s));

	if (!begun && !(early && relay_tls_level(s) <= TLS_LEVEL_MAY))
		return false;
	tls_failed(s, how);
	return true;
}

/* -- before it ------------------------------------------------------------- */

bool
relay_tls_wraps(const struct session *s)
{
	/* Without a policy: a filter, or a socket file of this host. */
	return s->relay->conf->smtp_tls_wrappermode &&
	    s->delivery->tls != NULL;
}

bool
relay_tls_due(struct session *s)
{
	const struct tls_policy *p = s->delivery->tls;
	bool offered = (s->ehlo.features & FEATURE_STARTTLS) != 0;

	if (p == NULL || relay_tls_active(s) || s->plain)
		return false;
	if (relay_dane_due(s)) {
		session_enter(s, RELAY_DANE);
		return true;
	}
	if (p->level == TLS_LEVEL_NONE) {
		if (offered && s->relay->conf->smtp_tls_note_starttls_offer)
			log_info("Host offered STARTTLS: [%s]", s->host);
		return false;
	}
	if (!offered)
		relay_tlsrpt_session(s, TLSRPT_STARTTLS_NOT_SUPPORTED, NULL);
	if (offered)
		session_enter(s, RELAY_STARTTLS);
	else if (relay_tls_level(s) > TLS_LEVEL_MAY)
		relay_tls_refuse(s, "4.7.4", RELAY_QUIT, mem_printf("TLS is "
		    "required, but was not offered by host %s",
		    s->peer_short));
	else
		return false;
	return true;
}

void
relay_tls_say(struct session *s)
{
	session_write(s, view_of("STARTTLS\r\n"));
}

static void
tls_refused(struct session *s, struct view said)
{
	char *why = mem_copy(said);

	relay_tlsrpt_session(s, TLSRPT_STARTTLS_NOT_SUPPORTED, why);
	free(why);
}

void
relay_tls_reply(struct session *s)
{
	struct view said;

	if (s->reply.code / 100 == 2) {
		session_enter(s, RELAY_TLS);
		return;
	}
	said = relay_reply_said(&s->reply, SAID_MAX);
	tls_refused(s, said);
	if (relay_tls_level(s) > TLS_LEVEL_MAY || s->reply.code == 421) {
		relay_tls_refuse(s, "4.7.4", s->reply.code == 421 ? RELAY_CLOSED :
		    RELAY_QUIT, mem_printf("TLS is required, but host %s "
		    "refused to start TLS: %.*s", s->peer_short,
		    VIEW_ARGS(said)));
		return;
	}
	/* It has offered it, and cannot: mail goes as to one that does not. */
	s->plain = true;
	smtp_ready(s);
}

/* -- who it is ------------------------------------------------------------- */

/* A name as certificates have it; false: there is none. */
static bool
tls_name(struct view name, char ret[NAME_SIZE])
{
	if (name.n > 1 && name.p[name.n - 1] == '.')
		name.n--;
	return name.n > 0 && idn_to_ascii(name, ret, NAME_SIZE);
}

const char *
relay_tls_ascii(struct view name)
{
	static char ascii[NAME_SIZE];

	if (!tls_name(name, ascii))
		ascii[0] = '\0';
	return ascii;
}

static bool
tls_shows(X509 *cert, struct view name, bool below)
{
	struct netaddr addr;
	char ascii[NAME_SIZE], dotted[NAME_SIZE + 1], text[NETADDR_TEXT];
	const unsigned flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;

	if (!below && netaddr_parse(name, &addr)) {
		netaddr_text(&addr, text);
		return X509_check_ip_asc(cert, text, 0) == 1;
	}
	if (!tls_name(name, ascii))
		return false;
	/* With a dot in front: names below it, at any depth. */
	(void)snprintf(dotted, sizeof dotted, "%s%s", below ? "." : "",
	    ascii);
	return X509_check_host(cert, dotted, 0, flags, NULL) == 1;
}

bool
relay_tls_shows(const struct session *s, struct view name)
{
	X509 *cert = SSL_get0_peer_certificate(s->tls->ssl);

	return cert != NULL && tls_shows(cert, name, false);
}

static bool
tls_match_name(const struct session *s, X509 *cert, struct view word)
{
	struct view hop = s->delivery->hop.host;

	if (view_is_nocase(word, "hostname"))
		return tls_shows(cert, view_of(s->host), false);
	if (view_is_nocase(word, "nexthop"))
		return tls_shows(cert, hop, false);
	if (view_is_nocase(word, "dot-nexthop"))
		return !s->delivery->hop.numeric && tls_shows(cert, hop, true);
	if (word.n > 1 && word.p[0] == '.')
		return tls_shows(cert, view_from(word, 1), true);
	return tls_shows(cert, word, false);
}

/* One of the policy's names or fingerprints is shown. */
static bool
tls_matches(const struct session *s, const struct tls_policy *p)
{
	X509 *cert = SSL_get0_peer_certificate(s->tls->ssl);
	const struct tls_info *i = &s->tls->info;
	size_t k;

	for (k = 0; cert != NULL && k < p->n_match; k++) {
		if (p->level != TLS_LEVEL_FINGERPRINT) {
			if (tls_match_name(s, cert, p->match[k]))
				return true;
		} else if ((i->fingerprint != NULL &&
		    view_is_nocase(p->match[k], i->fingerprint)) ||
		    (i->key_fingerprint != NULL &&
		    view_is_nocase(p->match[k], i->key_fingerprint)))
			return true;
	}
	return false;
}

/* NULL: the policy is held. */
static const char *
tls_verify(struct session *s, const struct tls_policy *p)
{
	const struct tls_info *i = &s->tls->info;

	if (!tls_level_matches(relay_tls_level(s)))
		return NULL;
	if (relay_tls_level(s) < TLS_LEVEL_VERIFY &&
	    relay_tls_level(s) != TLS_LEVEL_FINGERPRINT) {
		if (!relay_dane_holds(s)) {
			log_info("certificate verification failed for %s: "
			    "%s", s->peer, i->verify_error != NULL ?
			    i->verify_error : "no TLSA record matches");
			return "Server certificate not trusted";
		}
		s->tls->had = p->level == TLS_LEVEL_DANE_ONLY ? p->level :
		    relay_tls_level(s);
		return NULL;
	}
	if (p->level != TLS_LEVEL_FINGERPRINT && !i->trusted) {
		log_info("certificate verification failed for %s: %s",
		    s->peer, i->verify_error != NULL ? i->verify_error :
		    "no certificate");
		return "Server certificate not trusted";
	}
	if (!tls_matches(s, p)) {
		log_info("server certificate verification failed for %s: "
		    "%s", s->peer, p->level == TLS_LEVEL_FINGERPRINT ?
		    "no fingerprint matches" : "no name matches");
		return "Server certificate not verified";
	}
	s->tls->had = p->level;
	return NULL;
}

static void
tls_log(const struct session *s)
{
	const struct tls_info *i = &s->tls->info;
	struct buf b;

	if (i->subject != NULL && (s->tls->tell & TLS_TELL_PEER) != 0)
		log_info("%s: subject_CN=%s, issuer=%s, fingerprint=%s, "
		    "pkey_fingerprint=%s", s->peer,
		    log_safe(view_of(i->subject)),
		    log_safe(view_of(i->issuer)),
		    i->fingerprint != NULL ? i->fingerprint : "",
		    i->key_fingerprint != NULL ? i->key_fingerprint : "");
	if ((s->tls->tell & TLS_TELL_SUMMARY) == 0)
		return;
	buf_init(&b, 2000);
	tls_info_put(i, &b);
	log_info("%s TLS connection %s to %s: %s",
	    s->tls->had > TLS_LEVEL_ENCRYPT ? "Verified" : tls_info_peer(i),
	    i->reused ? "reused" : "established", s->peer, buf_cstr(&b));
	buf_free(&b);
}

enum relay_tls_strength
relay_tls_strength(const struct session *s)
{
	return !relay_tls_active(s) ? RELAY_TLS_NONE :
	    s->tls->had > TLS_LEVEL_ENCRYPT ? RELAY_TLS_VERIFIED :
	    RELAY_TLS_ENCRYPTED;
}

/* -- the handshake --------------------------------------------------------- */

static void
tls_done(struct session *s)
{
	const char *bad = tls_verify(s, relay_tls_policy(s));

	s->relay->tls->sessions++;
	s->relay->tls->resumed += s->tls->info.reused;
	s->tls->held = bad == NULL;
	relay_tls_keep(s);
	tls_log(s);
	if (bad != NULL) {
		relay_tlsrpt_certificate(s);
		relay_tls_refuse(s, "4.7.5", s->greeted ? RELAY_QUIT : RELAY_CLOSED,
		    mem_strdup(bad));
		return;
	}
	relay_tlsrpt_success(s);
	/* What it said without TLS may have been anybody's: RFC 3207 section
	 * 4.2. */
	s->ehlo = (struct relay_ehlo){ 0 };
	/* There may be input already that the socket does not tell of. */
	event_active(&s->read_event, EV_READ, 0);
	session_enter(s, s->greeted ? RELAY_EHLO : RELAY_GREETING);
}

void
relay_tls_go_on(struct session *s)
{
	const char *reason, *why;

	/* All steps share one time: a byte now and then buys no more. */
	switch (relay_tls_step(s)) {
	case RELAY_TLS_READ:
		break;
	case RELAY_TLS_WRITE:
		event_add(&s->write_event, NULL);
		break;
	case RELAY_TLS_DONE:
		tls_done(s);
		break;
	case RELAY_TLS_FAILED:
		why = relay_tls_failure(s, &reason);
		if (reason != NULL)
			log_warn("TLS library problem: %s", reason);
		tls_failed(s, why);
		break;
	}
}

/* The name that the server is told; empty: none, or with DANE the one that the
 * records are of (RFC 7672 section 8.1), whatever is configured. */
static void
tls_servername(const struct session *s, char ret[NAME_SIZE])
{
	struct view name = relay_tls_policy(s)->servername;
	enum tls_level level = relay_tls_level(s);
	struct netaddr addr;

	if (level == TLS_LEVEL_DANE || level == TLS_LEVEL_HALFDANE)
		name = view_of("");
	if (view_is_nocase(name, "hostname"))
		name = view_of(s->host);
	else if (view_is_nocase(name, "nexthop"))
		name = s->delivery->hop.host;
	if (!tls_name(name, ret) || netaddr_parse(name, &addr) ||
	    !address_valid_hostname(view_of(ret)))
		ret[0] = '\0';
}

void
relay_tls_begin(struct session *s)
{
	char name[NAME_SIZE];

	tls_servername(s, name);
	(void)relay_tls_new(s, name);
	relay_tls_go_on(s);
}
