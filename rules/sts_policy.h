/*
 * MTA-STS (RFC 8461): what a domain says about TLS to its mail servers, as
 * text - the record in the DNS and the policy that a web server has.  Pure.
 *
 * Both are read strictly: what is not exactly in form is no policy, since a
 * guess could lose mail or protection.  Blank lines at the end, and a maximum
 * age beyond that of the RFC, are what is forgiven.
 */
#ifndef RULES_STS_POLICY_H
#define RULES_STS_POLICY_H

#include "lib/buf.h"
#include "lib/view.h"

#define STS_ID_MAX	32u		/* RFC 8461 section 3.1 */
#define STS_TEXT_MAX	65536u		/* bytes of a policy, section 3.3 */
#define STS_MX_MAX	100u		/* patterns of a policy */
#define STS_AGE_MAX	31557600	/* seconds, section 3.2 */
#define STS_DOMAIN_MAX	254u		/* with its NUL */

/* Without "_mta-sts." and "mta-sts.", so that these can be asked for. */
#define STS_DOMAIN_LONGEST	(STS_DOMAIN_MAX - 10)

enum sts_mode { STS_MODE_NONE = 1, STS_MODE_TESTING, STS_MODE_ENFORCE };
const char *sts_mode_name(enum sts_mode m);

enum sts_record {
	STS_RECORD_OTHER = 1,	/* not about this: it does not count */
	STS_RECORD_BAD,
	STS_RECORD_GOOD
};
/* A TXT record at _mta-sts.DOMAIN; *ret_id is a part of it. */
enum sts_record sts_record_read(struct view text, struct view *ret_id);

struct sts_policy {
	enum sts_mode mode;
	int64_t max_age;		/* seconds, at most STS_AGE_MAX */
	uint32_t n_mx;
	struct view mx[STS_MX_MAX];	/* "mail.example.com", "*.example.net" */
};

/*
 * False: it is no policy, and *ret_why says why.  The patterns are parts of
 * text.
 */
bool sts_policy_read(struct view text, struct sts_policy *ret,
    const char **ret_why) __attribute__((warn_unused_result));
/* The same policy in the fewest lines, in lower case: "version: STSv1\n"... */
void sts_policy_put(const struct sts_policy *p, struct buf *out);

/* Is that host one of those of the pattern?  "*." is one label
 * (RFC 8461 section 4.1).  A dot at the host's end is not looked at. */
bool sts_mx_match(struct view pattern, struct view host);
bool sts_policy_allows(const struct sts_policy *p, struct view host);

#endif
