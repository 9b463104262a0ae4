/* link: proxy/smtpd_session.c proxy/smtpd_io.c proxy/smtpd_auth.c proxy/smtpd_auth_service.c proxy/smtpd_starttls.c proxy/smtpd_handshake.c proxy/smtpd_tls.c proxy/smtpd_tls_context.c proxy/smtpd_command.c proxy/smtpd_transaction.c proxy/smtpd_server.c proxy/smtpd_ehlo.c proxy/smtpd_mail.c proxy/smtpd_rcpt.c proxy/smtpd_data.c proxy/smtpd_rset.c proxy/smtpd_noop.c proxy/smtpd_vrfy.c proxy/smtpd_etrn.c proxy/smtpd_quit.c proxy/smtpd_xforward.c proxy/smtpd_text.c proxy/smtpd_binary.c proxy/smtpd_received.c proxy/smtpd_notice.c proxy/smtpd_policy.c proxy/smtpd_rate.c proxy/smtpd_ask.c proxy/smtpd_refusal.c proxy/smtpd_milter.c proxy/smtpd_bdat.c proxy/smtpd_xclient.c t/unit/fake_smtpd.c */
/*
 * TLS of a session, without a network: the client is OpenSSL with its bytes
 * in memory, so that a test can cut, change and withhold them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/smtpd_tls.h"
#include "t/unit/fake_smtpd.h"

static char dir[] = "/tmp/postern-unit-tls-XXXXXX";
static char *own_file;		/* of the server: key and certificate */
static EVP_PKEY *client_key;
static X509 *client_cert;
static const uint8_t seed[TLS_SEED_SIZE] = { 1, 2, 3 };

static struct {
	SSL_CTX *ctx;
	SSL *ssl;
	BIO *in, *out;		/* to the client, from it */
	size_t piece;		/* of what is sent; 0: all at once */
	bool closed;		/* by the server */
	char said[20000];	/* decrypted */
} client;

/* -- certificates ---------------------------------------------------------- */

static X509 *
make_cert(EVP_PKEY *key, const char *name)
{
	X509 *cert = X509_new();
	X509_NAME *n = X509_get_subject_name(cert);

	assert_int_equal(X509_set_version(cert, 2), 1);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -100);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400L * 30);
	assert_int_equal(X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8,
	    (const unsigned char *)name, -1, -1, 0), 1);
	X509_set_issuer_name(cert, n);
	X509_set_pubkey(cert, key);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	return cert;
}

static int
setup_files(void **state)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = make_cert(key, "gw.example.net");
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	own_file = mem_printf("%s/own.pem", dir);
	f = fopen(own_file, "w");
	assert_non_null(f);
	assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL,
	    NULL), 1);
	assert_int_equal(PEM_write_X509(f, cert), 1);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(own_file, 0600), 0);
	EVP_PKEY_free(key);
	X509_free(cert);
	client_key = EVP_EC_gen("P-256");
	client_cert = make_cert(client_key, "mail.client.example");
	return 0;
}

static int
remove_files(void **state)
{
	(void)state;
	(void)unlink(own_file);
	(void)rmdir(dir);
	free(own_file);
	EVP_PKEY_free(client_key);
	X509_free(client_cert);
	return 0;
}

static char *
client_fingerprint(void)
{
	unsigned char *der = NULL;
	int n = i2d_X509(client_cert, &der);
	char *text = tls_fingerprint(EVP_sha256(), der, (size_t)n);

	OPENSSL_free(der);
	return text;
}

/* -- both sides ------------------------------------------------------------ */

static void
report(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		fatal("%s", text);
}

static void
start_as(const char *service, const char *settings)
{
	char *text = mem_printf("smtpd_tls_security_level = may\n"
	    "smtpd_tls_chain_files = %s\n%s", own_file, settings);

	fake_start(text);
	free(text);
	assert_true(tls_server_open(fake.conf, service, &fake.server.tls,
	    report, NULL));
	assert_non_null(fake.server.tls);
	tls_server_seed(fake.server.tls, seed, clock_mono());
}

static void
start(const char *settings)
{
	start_as("smtp", settings);
}

static void
client_end(void)
{
	SSL_free(client.ssl);
	client.ssl = NULL;
}

