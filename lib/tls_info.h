/*
 * What a TLS handshake came to, in words: protocol, cipher, and who the peer
 * is by its certificate (RFC 5280).  Texts of a peer have no control bytes.
 */
#ifndef LIB_TLS_INFO_H
#define LIB_TLS_INFO_H

#include <openssl/types.h>
#include <stdbool.h>

#include "lib/buf.h"

#define TLS_NAME_MAX	255u

struct tls_info {
	const char *protocol, *cipher;	/* the library's own */
	int bits, cipher_bits;		/* used, and of the algorithm */
	bool reused;
	bool asked;			/* for a certificate */
	bool trusted;			/* an authority of ours signed it */
	char *detail;		/* "key-exchange X25519 ..."; NULL: none */
	char *server_detail;	/* "server-signature ..." */
	char *client_detail;
	/* The peer's certificate; NULL: it has shown none. */
	char *subject, *issuer;		/* common names, or "" */
	char *fingerprint, *key_fingerprint;	/* or not wanted: NULL */
	char *verify_error;		/* NULL: none */
};

/* Fill in; digest: of fingerprints, NULL: without. */
void tls_info_get(struct tls_info *i, SSL *ssl, const EVP_MD *digest);
/* Only what the peer's certificate says, which is not verified here. */
void tls_info_certificate(struct tls_info *i, X509 *cert,
    const EVP_MD *digest);
void tls_info_free(struct tls_info *i);
/* "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)" and the
 * details, all in one line. */
void tls_info_put(const struct tls_info *i, struct buf *out);
/* "Anonymous", "Trusted" or "Untrusted" */
const char *tls_info_peer(const struct tls_info *i);
/*
 * The lines of a Received: header, each with CRLF: what was used, and what
 * the client has shown.
 */
void tls_info_received(const struct tls_info *i, struct buf *out);

/* "AB:CD:..." of the bytes; NULL when the digest cannot be made. */
char *tls_fingerprint(const EVP_MD *digest, const void *p, size_t n);

#endif
