#include <openssl/x509v3.h>
#include <sys/socket.h>

#include "lib/peers.h"
#include "proxy/relay_tls_impl.h"
#include "proxy/relay_tlsrpt.h"
#include "rules/sts_policy.h"

#define UNSENT_MAX	(1u << 20)	/* bytes; then results are lost */

static struct peers servers;

/* -- the channel ----------------------------------------------------------- */

static void
event_send(const struct tlsrpt_event *e)
{
	struct chan *c = peers_newest(&servers);
	struct buf b;

	if (c == NULL || chan_unsent(c) > UNSENT_MAX)
		return;
	buf_init(&b, TLSRPT_LINES_MAX + 8192);
	if (tlsrpt_event_put(&b, e)) {
		(void)buf_putv(chan_begin(c, MSG_TLS_RESULT), buf_view(&b));
		chan_end(c);
	}
	buf_free(&b);
}

static void
tlsrpt_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	(void)m;
	(void)arg;
	chan_blame(c, "unexpected message");
}

static void
tlsrpt_on_close(struct chan *c, void *arg)
{
	(void)arg;
	peers_remove(&servers, c);
	chan_free(&c);
}

void
relay_tlsrpt_peer(const struct role_peer *peer, int fd)
{
	peers_add(&servers, chan_new(fd, ROLE_RELAY, ROLE_TLSRPT, peer->pid,
	    tlsrpt_on_msg, tlsrpt_on_close, NULL), peer->generation);
}

/* -- what is told ---------------------------------------------------------- */

static bool
is_wanted(const struct delivery *d)
{
	const struct tls_policy *p = d->tls;

	if (!d->relay->conf->smtp_tlsrpt_enable || peers_newest(&servers) == NULL ||
	    !d->hop.mx || d->hop.numeric || d->proxy != NULL || p == NULL ||
	    p->level == TLS_LEVEL_NONE)
		return false;
	/* The report about a report would have one, too. */
	if (view_is(d->env.proto, "tlsrpt"))
		return false;
	return p->level == TLS_LEVEL_DANE || p->level == TLS_LEVEL_DANE_ONLY ||
	    p->source == TLS_FROM_DOMAIN || (p->source == TLS_FROM_CONF &&
	    p->level <= TLS_LEVEL_ENCRYPT);
}

/* Printable ASCII, at most so many bytes. */
static void
put_clean(struct buf *out, struct view v, size_t max)
{
	size_t i;

	for (i = 0; i < v.n && i < max; i++)
		(void)buf_putc(out, v.p[i] >= ' ' && v.p[i] <= '~' ? v.p[i] :
		    '?');
}

/* The domain as its record has it; e->text as they are. */
static void
tell(const struct delivery *d, struct tlsrpt_event *e)
{
	char domain[TLSRPT_DOMAIN_MAX + 1];
	struct view name = view_of(relay_tls_ascii(d->hop.host));
	size_t i;

	if (name.n == 0 || name.n > TLSRPT_DOMAIN_MAX)
		return;
	for (i = 0; i < name.n; i++)
		domain[i] = (char)tolower((unsigned char)name.p[i]);
	e->domain = view_make(domain, name.n);
	event_send(e);
	e->domain = view_of("");	/* which was here alone */
}

/* Whole lines, as far as they fit. */
static struct view
lines_head(struct view v)
{
	size_t n = v.n;

	if (n > TLSRPT_LINES_MAX)
		for (n = TLSRPT_LINES_MAX; n > 0 && v.p[n] != '\n'; n--)
			;
	while (n > 0 && v.p[n - 1] == '\n')
		n--;
	return view_head(v, n);
}

/* That a policy of MTA-STS cannot be had, beside what came of TLS. */
static void
tell_sts(const struct delivery *d)
{
	struct tlsrpt_event e = { .type = TLSRPT_STS };

	switch (d->sts_answer) {
	case STS_FETCH_ERROR:
		e.result = TLSRPT_STS_POLICY_FETCH_ERROR;
		break;
	case STS_POLICY_INVALID:
		e.result = TLSRPT_STS_POLICY_INVALID;
		break;
	case STS_WEBPKI_INVALID:
		e.result = TLSRPT_STS_WEBPKI_INVALID;
		break;
	case STS_NO_POLICY:
	case STS_POLICY:
	case STS_ANSWERS:
	default:
		return;
	}
	tell(d, &e);
}

