/*
 * Private keys, certificates and authorities out of PEM files, into an OpenSSL
 * context.  All is read at once, before the jail, and no file is opened again.
 * What is wrong is reported with the file's name; a file has a maximum, and so
 * has the number of certificates.
 */
#ifndef LIB_TLS_CHAIN_H
#define LIB_TLS_CHAIN_H

#include <openssl/types.h>

#include "lib/conf.h"

/* A certificate that we show, and when it ends. */
struct tls_cert {
	char *file;
	int64_t ends;		/* seconds of wall time */
};
struct tls_certs {
	struct tls_cert *list;
	size_t n;
};
void tls_certs_free(struct tls_certs *c);
/* The one that ends first; NULL: there is none. */
const struct tls_cert *tls_certs_first(const struct tls_certs *c);

/*
 * A certificate with its chain from one file, its key from another or the
 * same.  False after a report: a file cannot be read, has no key or no
 * certificate, or they do not belong together.
 */
bool tls_chain_pair(SSL_CTX *ctx, const char *cert_file,
    const char *key_file, struct tls_certs *certs, conf_report *report,
    void *arg);
/* Each key of the file with the certificate and chain that follow it. */
bool tls_chain_file(SSL_CTX *ctx, const char *file, struct tls_certs *certs,
    conf_report *report, void *arg);

/*
 * Authorities for certificates of peers: of a file, whose names clients are
 * told, and of all files in a directory; either may be "".
 */
bool tls_authorities(SSL_CTX *ctx, const char *file, const char *directory,
    conf_report *report, void *arg);

/* What the library says went wrong first, or otherwise; the rest is
 * forgotten.  For one line of text; valid until the next call. */
const char *tls_library_error(const char *otherwise);

#endif
