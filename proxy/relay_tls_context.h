/*
 * What all TLS sessions of a relay share: authorities, our own certificates
 * and their private keys, the tables of policies.  Made before the jail, with
 * the rights to read the keys; it does not change afterwards, but for the
 * sessions that may be resumed and the contexts made of what was read.
 */
#ifndef PROXY_RELAY_TLS_CONTEXT_H
#define PROXY_RELAY_TLS_CONTEXT_H

#include <openssl/types.h>
#include <sys/queue.h>

#include "lib/tls_chain.h"
#include "rules/tls_policy.h"
#include "rules/tls_tell.h"

struct relay_tls_kept;
TAILQ_HEAD(relay_tls_keeps, relay_tls_kept);
struct relay_tls_setting;
TAILQ_HEAD(relay_tls_settings, relay_tls_setting);

struct relay_tls_shared {
	const struct conf *cf;
	SSL_CTX *ctx;			/* what the others are made of */
	uint64_t options;		/* tls_ssl_options */
	struct relay_tls_settings settings;	/* latest first */
	size_t n_settings;
	EVP_MD *digest;			/* of fingerprints */
	struct tls_certs certs;
	struct arena *arena;
	struct tls_policy policy;	/* of the parameters */
	struct tls_policy relaxed;	/* the same, at most may */
	struct table_list maps, requiretls;
	struct tls_tells tells;		/* of whom, in the log */
	struct relay_tls_keeps kept;	/* by server, latest first */
	size_t n_kept, kept_bytes;	/* sessions, and what they take */
	uint64_t sessions, resumed, failed;
};

/*
 * False after a report: a file, a table or a word is wrong.  *ret NULL: no
 * server is ever to be spoken to by TLS.
 */
bool relay_tls_open(const struct conf *cf, struct relay_tls_shared **ret,
    conf_report *report, void *arg);
void relay_tls_close(struct relay_tls_shared **ts);

/* -- relay_tls_settings.c -------- */

/* One without authorities and certificates; NULL: the library has none of the
 * groups. */
SSL_CTX *relay_tls_blank(const struct conf *cf, uint64_t options);
/* For sessions with such a policy, which take a reference of their own.
 * NULL: nothing is left of protocols or ciphers. */
SSL_CTX *relay_tls_setting(struct relay_tls_shared *ts,
    const struct tls_policy *p);
void relay_tls_settings_free(struct relay_tls_shared *ts);

#endif
