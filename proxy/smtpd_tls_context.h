/*
 * What all TLS sessions of a smtpd share: certificates and their private
 * keys, ciphers, authorities, the keys of session tickets.  Made before the
 * jail, with the rights to read the keys; it does not change afterwards but
 * for the tickets.
 */
#ifndef PROXY_SMTPD_TLS_CONTEXT_H
#define PROXY_SMTPD_TLS_CONTEXT_H

#include <event2/event_struct.h>
#include <openssl/types.h>

#include "lib/tls_chain.h"
#include "lib/tls_ticket.h"
#include "lib/tls_words.h"
#include "rules/tls_tell.h"

/* What a client may claim as the length of its certificates. */
#define TLS_CLIENT_CERTS_MAX	65536

struct session_tls;

struct tls_server {
	const struct conf *cf;
	SSL_CTX *ctx;
	struct tls_name *names;		/* sorted */
	size_t n_names;
	struct tls_certs certs;
	const EVP_MD *digest;		/* of fingerprints */
	bool wrapper;			/* TLS from the first byte on */
	bool mandatory;
	bool need_cert;			/* a trusted one, or the session ends */
	struct tls_tickets tickets;
	struct tls_tells tells;		/* to whom, in the log */
	/* Sessions whose handshake can go on: one step of one of them in a
	 * turn of the loop, so that the others' mail goes on too. */
	struct session_tls *first, **end;
	struct event turn, daily;
	uint64_t sessions, resumed, failed;
};

/*
 * For a service of this name.  False after a report: a file or a word is
 * wrong.  *ret NULL: cf wants no TLS, or has no certificate (then only if TLS
 * is optional, with a warning).
 */
bool tls_server_open(const struct conf *cf, const char *service,
    struct tls_server **ret, conf_report *report, void *arg);
void tls_server_free(struct tls_server **ts);
/* Tickets may be given out from now on. */
void tls_server_seed(struct tls_server *ts,
    const uint8_t seed[TLS_SEED_SIZE], struct mono from);
/* Warn of certificates that end soon, or have ended.  Returns how many days
 * the first one has left; negative: it has ended.  report may be NULL. */
int64_t tls_server_expiry(const struct tls_server *ts, conf_report *report,
    void *arg);

#endif
