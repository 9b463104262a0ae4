/*
 * What names a TLS connection to both of its ends (RFC 5056): with TLSv1.3
 * tls-exporter (RFC 9266), before it the server's certificate (RFC 5929
 * section 4): what the library gives of tls-unique is not safe with all
 * handshakes.
 */
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "proxy/relay_sasl.h"
#include "proxy/relay_tls_impl.h"

#define EXPORTER	"EXPORTER-Channel-Binding"
#define EXPORTED	32u

/* The digest of its signature, but nothing weaker than SHA-256. */
static const EVP_MD *
binding_digest(const X509 *cert)
{
	int digest = NID_undef;
	const EVP_MD *md;

	if (OBJ_find_sigid_algs(X509_get_signature_nid(cert), &digest,
	    NULL) != 1 || digest == NID_md5 || digest == NID_sha1 ||
	    digest == NID_md5_sha1)
		digest = NID_sha256;
	md = EVP_get_digestbynid(digest);
	return md;
}

void
relay_tls_binding(const struct session *s, struct relay_binding *ret)
{
	X509 *cert;
	const EVP_MD *md;
	unsigned n = 0;

	*ret = (struct relay_binding){ .type = NULL };
	if (!relay_tls_active(s) || s->tls->broken)
		return;
	cert = SSL_get0_peer_certificate(s->tls->ssl);
	if (SSL_version(s->tls->ssl) >= TLS1_3_VERSION) {
		if (SSL_export_keying_material(s->tls->ssl, ret->data,
		    EXPORTED, EXPORTER, sizeof EXPORTER - 1,
		    (const unsigned char *)"", 0, 1) == 1) {
			ret->n = EXPORTED;
			ret->type = "tls-exporter";
		}
	} else if (cert != NULL && (md = binding_digest(cert)) != NULL &&
	    EVP_MD_get_size(md) <= (int)RELAY_BINDING_MAX &&
	    X509_digest(cert, md, ret->data, &n) == 1) {
		ret->n = n;
		ret->type = "tls-server-end-point";
	}
	ERR_clear_error();
}
