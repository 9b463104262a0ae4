#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "lib/mem.h"
#include "lib/tls_info.h"

#define DETAIL_MAX	400u

char *
tls_fingerprint(const EVP_MD *digest, const void *p, size_t n)
{
	static const char hex[] = "0123456789ABCDEF";
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len, i;
	char *text;

	if (EVP_Digest(p, n, sum, &len, digest, NULL) != 1 || len == 0)
		return NULL;
	text = mem_alloc((size_t)len * 3);
	for (i = 0; i < len; i++) {
		text[3 * i] = hex[sum[i] >> 4];
		text[3 * i + 1] = hex[sum[i] & 15];
		text[3 * i + 2] = i + 1 < len ? ':' : '\0';
	}
	return text;
}

/* -- names ----------------------------------------------------------------- */

/* The last entry of that kind, in UTF-8; "": none, or one that nobody should
 * believe. */
static char *
name_text(const X509_NAME *name, int nid)
{
	unsigned char *utf8 = NULL;
	int at = -1, next, n;
	char *text;
	int i;

	while ((next = X509_NAME_get_index_by_NID(name, nid, at)) >= 0)
		at = next;
	if (at < 0)
		return NULL;
	n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(
	    X509_NAME_get_entry(name, at)));
	if (n <= 0 || (unsigned)n > TLS_NAME_MAX ||
	    memchr(utf8, '\0', (size_t)n) != NULL) {
		OPENSSL_free(utf8);
		return NULL;
	}
	text = mem_copy(view_make((const char *)utf8, (size_t)n));
	OPENSSL_free(utf8);
	for (i = 0; i < n; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			text[i] = '?';
	return text;
}

static char *
name_or(const X509_NAME *name, int nid, int other)
{
	char *text = name_text(name, nid);

	if (text == NULL && other != 0)
		text = name_text(name, other);
	return text != NULL ? text : mem_strdup("");
}

void
tls_info_certificate(struct tls_info *i, X509 *cert, const EVP_MD *digest)
{
	unsigned char *der = NULL;
	int n;

	i->subject = name_or(X509_get_subject_name(cert), NID_commonName, 0);
	i->issuer = name_or(X509_get_issuer_name(cert), NID_commonName,
	    NID_organizationName);
	if (digest == NULL)
		return;
	n = i2d_X509(cert, &der);
	if (n > 0)
		i->fingerprint = tls_fingerprint(digest, der, (size_t)n);
	OPENSSL_free(der);
	der = NULL;
	n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
	if (n > 0)
		i->key_fingerprint = tls_fingerprint(digest, der, (size_t)n);
	OPENSSL_free(der);
}

static void
info_peer(struct tls_info *i, SSL *ssl, const EVP_MD *digest)
{
	X509 *cert = SSL_get0_peer_certificate(ssl);
	long verdict = SSL_get_verify_result(ssl);

	if (cert == NULL)
		return;
	tls_info_certificate(i, cert, digest);
	i->trusted = verdict == X509_V_OK;
	if (!i->trusted)
		i->verify_error = mem_strdup(
		    X509_verify_cert_error_string(verdict));
}

/* -- algorithms ------------------------------------------------------------ */

static const char *
group_name(EVP_PKEY *key, char *text, size_t size)
{
	size_t n;

	return EVP_PKEY_get_group_name(key, text, size, &n) == 1 ? text : "";
}

static char *
detail_exchange(SSL *ssl)
{
	EVP_PKEY *key = NULL;
	char group[80], *text = NULL;

	if (SSL_get_peer_tmp_key(ssl, &key) != 1)
		return NULL;
	switch (EVP_PKEY_get_id(key)) {
	case EVP_PKEY_EC:
		text = mem_printf("key-exchange ECDHE (%s)",
		    group_name(key, group, sizeof group));
		break;
	case EVP_PKEY_DH:
		text = mem_printf("key-exchange DHE (%d bits)",
		    EVP_PKEY_get_bits(key));
		break;
	default:
		text = mem_printf("key-exchange %s",
		    EVP_PKEY_get0_type_name(key) != NULL ?
		    EVP_PKEY_get0_type_name(key) : "unknown");
		break;
	}
	EVP_PKEY_free(key);
	return text;
}

static char *
detail_signature(const char *who, EVP_PKEY *key, int type, int digest)
{
	char group[80], what[120], hash[60] = "";

	if (key == NULL || type == NID_undef)
		return NULL;
	if (type == EVP_PKEY_RSA_PSS || type == EVP_PKEY_RSA)
		(void)snprintf(what, sizeof what, "%s (%d bits)",
		    type == EVP_PKEY_RSA ? "RSA" : "RSA-PSS",
		    EVP_PKEY_get_bits(key));
	else if (type == EVP_PKEY_EC)
		(void)snprintf(what, sizeof what, "ECDSA (%s)",
		    group_name(key, group, sizeof group));
	else
		(void)snprintf(what, sizeof what, "%s", OBJ_nid2sn(type));
	if (digest != NID_undef)
		(void)snprintf(hash, sizeof hash, " %s-digest %s", who,
		    OBJ_nid2sn(digest));
	return mem_printf("%s-signature %s%s", who, what, hash);
}