static void
stop(void)
{
	client_end();
	SSL_CTX_free(client.ctx);
	fake_stop();
	memset(&client, 0, sizeof client);
}

static void
run_loop(void)
{
	int i;

	for (i = 0; i < 4; i++)
		event_base_loop(loop_base(), EVLOOP_NONBLOCK);
}

/* What the client has to say goes out, what is there comes in. */
static void
pump(void)
{
	char b[20000];
	ssize_t n;
	int k, at;

	while ((k = BIO_read(client.out, b, sizeof b)) > 0)
		for (at = 0; at < k; at += (int)client.piece) {
			if (client.piece == 0 ||
			    client.piece > (size_t)(k - at)) {
				fake_send(b + at, (size_t)(k - at));
				break;
			}
			fake_send(b + at, client.piece);
			run_loop();
		}
	run_loop();
	while ((n = recv(fake.client, b, sizeof b, MSG_DONTWAIT)) > 0) {
		assert_int_equal(BIO_write(client.in, b, (int)n), n);
		run_loop();
	}
	if (n == 0)
		client.closed = true;
}

static void
client_begin(SSL_SESSION *session)
{
	if (client.ctx == NULL)
		client.ctx = SSL_CTX_new(TLS_client_method());
	client.ssl = SSL_new(client.ctx);
	client.in = BIO_new(BIO_s_mem());
	client.out = BIO_new(BIO_s_mem());
	client.closed = false;
	SSL_set_bio(client.ssl, client.in, client.out);
	SSL_set_connect_state(client.ssl);
	if (session != NULL)
		assert_int_equal(SSL_set_session(client.ssl, session), 1);
}

static bool
shake(void)
{
	int i, rc = 0;

	for (i = 0; i < 20 && rc != 1 && !client.closed; i++) {
		rc = SSL_do_handshake(client.ssl);
		pump();
	}
	return rc == 1;
}

/* Send through TLS; returns what comes back. */
static const char *
say(const char *text)
{
	size_t n = 0;
	int rc, i;

	if (text[0] != '\0')
		assert_true(SSL_write(client.ssl, text,
		    (int)strlen(text)) > 0);
	for (i = 0; i < 3; i++) {
		pump();
		while ((rc = SSL_read(client.ssl, client.said + n,
		    (int)(sizeof client.said - 1 - n))) > 0)
			n += (size_t)rc;
	}
	client.said[n] = '\0';
	return client.said;
}

/* Connect and go over to TLS. */
static struct session *
secure(void)
{
	struct session *s = fake_connect();

	assert_non_null(strstr(fake_say("EHLO before.example\r\n"),
	    "250-STARTTLS\r\n"));
	assert_string_equal(fake_say("STARTTLS\r\n"),
	    "220 2.0.0 Ready to start TLS\r\n");
	client_begin(NULL);
	assert_true(shake());
	assert_true(tls_active(s));
	return s;
}

/* -- tests ----------------------------------------------------------------- */

static enum tls_head
head(const char *bytes, size_t n)
{
	return tls_head_check((const uint8_t *)bytes, n);
}

