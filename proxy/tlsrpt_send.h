/*
 * Reports that are due: the record in the DNS says where a domain wants its
 * report, and it is sent there, as mail and by HTTPS (RFC 8460 sections 3 and
 * 5).  What fails is tried again for a day after the end of the report, and
 * then given up.
 */
#ifndef PROXY_TLSRPT_SEND_H
#define PROXY_TLSRPT_SEND_H

#include "proxy/tlsrpt_store.h"
#include "rules/tlsrpt_report.h"

void tlsrpt_send_load(const struct conf *cf);
/* In the jail: begin to look what is due. */
void tlsrpt_send_start(void);
/* A second has passed: begin what is due, and once a minute look what is. */
void tlsrpt_send_tick(void);
/* No more is begun, and what is under way is left to the next process. */
void tlsrpt_send_stop(void);
/* Close what was counted up to now, of that domain or, if it is empty, of all,
 * and send all reports at once.  Returns how many. */
size_t tlsrpt_send_now(struct view domain);
/* What the report about these counts says of us. */
void tlsrpt_send_describe(const struct tlsrpt_key *k, int64_t since,
    struct tlsrpt_report *ret);

struct tlsrpt_send_counts {
	uint64_t sent, unwanted, failed, given_up;
	size_t waiting, open;
};
const struct tlsrpt_send_counts *tlsrpt_send_counts(void);

#endif
