/*
 * A TLS report as text (RFC 8460): JSON of a tally, and the mail that brings
 * it.  Pure.
 */
#ifndef RULES_TLSRPT_REPORT_H
#define RULES_TLSRPT_REPORT_H

#include "lib/clock.h"
#include "rules/tlsrpt_tally.h"

#define TLSRPT_JSON_MAX	(4u << 20)
#define TLSRPT_MAIL_MAX	(8u << 20)
#define TLSRPT_TO_MAX	20u

struct tlsrpt_report {
	const char *organization;	/* who sends it */
	const char *contact;		/* an address of him */
	const char *from;		/* the sender's address, internal form */
	const char *submitter;		/* our domain */
	struct view domain;		/* that it is about */
	int64_t since, until;		/* s since 1970; both are in it */
};

/* "example.com.1792540800-1792627199@gw.example.net": the same for the same
 * report, so that one that comes twice is known. */
void tlsrpt_report_id(const struct tlsrpt_report *r, struct buf *out);
/* Section 4.4.  False: over TLSRPT_JSON_MAX. */
bool tlsrpt_report_json(const struct tlsrpt_report *r,
    const struct tlsrpt_tally *t, struct buf *out);
/* "gw.example.net!example.com!1792540800!1792627199.json.gz", 5.1 */
void tlsrpt_report_file(const struct tlsrpt_report *r, struct buf *out);
/*
 * Section 5.3, and the header field by which TLS that fails does not keep it
 * back (RFC 8689).  gzip: the JSON, packed.  CRLF line ends.  False: it does
 * not fit.
 */
bool tlsrpt_report_mail(const struct tlsrpt_report *r, struct view gzip,
    const struct view *to, size_t n_to, struct wall now, struct buf *out);

#endif