/* Names of older ciphers tell these themselves. */
static void
info_details(struct tls_info *i, SSL *ssl)
{
	const char *us = SSL_is_server(ssl) ? "server" : "client";
	const char *them = SSL_is_server(ssl) ? "client" : "server";
	char **ours = SSL_is_server(ssl) ? &i->server_detail :
	    &i->client_detail;
	char **theirs = SSL_is_server(ssl) ? &i->client_detail :
	    &i->server_detail;
	X509 *own = SSL_get_certificate(ssl);
	X509 *peer = SSL_get0_peer_certificate(ssl);
	int type = NID_undef, digest = NID_undef;

	if (SSL_version(ssl) < TLS1_3_VERSION)
		return;
	i->detail = detail_exchange(ssl);
	/* A resumed session has no signatures. */
	if (i->reused)
		return;
	if (SSL_get_signature_type_nid(ssl, &type) == 1 && own != NULL) {
		(void)SSL_get_signature_nid(ssl, &digest);
		*ours = detail_signature(us, X509_get0_pubkey(own), type,
		    digest);
	}
	type = digest = NID_undef;
	if (peer != NULL && SSL_get_peer_signature_type_nid(ssl, &type) == 1) {
		(void)SSL_get_peer_signature_nid(ssl, &digest);
		*theirs = detail_signature(them, X509_get0_pubkey(peer), type,
		    digest);
	}
}

void
tls_info_get(struct tls_info *i, SSL *ssl, const EVP_MD *digest)
{
	const SSL_CIPHER *c = SSL_get_current_cipher(ssl);

	*i = (struct tls_info){ 0 };
	i->protocol = SSL_get_version(ssl);
	i->cipher = SSL_CIPHER_get_name(c);
	i->bits = SSL_CIPHER_get_bits(c, &i->cipher_bits);
	i->reused = SSL_session_reused(ssl) == 1;
	i->asked = (SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) != 0;
	info_peer(i, ssl, digest);
	info_details(i, ssl);
}

void
tls_info_free(struct tls_info *i)
{
	free(i->detail);
	free(i->server_detail);
	free(i->client_detail);
	free(i->subject);
	free(i->issuer);
	free(i->fingerprint);
	free(i->key_fingerprint);
	free(i->verify_error);
	*i = (struct tls_info){ 0 };
}

/* -- texts ----------------------------------------------------------------- */

const char *
tls_info_peer(const struct tls_info *i)
{
	return i->subject == NULL ? "Anonymous" :
	    i->trusted ? "Trusted" : "Untrusted";
}

void
tls_info_put(const struct tls_info *i, struct buf *out)
{
	const char *const more[] = { i->detail, i->server_detail,
		i->client_detail };
	size_t k;

	(void)buf_printf(out, "%s with cipher %s (%d/%d bits)", i->protocol,
	    i->cipher, i->bits, i->cipher_bits);
	for (k = 0; k < sizeof more / sizeof more[0]; k++)
		if (more[k] != NULL)
			(void)buf_printf(out, " %s", more[k]);
}

/* A name between quotes inside a comment of a header: RFC 5322 3.2.2. */
static void
quoted_put(const char *text, struct buf *out)
{
	for (; *text != '\0'; text++)
		(void)buf_putc(out, (unsigned char)*text > '~' ||
		    strchr("()\\\"", *text) != NULL ? '?' : *text);
}

void
tls_info_received(const struct tls_info *i, struct buf *out)
{
	(void)buf_printf(out, "\t(using %s with cipher %s (%d/%d bits)",
	    i->protocol, i->cipher, i->bits, i->cipher_bits);
	if (i->detail != NULL)
		(void)buf_printf(out, "\r\n\t %s%s%s", i->detail,
		    i->server_detail != NULL ? " " : "",
		    i->server_detail != NULL ? i->server_detail : "");
	if (i->client_detail != NULL)
		(void)buf_printf(out, "\r\n\t %s", i->client_detail);
	(void)buf_puts(out, ")\r\n");
	if (i->subject != NULL) {
		(void)buf_puts(out, "\t(Client CN \"");
		quoted_put(i->subject, out);
		(void)buf_puts(out, "\", Issuer \"");
		quoted_put(i->issuer, out);
		(void)buf_printf(out, "\" (%s))\r\n", i->trusted ?
		    "verified OK" : "not verified");
	} else
		(void)buf_printf(out, "\t(%s)\r\n", i->asked ?
		    "Client did not present a certificate" :
		    "No client certificate requested");
}
