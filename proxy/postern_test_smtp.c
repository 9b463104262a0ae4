/* postern test: the session that one would type into telnet. */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/conf_choice.h"
#include "lib/mem.h"
#include "lib/tls_words.h"
#include "proxy/postern_talk.h"
#include "proxy/postern_test.h"
#include "rules/addr_list.h"

#define CERT_DAYS	14	/* before its end that is worth a note */

struct door {
	const struct listener *listener;
	const struct conf *cf;	/* of its service */
	struct netaddr addr;	/* where we reach it */
	bool wrapper, proxied;
	bool full;		/* the whole session, not only its beginning */
	bool trusted;		/* mynetworks has the address we come from */
	bool xclient;		/* it is offered */
	struct talk *t;
};

static const char *
said(const struct door *d, int code)
{
	return code != 0 ? log_safe(view_head(view_of(d->t->reply), 300)) :
	    d->t->why;
}

/* -- certificates ---------------------------------------------------------- */

static void
door_certificate(struct selftest *s, const struct door *d)
{
	X509 *cert = SSL_get1_peer_certificate(d->t->tls);
	const char *look = selftest_place(s, d->cf, "smtpd_tls_cert_file");
	int days = 0, seconds = 0;
	long bad = SSL_get_verify_result(d->t->tls);

	printf("    (%s, %s)\n", SSL_get_version(d->t->tls),
	    SSL_get_cipher_name(d->t->tls));
	if (cert == NULL) {
		selftest_mark(s, MARK_FAILED, look, "no certificate");
		return;
	}
	if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)) !=
	    1 || days < 0 || seconds < 0)
		selftest_mark(s, MARK_FAILED, look, "the certificate has "
		    "expired");
	else if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
		selftest_mark(s, MARK_FAILED, look, "the certificate is not "
		    "valid yet: is the clock right?");
	else
		selftest_mark(s, days < CERT_DAYS ? MARK_NOTE : MARK_OK,
		    days < CERT_DAYS ? look : NULL, "STARTTLS; the "
		    "certificate is valid for %d more days", days);
	if (X509_check_host(cert, s->cf->myhostname, 0, 0, NULL) != 1)
		selftest_mark(s, MARK_NOTE, look, "the certificate does not "
		    "name %s", s->cf->myhostname);
	if (bad != X509_V_OK)
		selftest_mark(s, MARK_NOTE, look, "others need not trust the "
		    "certificate: %s", X509_verify_cert_error_string(bad));
	X509_free(cert);
	ERR_clear_error();
}

static bool
door_ehlo(struct selftest *s, struct door *d)
{
	int code = talk_say(d->t, "EHLO %s", s->name);

	d->xclient = talk_offers(d->t, "XCLIENT");
	if (code == 250)
		return true;
	selftest_mark(s, MARK_FAILED, selftest_place(s, d->cf,
	    "smtpd_helo_restrictions"), "EHLO: %s", said(d, code));
	return false;
}

/* False: the session cannot go on. */
static bool
door_starttls(struct selftest *s, struct door *d)
{
	enum tls_level level;
	bool wanted = !tls_server_level(d->cf, &level) ||
	    level != TLS_LEVEL_NONE;
	int code;

	if (!talk_offers(d->t, "STARTTLS")) {
		selftest_mark(s, wanted ? MARK_FAILED : MARK_NOTE,
		    selftest_place(s, d->cf, wanted ? "smtpd_tls_cert_file" :
		    "smtpd_tls_security_level"), "STARTTLS is not offered");
		return true;
	}
	code = talk_say(d->t, "STARTTLS");
	if (code != 220 || !talk_tls(d->t)) {
		selftest_mark(s, MARK_FAILED, selftest_place(s, d->cf,
		    "smtpd_tls_cert_file"), "STARTTLS: %s", code != 220 ?
		    said(d, code) : d->t->why);
		return false;
	}
	door_certificate(s, d);
	return door_ehlo(s, d);
}

/* -- the whole session ----------------------------------------------------- */

/* MAIL and RCPT.  The code of what was refused, else that of RCPT. */
static int
door_envelope(const struct door *d, const char *from, const char *to)
{
	int code = talk_say(d->t, "MAIL FROM:<%s>", from);

	return code == 250 ? talk_say(d->t, "RCPT TO:<%s>", to) : code;
}

static void
door_rset(struct selftest *s, const struct door *d)
{
	int code = talk_say(d->t, "RSET");

	if (code != 250)
		selftest_mark(s, MARK_FAILED, NULL, "RSET: %s",
		    said(d, code));
}

