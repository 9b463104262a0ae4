/*
 * TLS reporting (RFC 8460): what came of TLS with the mail servers of a
 * domain, as one event for each session, and as the tally of such events that
 * a report is made of.  Pure.
 *
 * All texts are printable ASCII; whatever else comes is refused, so that what
 * a captured relay or a damaged file says ends up in no report.  A tally has
 * maxima for all that peers can make grow; what comes beyond them is counted
 * in the sums, without its details.
 */
#ifndef RULES_TLSRPT_TALLY_H
#define RULES_TLSRPT_TALLY_H

#include <sys/queue.h>

#include "lib/cursor.h"

#define TLSRPT_TEXT_MAX		255u	/* bytes of each text of a failure */
#define TLSRPT_LINES_MAX	4096u	/* of the policy */
#define TLSRPT_POLICIES_MAX	8u	/* of a domain in a day */
#define TLSRPT_FAILURES_MAX	50u	/* kinds of failures under each */
/* Bytes of an encoded tally. */
#define TLSRPT_TALLY_MAX	(1u << 20)
/* So that "_smtp._tls." can be put in front. */
#define TLSRPT_DOMAIN_MAX	(253u - 11u)

/* Section 4.2: policy-type */
enum tlsrpt_policy_type { TLSRPT_TLSA = 1, TLSRPT_STS, TLSRPT_NO_POLICY,
	TLSRPT_POLICY_TYPES };
const char *tlsrpt_policy_name(enum tlsrpt_policy_type t);

/* Section 4.3: result-type */
enum tlsrpt_result {
	TLSRPT_SUCCESS = 1,
	TLSRPT_STARTTLS_NOT_SUPPORTED,
	TLSRPT_CERTIFICATE_HOST_MISMATCH,
	TLSRPT_CERTIFICATE_EXPIRED,
	TLSRPT_CERTIFICATE_NOT_TRUSTED,
	TLSRPT_VALIDATION_FAILURE,	/* anything else */
	TLSRPT_TLSA_INVALID,
	TLSRPT_DNSSEC_INVALID,
	TLSRPT_DANE_REQUIRED,
	TLSRPT_STS_POLICY_FETCH_ERROR,
	TLSRPT_STS_POLICY_INVALID,
	TLSRPT_STS_WEBPKI_INVALID,
	TLSRPT_RESULTS
};
const char *tlsrpt_result_name(enum tlsrpt_result r);

/* Of a failure; each may be empty: not known. */
enum tlsrpt_text { TLSRPT_SENDING_IP = 0, TLSRPT_MX_HOST, TLSRPT_IP,
	TLSRPT_REASON, TLSRPT_TEXTS };

struct tlsrpt_event {
	struct view domain;		/* in lower case, of ASCII */
	enum tlsrpt_policy_type type;
	/* The policy, "\n" behind each line but the last: of MTA-STS as its
	 * text has them, or TLSA records. */
	struct view lines;
	enum tlsrpt_result result;
	struct view text[TLSRPT_TEXTS];
};

/* False, and nothing is put: it is none. */
bool tlsrpt_event_put(struct buf *b, const struct tlsrpt_event *e);
/* All the rest of c.  False: it is none. */
bool tlsrpt_event_get(struct cursor *c, struct tlsrpt_event *ret)
    __attribute__((warn_unused_result));

struct tlsrpt_failure {
	TAILQ_ENTRY(tlsrpt_failure) link;
	enum tlsrpt_result result;
	char *text[TLSRPT_TEXTS];
	uint64_t n;
};

struct tlsrpt_policy {
	TAILQ_ENTRY(tlsrpt_policy) link;
	enum tlsrpt_policy_type type;
	char *lines;
	uint64_t succeeded, failed;
	uint32_t n_failures;
	TAILQ_HEAD(, tlsrpt_failure) failures;
};

struct tlsrpt_tally {
	int64_t since;		/* s since 1970; from then on */
	uint32_t n_policies;
	TAILQ_HEAD(, tlsrpt_policy) policies;
};

struct tlsrpt_tally *tlsrpt_tally_new(int64_t since);
/* NULL is allowed. */
void tlsrpt_tally_free(struct tlsrpt_tally **t);
void tlsrpt_tally_add(struct tlsrpt_tally *t, const struct tlsrpt_event *e);
/* Add all of from to t, whose "since" stays. */
void tlsrpt_tally_merge(struct tlsrpt_tally *t,
    const struct tlsrpt_tally *from);
/* Sums over all policies. */
void tlsrpt_tally_sums(const struct tlsrpt_tally *t, uint64_t *ret_succeeded,
    uint64_t *ret_failed);
/* Encoded, and back; NULL: it is none. */
void tlsrpt_tally_put(struct buf *b, const struct tlsrpt_tally *t);
struct tlsrpt_tally *tlsrpt_tally_get(struct view v);

#endif
