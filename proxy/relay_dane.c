/*
 * DANE (RFC 7672): what a server has to show is asked for when it is known
 * which server it is, and before it is told anything.
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "lib/conf_choice.h"
#include "lib/log.h"
#include "proxy/relay_smtp.h"
#include "proxy/relay_tls_impl.h"
#include "proxy/relay_tlsrpt.h"

#define RECORD_MAX	1024u

struct dane_record {
	size_t n;
	uint8_t data[RECORD_MAX];
};

struct session_dane {
	uint32_t tag;
	struct chan *asked;	/* NULL: answered */
	enum tls_level level;	/* what it comes to for this server */
	enum dane_status status;
	bool known, mx_secure;
	char *base;		/* the name that the records are of */
	size_t n;
	struct dane_record records[DANE_RECORDS_MAX];
};

void
relay_dane_free(struct session *s)
{
	if (s->dane == NULL)
		return;
	free(s->dane->base);
	free(s->dane);
	s->dane = NULL;
}

/*
 * RFC 8461 section 2: where there is DANE it is followed, and MTA-STS where
 * there is none.  With a way to the server that is not proven, anybody's server
 * could have DANE.
 */
const struct tls_policy *
relay_tls_policy(const struct session *s)
{
	const struct delivery *d = s->delivery;

	return d->tls_domain != NULL && s->dane != NULL && s->dane->known &&
	    s->dane->level != TLS_LEVEL_DANE ? d->tls_domain : d->tls;
}

enum tls_level
relay_tls_level(const struct session *s)
{
	if (relay_tls_policy(s) != s->delivery->tls)
		return s->delivery->tls_domain->level;
	return s->dane != NULL && s->dane->known ? s->dane->level :
	    s->delivery->tls->level;
}

bool
relay_dane_due(const struct session *s)
{
	const struct tls_policy *p = s->delivery->tls;

	return p != NULL && (p->level == TLS_LEVEL_DANE ||
	    p->level == TLS_LEVEL_DANE_ONLY) && s->dane == NULL && !s->plain;
}

/* -- the answer ------------------------------------------------------------ */

/* A whole certificate or key must be one. */
static bool
record_whole(const struct dane_record *r)
{
	const unsigned char *p = r->data + 3;
	long n = (long)r->n - 3;
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	bool ok;

	if (r->data[1] == 0)
		cert = d2i_X509(NULL, &p, n);
	else
		key = d2i_PUBKEY(NULL, &p, n);
	ok = (cert != NULL || key != NULL) && p == r->data + r->n;
	X509_free(cert);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return ok;
}

/* Usages that say who it is without other authorities (section 3.1.3), and
 * data that can be what they say. */
static bool
record_usable(const struct dane_record *r)
{
	static const size_t length[] = { 0, 32, 64 };

	return r->n > 3 && (r->data[0] == 2 || r->data[0] == 3) &&
	    r->data[1] <= 1 && r->data[2] <= 2 &&
	    (r->data[2] == 0 ? record_whole(r) :
	    r->n == 3 + length[r->data[2]]);
}

/* NULL: mail may go on, with d->level. */
static const char *
dane_judge(const struct session *s, struct session_dane *d,
    enum dane_status status)
{
	bool only = s->delivery->tls->level == TLS_LEVEL_DANE_ONLY;
	bool wrap = relay_tls_wraps(s);

	d->level = wrap ? TLS_LEVEL_ENCRYPT : TLS_LEVEL_MAY;
	if (status == DANE_FAILED) {
		d->level = TLS_LEVEL_DANE;	/* for all we know */
		return "TLSA lookup error for host";
	}
	if (status == DANE_NONE)
		return only ? "no TLSA records of host" : NULL;
	if (d->n == 0) {
		d->level = TLS_LEVEL_ENCRYPT;
		return only ? "no usable TLSA records of host" : NULL;
	}
	if (d->mx_secure) {
		d->level = TLS_LEVEL_DANE;
		return NULL;
	}
	if (only)
		return "no DNSSEC for the MX records that lead to host";
	switch (conf_choice("smtp_tls_dane_insecure_mx_policy",
	    view_of(s->relay->conf->smtp_tls_dane_insecure_mx_policy))) {
	case TLS_LEVEL_DANE:
		d->level = TLS_LEVEL_HALFDANE;
		break;
	case TLS_LEVEL_ENCRYPT:
		d->level = TLS_LEVEL_ENCRYPT;
		break;
	default:
		break;
	}
	return NULL;
}

