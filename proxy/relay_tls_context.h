/*
 * What all TLS sessions of a relay share: authorities, our own certificates
 * and their private keys, the tables of policies.  Made before the jail, with
 * the rights to read the keys; it does not change afterwards, but for the
 * sessions that may be resumed.
 */
#ifndef PROXY_RELAY_TLS_CONTEXT_H
#define PROXY_RELAY_TLS_CONTEXT_H

#include <openssl/types.h>
#include <sys/queue.h>

#include "lib/tls_chain.h"
#include "rules/tls_policy.h"

struct relay_tls_kept;
TAILQ_HEAD(relay_tls_keeps, relay_tls_kept);

struct relay_tls_shared {
	const struct conf *cf;
	SSL_CTX *ctx;
	const EVP_MD *digest;		/* of fingerprints */
	struct tls_certs certs;
	struct arena *arena;
	struct tls_policy policy;	/* of the parameters */
	struct tls_policy relaxed;	/* the same, at most may */
	struct table_list maps, requiretls;
	struct relay_tls_keeps kept;	/* latest first */
	size_t n_kept;
	uint64_t sessions, resumed, failed;
};

/*
 * False after a report: a file, a table or a word is wrong.  *ret NULL: no
 * server is ever to be spoken to by TLS.
 */
bool relay_tls_open(const struct conf *cf, struct relay_tls_shared **ret,
    conf_report *report, void *arg);
void relay_tls_close(struct relay_tls_shared **ts);
/* For a session with such a policy, in place of what the context says.
 * False: nothing is left of protocols or ciphers. */
bool relay_tls_prepare(const struct relay_tls_shared *ts, SSL *ssl,
    const struct tls_policy *p);

#endif
