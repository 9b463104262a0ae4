/*
 * The certificate of a client, in DER: what it says of itself goes into the
 * log, a header and requests to policy services, each of one line.
 */
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stddef.h>

#include "lib/log.h"
#include "lib/tls_info.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
one_line(const char *text)
{
	for (; *text != '\0'; text++)
		ensure((unsigned char)*text >= ' ' && *text != 0x7f);
}

/* Lines that begin with a tab, of printable ASCII. */
static void
header_lines(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++) {
		ensure(i > 0 ? v.p[i] == '\t' || v.p[i] == '\r' ||
		    v.p[i] == '\n' || (v.p[i] >= ' ' && v.p[i] <= '~') :
		    v.p[i] == '\t');
		ensure(v.p[i] != '\n' || (v.p[i - 1] == '\r' &&
		    (i + 1 == v.n || v.p[i + 1] == '\t')));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tls_info i = { .protocol = "TLSv1.3", .cipher = "x" };
	const unsigned char *p = data;
	X509 *cert = d2i_X509(NULL, &p, (long)size);
	struct buf b;

	ERR_clear_error();
	if (cert == NULL)
		return 0;
	tls_info_certificate(&i, cert, EVP_sha256());
	one_line(i.subject);
	one_line(i.issuer);
	ensure(strlen(i.subject) <= TLS_NAME_MAX &&
	    strlen(i.issuer) <= TLS_NAME_MAX);
	buf_init(&b, 4000);
	tls_info_received(&i, &b);
	header_lines(buf_view(&b));
	buf_free(&b);
	tls_info_free(&i);
	X509_free(cert);
	return 0;
}