/* The same, by what the domain says of servers without DANE. */
static const char *
dane_absent(const struct session *s)
{
	const struct tls_policy *p = relay_tls_policy(s);

	return p != s->delivery->tls && !tls_policy_host(p,
	    view_of(s->host)) ? "no DANE, and the MTA-STS policy does not "
	    "name host" : NULL;
}

static bool
record_put(const struct dane_record *r, struct buf *out)
{
	size_t i;
	bool ok = buf_printf(out, "%u %u %u ", r->data[0], r->data[1],
	    r->data[2]);

	for (i = 3; ok && i < r->n; i++)
		ok = buf_printf(out, "%02x", r->data[i]);
	return ok && buf_putc(out, '\n');
}

/* Do the records say who the server is? */
static bool
dane_counts(const struct session *s)
{
	enum tls_level level = relay_tls_level(s);

	return level == TLS_LEVEL_DANE || level == TLS_LEVEL_HALFDANE;
}

bool
relay_dane_lines(const struct session *s, struct buf *out)
{
	const struct session_dane *d = s->dane;
	size_t i;

	/* The domain's policy counts where these do not. */
	if (d == NULL || !d->known || d->status == DANE_NONE ||
	    relay_tls_policy(s) != s->delivery->tls ||
	    (d->status == DANE_FOUND && d->n > 0 &&
	    d->level != TLS_LEVEL_DANE && d->level != TLS_LEVEL_HALFDANE))
		return false;
	for (i = 0; i < d->n; i++)
		(void)record_put(&d->records[i], out);
	return true;
}

/* Of the names as of the records: what relay_dane_prepare() takes. */
bool
relay_dane_key(const struct session *s, struct buf *out)
{
	const struct session_dane *d = s->dane;
	const struct relay_nexthop *hop = &s->delivery->hop;
	size_t i;
	bool ok;

	if (!dane_counts(s))
		return true;
	ok = buf_printf(out, "\n%s\n%s\n", d->base, hop->mx ?
	    relay_tls_ascii(hop->host) : "");
	for (i = 0; ok && i < d->n; i++)
		ok = record_put(&d->records[i], out);
	return ok;
}

/* What is wrong before there is TLS. */
static void
dane_report(struct session *s, const struct session_dane *d, const char *bad)
{
	if (relay_tls_policy(s) != s->delivery->tls) {
		if (bad != NULL)
			relay_tlsrpt_session(s, TLSRPT_VALIDATION_FAILURE,
			    bad);
	} else if (d->status == DANE_FAILED)
		relay_tlsrpt_session(s, TLSRPT_DNSSEC_INVALID,
		    "TLSA lookup error");
	else if (d->status == DANE_FOUND && d->n == 0)
		relay_tlsrpt_session(s, TLSRPT_TLSA_INVALID,
		    "no usable TLSA records");
	else if (bad != NULL)
		relay_tlsrpt_session(s, TLSRPT_DANE_REQUIRED, bad);
}

static void
dane_known(struct session *s, enum dane_status status)
{
	struct session_dane *d = s->dane;
	const char *bad = dane_judge(s, d, status);

	d->tag = 0;
	d->asked = NULL;
	d->known = true;
	d->status = status;
	if (bad == NULL)
		bad = dane_absent(s);
	dane_report(s, d, bad);
	if (bad != NULL)
		relay_tls_refuse(s, "4.7.5", s->greeted ? RELAY_QUIT :
		    RELAY_CLOSED, mem_printf("%s %s", bad, s->peer_short));
	else if (s->greeted)
		smtp_ready(s);
	else
		session_enter(s, RELAY_TLS);
}

