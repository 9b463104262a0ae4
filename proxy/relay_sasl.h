/*
 * One SASL exchange as the client: what is said to a server's challenges, in
 * BASE64 as SMTP carries it (RFC 4954).  PLAIN (RFC 4616), LOGIN, CRAM-MD5
 * (RFC 2195), SCRAM-SHA-1 and -SHA-256 with and without channel binding
 * (RFC 5802, RFC 7677, RFC 9266) with a password; OAUTHBEARER (RFC 7628) and
 * XOAUTH2 with a token.  The cryptography is OpenSSL's.
 *
 * libsasl2 would have to load its plugins, read files and ask for what it
 * wants by callbacks inside the relay; these few exchanges are less than the
 * glue to it.
 *
 * Pure: no sockets, no log.  An exchange owns copies of user and secret and
 * overwrites them, and all made of them, in relay_sasl_free().  It ends by
 * itself: each mechanism takes a number of challenges that is known before,
 * one more is an error.  A server may not make us work for long
 * (SCRAM_ITERATIONS_MAX), nor for a proof that is cheap to break
 * (SCRAM_ITERATIONS_MIN).
 */
#ifndef PROXY_RELAY_SASL_H
#define PROXY_RELAY_SASL_H

#include "lib/buf.h"
#include "lib/sasl.h"
#include "lib/view.h"

/* In the order in which they are preferred. */
enum relay_mechanism {
	MECHANISM_NONE = 0,
	MECHANISM_SCRAM_SHA_256_PLUS,
	MECHANISM_SCRAM_SHA_1_PLUS,
	MECHANISM_SCRAM_SHA_256,
	MECHANISM_SCRAM_SHA_1,
	MECHANISM_CRAM_MD5,
	MECHANISM_PLAIN,
	MECHANISM_LOGIN,
	MECHANISM_OAUTHBEARER,
	MECHANISM_XOAUTH2,
	MECHANISMS
};

struct relay_mechanism_info {
	const char *name;
	uint32_t properties;	/* enum sasl_property */
	bool token;		/* takes a token instead of a password */
	bool binding;		/* is bound to the channel */
};
extern const struct relay_mechanism_info relay_mechanisms[MECHANISMS];

/* 1 << enum relay_mechanism of the known ones of "AUTH a b c". */
uint32_t relay_sasl_offered(struct view names);

/* What both ends of TLS know of their connection (RFC 5056). */
#define RELAY_BINDING_MAX	64u
struct relay_binding {
	const char *type;	/* NULL: there is none */
	unsigned char data[RELAY_BINDING_MAX];
	size_t n;
};

struct relay_sasl_about {
	enum relay_mechanism mechanism;
	struct view user, secret;	/* neither has a NUL */
	struct view host;		/* OAUTHBEARER tells them */
	uint16_t port;
	const struct relay_binding *binding;	/* of the -PLUS ones */
	/* Another one: it could have been bound, had the server offered it;
	 * who took that from its offer is found out. */
	bool could_bind;
};

#define SCRAM_ITERATIONS_MIN	4096	/* RFC 7677 section 4 */
#define SCRAM_ITERATIONS_MAX	200000	/* some 50 ms */
#define SCRAM_SALT_MAX		256u
#define SCRAM_NONCE_MAX		256u	/* of the server */

/* Before the jail: the library reads its configuration, and finds what it
 * has.  False: something is missing. */
bool relay_sasl_open(void);

struct relay_sasl;
/* nonce: NULL, or a fixed one, for tests. */
struct relay_sasl *relay_sasl_new(const struct relay_sasl_about *about,
    const char *nonce);
void relay_sasl_free(struct relay_sasl **x);
enum relay_mechanism relay_sasl_mechanism(const struct relay_sasl *x);
/* Is the first word ours, so that it goes into the command? */
bool relay_sasl_first(const struct relay_sasl *x);

enum relay_sasl_step { RELAY_SASL_SAY = 1, RELAY_SASL_BAD };
/*
 * Our next response, in BASE64, to a challenge in BASE64 (empty before the
 * first word); out has room for SASL_TEXT_MAX bytes and a few.
 * RELAY_SASL_BAD: *ret_why says what is wrong with it, and the exchange is
 * over.
 */
enum relay_sasl_step relay_sasl_step(struct relay_sasl *x,
    struct view challenge, struct buf *out, const char **ret_why);
/* May the server say now that all is well?  Of a mechanism by which it proves
 * itself: it has. */
bool relay_sasl_complete(const struct relay_sasl *x);
/* What a server of tokens said of its refusal, cleaned for a log; or "". */
const char *relay_sasl_detail(const struct relay_sasl *x);

#endif