/* The recipient that is ours; true: accepted. */
static bool
door_accepts(struct selftest *s, const struct door *d, const char *to)
{
	int code = door_envelope(d, s->postmaster, to);
	bool ok = code / 100 == 2;

	if (ok)
		selftest_mark(s, MARK_OK, NULL, "mail for %s is accepted",
		    to);
	else if (code == 530 || code == 538)
		selftest_mark(s, MARK_OK, NULL, "clients must log in, or use "
		    "TLS, first: %s", said(d, code));
	else if (code / 100 == 4)
		selftest_mark(s, MARK_NOTE, "the log", "mail for %s is put "
		    "off for now: %s", to, said(d, code));
	else
		selftest_mark(s, MARK_FAILED, "`postern explain --client "
		    "127.0.0.1`, which names the rule", "mail for %s is "
		    "refused: %s", to, said(d, code));
	return ok;
}

static void
door_send(struct selftest *s, const struct door *d)
{
	char *text;
	int code = talk_say(d->t, "DATA");

	if (code == 354) {
		text = selftest_message(s, s->to, "Test of the mail gateway");
		code = talk_message(d->t, text);
		free(text);
	}
	s->count->sent = code == 250;
	if (code == 250)
		selftest_mark(s, MARK_OK, NULL, "the message is taken: %s",
		    said(d, code));
	else
		selftest_mark(s, code / 100 == 4 ? MARK_NOTE : MARK_FAILED,
		    "`postern explain --message FILE`", "the message is not "
		    "taken: %s", said(d, code));
}

/* -- what strangers may ask for -------------------------------------------- */

static void
door_relay(struct selftest *s, const struct door *d, const char *who)
{
	size_t at = strcspn(s->postmaster, "@");
	size_t far = strcspn(s->stranger, "@");
	char *hack = mem_printf("postern-test%%%s%s", s->stranger + far + 1,
	    s->postmaster + at);
	const char *const tries[][2] = {
		{ "", s->stranger },		/* the plain case */
		{ s->postmaster, s->stranger },	/* as one of us */
		{ "", hack },			/* RFC 1123 section 5.2.16 */
	};
	unsigned refused = 0;
	int code = 0;
	size_t i;

	s->count->relay_asked = true;
	for (i = 0; i < 3; i++) {
		code = door_envelope(d, tries[i][0], tries[i][1]);
		/* With a name for each user of ours this is one of them. */
		if (code / 100 == 2 && tries[i][1] == hack)
			selftest_mark(s, MARK_NOTE, selftest_place(s, d->cf,
			    "relay_recipient_maps"), "<%s> is accepted: the "
			    "server inside must refuse it", hack);
		else if (code / 100 == 2)
			selftest_mark(s, MARK_FAILED, selftest_place(s, d->cf,
			    "smtpd_relay_restrictions"), "AN OPEN RELAY: %s "
			    "may send from <%s> to <%s>", who, tries[i][0],
			    tries[i][1]);
		else if (code == 0)
			break;
		refused += code / 100 != 2;
		door_rset(s, d);
	}
	if (i < 3)
		selftest_mark(s, MARK_NOTE, "the log", "the session ended: "
		    "%s", d->t->why);
	else if (refused >= 2 && code != 0)
		selftest_mark(s, MARK_OK, NULL, "%s may not send to other "
		    "domains", who);
	free(hack);
}

static void
door_stranger(struct selftest *s, struct door *d)
{
	int code;

	if (s->stranger == NULL || s->outside == NULL) {
		selftest_mark(s, MARK_FAILED, selftest_place(s, d->cf,
		    s->outside == NULL ? "mynetworks" : "relay_domains"),
		    "there are no strangers: the whole Internet may send to "
		    "all domains");
		return;
	}
	if (!d->trusted)
		door_relay(s, d, "this client");
	if (!d->xclient)
		return;
	code = talk_say(d->t, "XCLIENT NAME=[UNAVAILABLE] ADDR=%s%s",
	    strchr(s->outside, ':') != NULL ? "IPV6:" : "", s->outside);
	if (code != 220) {
		selftest_mark(s, MARK_NOTE, selftest_place(s, d->cf,
		    "smtpd_authorized_xclient_hosts"), "XCLIENT: %s",
		    said(d, code));
		return;
	}
	if (door_ehlo(s, d))
		door_relay(s, d, s->outside);
}

/* -- a session ------------------------------------------------------------- */