void
relay_dane_is(struct relay *r, struct chan *c, struct chan_in *m)
{
	uint32_t tag = cursor_u32(&m->body);
	enum dane_status status = cursor_u8(&m->body);
	bool mx_secure = cursor_u8(&m->body) != 0;
	struct view base = cursor_view(&m->body), v;
	uint32_t n = cursor_u32(&m->body), i;
	struct delivery *d;
	struct session_dane *dane = NULL;

	TAILQ_FOREACH(d, &r->deliveries, link)
		if (d->session != NULL && d->session->dane != NULL &&
		    d->session->dane->tag == tag &&
		    d->session->dane->asked == c)
			break;
	/* It may have been given up meanwhile. */
	if (d != NULL)
		dane = d->session->dane;
	for (i = 0; i < n && !m->body.bad; i++) {
		v = cursor_view(&m->body);
		if (dane == NULL || v.n > RECORD_MAX || v.n == 0 ||
		    dane->n == DANE_RECORDS_MAX)
			continue;
		dane->records[dane->n].n = v.n;
		memcpy(dane->records[dane->n].data, v.p, v.n);
		dane->n += record_usable(&dane->records[dane->n]);
	}
	if (!chan_check(c, m) || dane == NULL)
		return;
	dane->mx_secure = mx_secure;
	dane->base = mem_copy(view_head(base, 255));
	dane_known(d->session, status);
}

/* -- the question ---------------------------------------------------------- */

static void
dane_send(struct session *s)
{
	static uint32_t last_tag;
	const struct relay_nexthop *hop = &s->delivery->hop;
	struct chan *c = relay_lookup();
	struct buf *b;

	if (c == NULL) {
		dane_known(s, DANE_FAILED);
		return;
	}
	if (++last_tag == 0)
		last_tag = 1;
	s->dane->tag = last_tag;
	s->dane->asked = c;
	b = chan_begin(c, MSG_DANE);
	put_u32(b, s->dane->tag);
	put_view(b, hop->mx ? hop->host : view_of(""));
	put_view(b, view_of(s->host));
	put_u16(b, s->addr.port);
	chan_end(c);
}

void
relay_dane_ask(struct session *s)
{
	s->dane = mem_alloc(sizeof *s->dane);
	if (s->delivery->hop.numeric)
		dane_known(s, DANE_NONE);
	else
		dane_send(s);
}

void
relay_dane_gone(struct delivery *d, const struct chan *c)
{
	struct session *s = d->session;

	if (s != NULL && s->dane != NULL && s->dane->asked == c)
		dane_send(s);
}

/* -- the handshake --------------------------------------------------------- */

bool
relay_dane_prepare(struct session *s, SSL *ssl)
{
	const struct session_dane *d = s->dane;
	const struct relay_nexthop *hop = &s->delivery->hop;
	const struct dane_record *r;
	size_t i, usable = 0;

	if (!dane_counts(s))
		return true;
	if (SSL_dane_enable(ssl, d->base) != 1)
		return false;
	/* The record alone says who it is: section 3.1.1. */
	(void)SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
	if (relay_tls_level(s) == TLS_LEVEL_DANE && hop->mx)
		(void)SSL_add1_host(ssl, relay_tls_ascii(hop->host));
	for (i = 0; i < d->n; i++) {
		r = &d->records[i];
		if (SSL_dane_tlsa_add(ssl, r->data[0], r->data[1],
		    r->data[2], r->data + 3, r->n - 3) > 0)
			usable++;
		ERR_clear_error();
	}
	if (usable == 0)
		relay_tlsrpt_session(s, TLSRPT_TLSA_INVALID,
		    "no usable TLSA records");
	return usable > 0;
}

bool
relay_dane_holds(const struct session *s)
{
	SSL *ssl = s->tls->ssl;

	/* One is resumed for the same records only, and has matched then. */
	return SSL_get_verify_result(ssl) == X509_V_OK &&
	    (s->tls->info.reused ||
	    SSL_get0_dane_authority(ssl, NULL, NULL) >= 0);
}