void
relay_tlsrpt_session(struct session *s, enum tlsrpt_result r,
    const char *reason)
{
	struct tlsrpt_event e = { .type = TLSRPT_NO_POLICY, .result = r };
	struct sockaddr_storage ss;
	socklen_t n = sizeof ss;
	char ours[NETADDR_TEXT], theirs[NETADDR_TEXT];
	struct netaddr a;
	struct buf lines, host, why;

	if (s->tls_told || s->delivery == NULL || !is_wanted(s->delivery))
		return;
	s->tls_told = true;
	buf_init(&lines, 4 * TLSRPT_LINES_MAX);
	buf_init(&host, TLSRPT_TEXT_MAX);
	buf_init(&why, TLSRPT_TEXT_MAX);
	if (relay_dane_lines(s, &lines)) {
		e.type = TLSRPT_TLSA;
		e.lines = lines_head(buf_view(&lines));
	} else if (s->delivery->sts_text.n > 0) {
		e.type = TLSRPT_STS;
		e.lines = lines_head(s->delivery->sts_text);
	}
	if (r != TLSRPT_SUCCESS) {
		put_clean(&host, view_of(s->host), TLSRPT_TEXT_MAX);
		put_clean(&why, view_of(reason), TLSRPT_TEXT_MAX);
		e.text[TLSRPT_MX_HOST] = buf_view(&host);
		e.text[TLSRPT_REASON] = buf_view(&why);
		if (s->addr.family != 0)
			e.text[TLSRPT_IP] = view_of(netaddr_text(&s->addr,
			    theirs));
		if (getsockname(s->fd, (struct sockaddr *)&ss, &n) == 0) {
			a = netaddr_from_sockaddr((struct sockaddr *)&ss, n);
			if (a.family != 0)
				e.text[TLSRPT_SENDING_IP] = view_of(
				    netaddr_text(&a, ours));
		}
	}
	tell(s->delivery, &e);
	tell_sts(s->delivery);
	buf_free(&lines);
	buf_free(&host);
	buf_free(&why);
}

void
relay_tlsrpt_certificate(struct session *s)
{
	long rc = s->tls != NULL ? SSL_get_verify_result(s->tls->ssl) :
	    X509_V_OK;
	const char *why = X509_verify_cert_error_string(rc);

	switch (rc) {
	case X509_V_OK:
	case X509_V_ERR_HOSTNAME_MISMATCH:
		relay_tlsrpt_session(s, TLSRPT_CERTIFICATE_HOST_MISMATCH,
		    NULL);
		break;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		relay_tlsrpt_session(s, TLSRPT_CERTIFICATE_EXPIRED, why);
		break;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_UNTRUSTED:
	case X509_V_ERR_CERT_REVOKED:
		relay_tlsrpt_session(s, TLSRPT_CERTIFICATE_NOT_TRUSTED, why);
		break;
	default:
		relay_tlsrpt_session(s, TLSRPT_VALIDATION_FAILURE, why);
		break;
	}
}

void
relay_tlsrpt_success(struct session *s)
{
	const struct delivery *d = s->delivery;
	struct sts_policy p;
	const char *why;

	if (s->tls->info.reused &&
	    s->relay->conf->smtp_tlsrpt_skip_reused_handshakes) {
		s->tls_told = true;
		return;
	}
	if (d->tls->source == TLS_FROM_DOMAIN || d->sts_text.n == 0 ||
	    !sts_policy_read(d->sts_text, &p, &why))
		relay_tlsrpt_session(s, TLSRPT_SUCCESS, NULL);
	else if (!sts_policy_allows(&p, view_of(s->host)))
		relay_tlsrpt_session(s, TLSRPT_VALIDATION_FAILURE,
		    "the policy does not name this host");
	else if (!s->tls->info.trusted || !relay_tls_shows(s,
	    view_of(s->host)))
		relay_tlsrpt_certificate(s);
	else
		relay_tlsrpt_session(s, TLSRPT_SUCCESS, NULL);
}

void
relay_tlsrpt_host(const struct delivery *d, struct view host)
{
	struct tlsrpt_event e = { .type = TLSRPT_STS,
		.result = TLSRPT_VALIDATION_FAILURE };
	struct buf name;

	if (!is_wanted(d))
		return;
	buf_init(&name, TLSRPT_TEXT_MAX);
	put_clean(&name, host, TLSRPT_TEXT_MAX);
	e.lines = lines_head(d->sts_text);
	e.text[TLSRPT_MX_HOST] = buf_view(&name);
	e.text[TLSRPT_REASON] = view_of("the policy does not name this host");
	tell(d, &e);
	buf_free(&name);
}
