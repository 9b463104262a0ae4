/*
 * What a server said about itself in its reply to EHLO (RFC 5321 section
 * 4.1.1.1).
 */
#ifndef PROXY_RELAY_EHLO_H
#define PROXY_RELAY_EHLO_H

#include "proxy/relay_reply.h"

enum relay_feature {
	FEATURE_PIPELINING = 1 << 0,	/* RFC 2920 */
	FEATURE_SIZE = 1 << 1,		/* RFC 1870 */
	FEATURE_8BITMIME = 1 << 2,	/* RFC 6152 */
	FEATURE_SMTPUTF8 = 1 << 3,	/* RFC 6531 */
	FEATURE_DSN = 1 << 4,		/* RFC 3461 */
	FEATURE_XFORWARD = 1 << 5,	/* Postfix's XFORWARD_README */
	FEATURE_STARTTLS = 1 << 10,	/* RFC 3207 */
	FEATURE_REQUIRETLS = 1 << 11,	/* RFC 8689 */
	FEATURE_AUTH = 1 << 12,		/* RFC 4954 */
	FEATURE_LIMITS = 1 << 14,	/* RFC 9422 */
	FEATURE_CHUNKING = 1 << 15,	/* RFC 3030 */
};

/* What may be forwarded; the order in which it is. */
enum relay_xforward {
	XFORWARD_NAME, XFORWARD_ADDR, XFORWARD_PORT, XFORWARD_PROTO,
	XFORWARD_HELO, XFORWARD_IDENT, XFORWARD_SOURCE, XFORWARDS
};
extern const char *const relay_xforward_names[XFORWARDS];

struct relay_ehlo {
	uint32_t features;
	uint64_t size_limit;	/* 0: none told */
	uint32_t xforward;	/* 1 << enum relay_xforward */
	uint32_t mechanisms;	/* 1 << enum relay_mechanism */
	/* RFC 9422; 0: none told.  MAIL commands in a session, RCPT commands
	 * in a transaction, domains of recipients in a session. */
	uint32_t mail_max, rcpt_max, rcpt_domain_max;
	struct view name;	/* its own name, a view into the reply */
};

/* A greeting with ESMTP as one of its words behind the name of the host. */
bool relay_ehlo_known(const struct relay_reply *greeting);
/* A list of keywords as in smtp_discard_ehlo_keywords; those that are not
 * used here anyway are passed over. */
uint32_t relay_ehlo_keywords(const char *list);
void relay_ehlo_read(const struct relay_reply *r, uint32_t discard,
    struct relay_ehlo *ret);

#endif
