/* link: proxy/smtpd_session.c proxy/smtpd_io.c proxy/smtpd_auth.c proxy/smtpd_auth_service.c proxy/smtpd_starttls.c proxy/smtpd_handshake.c proxy/smtpd_tls.c proxy/smtpd_tls_context.c proxy/smtpd_command.c proxy/smtpd_transaction.c proxy/smtpd_server.c proxy/smtpd_ehlo.c proxy/smtpd_mail.c proxy/smtpd_rcpt.c proxy/smtpd_data.c proxy/smtpd_rset.c proxy/smtpd_noop.c proxy/smtpd_vrfy.c proxy/smtpd_etrn.c proxy/smtpd_quit.c proxy/smtpd_xforward.c proxy/smtpd_text.c proxy/smtpd_binary.c proxy/smtpd_received.c proxy/smtpd_notice.c proxy/smtpd_policy.c proxy/smtpd_rate.c proxy/smtpd_ask.c proxy/smtpd_refusal.c proxy/smtpd_milter.c proxy/smtpd_bdat.c proxy/smtpd_xclient.c t/unit/fake_smtpd.c */
/*
 * What comes instead of a TLS handshake: behind STARTTLS, or from the first
 * byte on.  The first byte chooses the size of the pieces.  Whatever it is,
 * none of it is a command.
 */
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_tls.h"
#include "t/unit/fake_smtpd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
report(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		fatal("%s", text);
}

/* A key and its certificate, in a file that is in memory. */
static char *
make_keys(void)
{
	int fd = memfd_create("keys", 0);
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	FILE *f = fdopen(fd, "w");

	ensure(f != NULL && key != NULL && cert != NULL);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400L * 300);
	ensure(X509_set_pubkey(cert, key) == 1 &&
	    X509_sign(cert, key, EVP_sha256()) > 0);
	ensure(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1 &&
	    PEM_write_X509(f, cert) == 1 && fflush(f) == 0);
	EVP_PKEY_free(key);
	X509_free(cert);
	return mem_printf("/proc/self/fd/%d", fd);
}

static void
start(void)
{
	char *file = make_keys(), *text = mem_printf(
	    "smtpd_tls_security_level = may\nsmtpd_tls_ask_ccert = yes\n"
	    "smtpd_tls_chain_files = %s\n", file);

	log_to(LOG_SINK_FILE, -1, 0);
	fake_start(text);
	ensure(tls_server_open(fake.conf, "smtp", &fake.server.tls, report,
	    NULL));
	free(text);
	free(file);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool started;
	size_t piece, n;

	if (!started) {
		started = true;
		start();
	}
	if (size == 0)
		return 0;
	fake.server.tls->wrapper = (*data & 128) != 0;
	piece = (size_t)(*data & 15) * (*data & 15) + 1;
	data++;
	size--;
	(void)fake_connect();
	if (!fake.server.tls->wrapper) {
		(void)fake_say("EHLO x.example\r\n");
		ensure(strncmp(fake_say("STARTTLS\r\n"), "220 ", 4) == 0);
	}
	while (size > 0 && fake.server.n > 0) {
		n = piece < size ? piece : size;
		fake_send(data, n);
		data += n;
		size -= n;
		fake_run();
		/* An alert or a ServerHello; never a reply. */
		ensure(fake.said_n == 0 || fake.said[0] == 21 ||
		    fake.said[0] == 22 || fake.said[0] == 20 ||
		    fake.said[0] == 23);
	}
	fake_disconnect();
	ensure(fake.server.n == 0 && fake.server.tls->first == NULL);
	return 0;
}