static void
heads(void **state)
{
	static const char good[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc";
	size_t n;

	(void)state;
	for (n = 0; n < TLS_HEAD_SIZE; n++)
		assert_int_equal(head(good, n), TLS_HEAD_MORE);
	assert_int_equal(head(good, TLS_HEAD_SIZE), TLS_HEAD_GOOD);
	assert_int_equal(head("EHLO", 1), TLS_HEAD_OTHER);
	assert_int_equal(head("\x16\x02", 2), TLS_HEAD_OTHER);
	assert_int_equal(head("\x80\x2e\x01\x03\x01", 5), TLS_HEAD_OTHER);
	assert_int_equal(head("\x16\x03\x01\x02\x00\x02", 6),
	    TLS_HEAD_OTHER);
	assert_int_equal(head("\x16\x03\x01\x40\x00\x01\x00\x40\x01", 9),
	    TLS_HEAD_TOO_LONG);
	assert_int_equal(head("\x16\x03\x01\x40\x00\x01\x01\x00\x00", 9),
	    TLS_HEAD_TOO_LONG);
	assert_int_equal(head("\x16\x03\x01\x40\x00\x01\x00\x40\x00", 9),
	    TLS_HEAD_GOOD);
	/* The length in pieces. */
	assert_int_equal(head("\x16\x03\x01\x00\x01\x01\x16\x03\x01", 9),
	    TLS_HEAD_OTHER);
}

static void
all_is_forgotten(void **state)
{
	struct session *s;

	(void)state;
	start("smtpd_helo_required = yes\n");
	s = secure();
	assert_null(s->helo);
	assert_false(s->esmtp);
	assert_int_equal(s->state, SMTP_CONNECTED);
	assert_memory_equal(say("MAIL FROM:<a@b.example>\r\n"), "503 ", 4);
	assert_null(strstr(say("EHLO after.example\r\n"), "STARTTLS"));
	assert_non_null(strstr(client.said, "250-SMTPUTF8"));
	assert_string_equal(say("STARTTLS\r\n"),
	    "554 5.5.1 Error: TLS already active\r\n");
	assert_memory_equal(say("MAIL FROM:<a@b.example>\r\n"), "250 ", 4);
	assert_string_equal(say("STARTTLS\r\n"), "503 5.5.1 Error: MAIL "
	    "transaction in progress\r\n");
	assert_memory_equal(say("QUIT\r\n"), "221 ", 4);
	/* It says that nothing follows. */
	assert_int_equal(SSL_get_shutdown(client.ssl) & SSL_RECEIVED_SHUTDOWN,
	    SSL_RECEIVED_SHUTDOWN);
	stop();
}

static void
any_pieces(void **state)
{
	static const size_t pieces[] = { 1, 2, 5, 100 };
	size_t i;

	(void)state;
	start("");
	for (i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
		client.piece = pieces[i];
		(void)secure();
		assert_memory_equal(say("EHLO x.example\r\n"), "250-gw", 6);
		assert_non_null(strstr(say("MAIL FROM:<a@b.example>\r\n"
		    "RCPT TO:<c@inside.example>\r\nDATA\r\n"), "\r\n354 "));
		(void)say("Subject: x\r\n\r\ntext\r\n.\r\n");
		assert_non_null(fake.sealing);
		data_sealed(fake.sealing, 250, view_of("2.0.0"),
		    view_of("Ok"), view_of(""));
		fake.sealing = NULL;
		assert_string_equal(say(""), "250 2.0.0 Ok\r\n");
		client_end();
		fake_disconnect();
	}
	stop();
}

/* What stands behind STARTTLS in the clear is never a command, and what was
 * sent behind the handshake is there at once. */
static void
nothing_crosses(void **state)
{
	static const char *const settings[] = { "",
		"smtpd_forbid_unauth_pipelining = no\n" };
	size_t i;

	(void)state;
	for (i = 0; i < 2; i++) {
		start(settings[i]);
		(void)fake_connect();
		(void)fake_say("EHLO x.example\r\n");
		assert_string_equal(fake_say("STARTTLS\r\nRSET\r\n"),
		    "554 5.5.0 Error: SMTP protocol synchronization\r\n");
		assert_int_equal(fake.ended, 1);
		/* In a packet of its own it is no handshake. */
		(void)fake_connect();
		(void)fake_say("EHLO x.example\r\n");
		(void)fake_say("STARTTLS\r\n");
		assert_string_equal(fake_say("MAIL FROM:<a@b.example>\r\n"),
		    "");
		assert_int_equal(fake.ended, 2);
		stop();
	}
	start("");
	(void)fake_connect();
	(void)fake_say("EHLO x.example\r\n");
	(void)fake_say("STARTTLS\r\n");
	client_begin(NULL);
	for (i = 0; i < 20 && SSL_do_handshake(client.ssl) != 1; i++)
		pump();
	/* One packet: the end of the handshake, and a command. */
	assert_memory_equal(say("EHLO y.example\r\n"), "250-gw", 6);
	stop();
}

static void
long_hello(void **state)
{
	static const char huge[] = "\x16\x03\x01\x40\x00\x01\x01\xff\xff";
	int i;

	(void)state;
	start("");
	for (i = 0; i < 2; i++) {
		(void)fake_connect();
		(void)fake_say("EHLO x.example\r\n");
		(void)fake_say("STARTTLS\r\n");
		fake_send(huge, i == 0 ? 9 : 4);
		fake_run();
		assert_int_equal(fake.ended, i == 0 ? 1 : 1);
		fake_send(huge + 4, 5);
		fake_run();
		assert_int_equal(fake.ended, 1u + (unsigned)i);
	}
	stop();
}

static void
mandatory(void **state)
{
	static const char *const later[] = { "MAIL FROM:<a@b.example>\r\n",
		"RSET\r\n", "VRFY a@b.example\r\n", "DATA\r\n",
		"ETRN inside.example\r\n", "RCPT TO:<a@b.example>\r\n" };
	size_t i;

	(void)state;
	start("smtpd_tls_security_level = encrypt\n");
	(void)fake_connect();
	for (i = 0; i < sizeof later / sizeof later[0]; i++)
		assert_string_equal(fake_say(later[i]),
		    "530 5.7.0 Must issue a STARTTLS command first\r\n");
	assert_memory_equal(fake_say("NOOP\r\n"), "250 ", 4);
	assert_memory_equal(fake_say("HELO x.example\r\n"), "250 ", 4);
	assert_memory_equal(fake_say("QUIT\r\n"), "221 ", 4);
	(void)secure();
	assert_memory_equal(say("EHLO x.example\r\n"), "250-", 4);
	assert_memory_equal(say("MAIL FROM:<a@b.example>\r\n"), "250 ", 4);
	stop();
}

static void
not_offered(void **state)
{
	(void)state;
	start("smtpd_discard_ehlo_keywords = starttls\n");
	(void)fake_connect();
	assert_null(strstr(fake_say("EHLO x.example\r\n"), "STARTTLS"));
	assert_memory_equal(fake_say("STARTTLS\r\n"), "502 ", 4);
	assert_memory_equal(fake_say("STARTTLS now\r\n"), "501 ", 4);
	stop();
}

static void
wrapper(void **state)
{
	struct session *s;

	(void)state;
	start("smtpd_tls_wrappermode = yes\n");
	s = fake_connect();
	assert_string_equal(fake.said, "");
	client_begin(NULL);
	assert_true(shake());
	assert_true(tls_active(s));
	assert_memory_equal(say(""), "220 gw.example.net", 18);
	assert_null(strstr(say("EHLO x.example\r\n"), "STARTTLS"));
	stop();
	/* Who does not wait for the greeting. */
	start("smtpd_tls_wrappermode = yes\n");
	(void)fake_connect();
	client_begin(NULL);
	while (SSL_do_handshake(client.ssl) != 1)
		pump();
	assert_memory_equal(say("EHLO x.example\r\n"), "554 ", 4);
	stop();
}

/* -- sessions -------------------------------------------------------------- */

static SSL_SESSION *
one_session(SSL_SESSION *session, bool *ret_reused)
{
	SSL_SESSION *got;

	(void)fake_connect();
	(void)fake_say("EHLO x.example\r\n");
	(void)fake_say("STARTTLS\r\n");
	client_begin(session);
	assert_true(shake());
	(void)say("EHLO x.example\r\n");
	*ret_reused = SSL_session_reused(client.ssl) == 1;
	got = SSL_get1_session(client.ssl);
	SSL_shutdown(client.ssl);
	client_end();
	fake_disconnect();
	SSL_SESSION_free(session);
	return got;
}

static void
tickets(void **state)
{
	SSL_SESSION *got;
	bool reused;

	(void)state;
	start("");
	got = one_session(NULL, &reused);
	assert_false(reused);
	got = one_session(got, &reused);
	assert_true(reused);
	fake_stop();
	/* Another process of the generation. */
	start("");
	got = one_session(got, &reused);
	assert_true(reused);
	fake_stop();
	/* The same seed, and yet another service. */
	start_as("submission", "");
	got = one_session(got, &reused);
	assert_false(reused);
	fake_stop();
	start("smtpd_tls_session_cache_timeout = 0\n");
	got = one_session(got, &reused);
	assert_false(reused);
	assert_false(SSL_SESSION_has_ticket(got));
	SSL_SESSION_free(got);
	stop();
}

static void
show_certificate(void)
{
	client.ctx = SSL_CTX_new(TLS_client_method());
	assert_int_equal(SSL_CTX_use_cert_and_key(client.ctx, client_cert,
	    client_key, NULL, 1), 1);
}

static void
certificates(void **state)
{
	char *print = client_fingerprint(), *text;
	const struct tls_info *i;
	struct session *s;

	(void)state;
	text = mem_printf("smtpd_tls_ask_ccert = yes\n"
	    "relay_clientcerts = inline:{%s=mail}\n"
	    "smtpd_relay_restrictions = permit_tls_clientcerts, reject\n",
	    print);
	start(text);
	show_certificate();
	s = secure();
	i = tls_session_info(s);
	assert_string_equal(i->subject, "mail.client.example");
	assert_string_equal(i->fingerprint, print);
	assert_false(i->trusted);
	assert_non_null(i->verify_error);
	(void)say("EHLO x.example\r\n");
	(void)say("MAIL FROM:<a@b.example>\r\n");
	assert_memory_equal(say("RCPT TO:<c@elsewhere.example>\r\n"), "250 ",
	    4);
	client_end();
	fake_disconnect();
	/* Without: no. */
	SSL_CTX_free(client.ctx);
	client.ctx = NULL;
	(void)secure();
	(void)say("EHLO x.example\r\n");
	(void)say("MAIL FROM:<a@b.example>\r\n");
	assert_memory_equal(say("RCPT TO:<c@elsewhere.example>\r\n"), "554 ",
	    4);
	stop();
	free(text);
	free(print);
}

static void
certificate_needed(void **state)
{
	(void)state;
	start("smtpd_tls_security_level = encrypt\n"
	    "smtpd_tls_req_ccert = yes\n");
	show_certificate();
	(void)fake_connect();
	(void)fake_say("EHLO x.example\r\n");
	(void)fake_say("STARTTLS\r\n");
	client_begin(NULL);
	(void)shake();
	/* Nobody we know signed it. */
	pump();
	assert_int_equal(fake.ended, 1);
	stop();
}

/* New keys cost us more than whoever asks for them. */
static void
key_flood(void **state)
{
	int i;

	(void)state;
	start("");
	(void)secure();
	for (i = 0; i < 20; i++) {
		assert_int_equal(SSL_key_update(client.ssl,
		    SSL_KEY_UPDATE_REQUESTED), 1);
		assert_int_equal(SSL_do_handshake(client.ssl), 1);
		pump();
	}
	assert_memory_equal(say("EHLO x.example\r\n"), "250-", 4);
	for (i = 0; i < 2000 && !client.closed; i++) {
		(void)SSL_key_update(client.ssl,
		    SSL_KEY_UPDATE_NOT_REQUESTED);
		(void)SSL_do_handshake(client.ssl);
		if (i % 50 == 49)
			pump();
	}
	assert_true(client.closed);
	assert_int_equal(fake.ended, 1);
	stop();
}

/* A byte changed on its way ends the session. */
static void
damaged(void **state)
{
	char b[1000];
	int n;

	(void)state;
	start("");
	(void)secure();
	assert_true(SSL_write(client.ssl, "NOOP\r\n", 6) > 0);
	n = BIO_read(client.out, b, sizeof b);
	assert_true(n > 10);
	b[n - 1] = (char)(b[n - 1] ^ 1);
	fake_send(b, (size_t)n);
	run_loop();
	assert_int_equal(fake.ended, 1);
	stop();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(heads),
		cmocka_unit_test(all_is_forgotten),
		cmocka_unit_test(any_pieces),
		cmocka_unit_test(nothing_crosses),
		cmocka_unit_test(long_hello),
		cmocka_unit_test(mandatory),
		cmocka_unit_test(not_offered),
		cmocka_unit_test(wrapper),
		cmocka_unit_test(tickets),
		cmocka_unit_test(certificates),
		cmocka_unit_test(certificate_needed),
		cmocka_unit_test(key_flood),
		cmocka_unit_test(damaged),
	};

	return cmocka_run_group_tests(tests, setup_files, remove_files);
}