static void
door_whole(struct selftest *s, struct door *d)
{
	const char *to = s->to != NULL ? s->to : s->postmaster;
	bool ok;

	ok = door_accepts(s, d, to);
	if (ok && s->to != NULL && !s->probe) {
		door_send(s, d);
		door_rset(s, d);
	} else {
		door_rset(s, d);
		if (ok)
			selftest_mark(s, MARK_NOT_DONE, NULL, "no message is "
			    "sent%s", s->probe ? ": --probe" :
			    ": postern test --to ADDRESS sends one");
	}
	door_stranger(s, d);
}

static void
door_speak(struct selftest *s, struct door *d)
{
	bool named;
	int code;

	if (!talk_open(d->t, &d->addr, d->wrapper, s->limit_ms)) {
		selftest_mark(s, MARK_FAILED, d->wrapper ? selftest_place(s,
		    d->cf, "smtpd_tls_cert_file") : "the log", "%s",
		    d->t->why);
		return;
	}
	code = talk_reply(d->t);
	named = code == 220 && memmem(d->t->reply, strlen(d->t->reply),
	    s->cf->myhostname, strlen(s->cf->myhostname)) != NULL;
	if (code != 220) {
		selftest_mark(s, MARK_FAILED, "the log", "greeting: %s",
		    said(d, code));
		return;
	}
	selftest_mark(s, named ? MARK_OK : MARK_NOTE, named ? NULL :
	    selftest_place(s, d->cf, "smtpd_banner"), "it greets%s", named ?
	    "" : ", but not with its name");
	if (!door_ehlo(s, d))
		return;
	if (d->wrapper)
		door_certificate(s, d);
	else if (!door_starttls(s, d))
		return;
	if (d->full)
		door_whole(s, d);
	code = talk_say(d->t, "QUIT");
	if (code != 221)
		selftest_mark(s, MARK_FAILED, "the log", "QUIT: %s",
		    said(d, code));
}

static void
door_run(struct selftest *s, const void *arg)
{
	struct door d = *(const struct door *)arg;

	d.t = mem_alloc(sizeof *d.t);
	door_speak(s, &d);
	talk_close(d.t);
	free(d.t);
}

static void
door_silent(bool error, const char *text, void *arg)
{
	(void)error;
	(void)text;
	(void)arg;
}

/* We come from the address that we go to. */
static bool
door_trusted(const struct door *d, const char *config_dir)
{
	struct addr_list *l = net_list_open("mynetworks", d->cf->mynetworks,
	    config_dir, door_silent, NULL);
	bool trusted = l == NULL || net_list_match(l, view_of("localhost"),
	    &d->addr) != TABLE_NOT_FOUND;

	addr_list_free(&l);
	return trusted;
}

static struct door
door_of(const struct selftest *s, const struct listener *l)
{
	const struct team *t = config_team(s->c, ROLE_SMTPD, l->service);
	struct door d = { .listener = l, .cf = t != NULL ? t->cf : s->cf };

	d.addr = netaddr_reachable(&l->addr);
	d.wrapper = d.cf->smtpd_tls_wrappermode;
	d.proxied = conf_choice("smtpd_upstream_proxy_protocol", view_of(
	    d.cf->smtpd_upstream_proxy_protocol)) != 0;
	d.trusted = door_trusted(&d, s->config_dir);
	return d;
}

void
selftest_sessions(struct selftest *s)
{
	const struct listen_set *set = s->c->listen;
	char text[LISTEN_TEXT];
	bool whole = false;
	struct door d;
	size_t i;

	if (set->n == 0) {
		selftest_title("A session");
		selftest_mark(s, MARK_NOT_DONE, NULL, "nothing listens here: "
		    "this instance only sends");
	}
	selftest_new_id(s);
	for (i = 0; i < set->n; i++) {
		d = door_of(s, &set->list[i]);
		selftest_title("A session with %s, for %s of master.cf",
		    listen_text(&d.addr, text), d.listener->name);
		if (d.proxied || (d.wrapper && d.cf->smtpd_tls_req_ccert)) {
			selftest_mark(s, MARK_NOT_DONE, NULL, d.proxied ?
			    "it wants the header of a proxy first" :
			    "it speaks with clients that have a certificate");
			continue;
		}
		d.full = !whole && !d.wrapper;
		whole = whole || d.full;
		selftest_apart(s, door_run, &d);
		if (d.full && s->count->sent)
			selftest_log_follow(s);
	}
}
