/*
 * What was counted for TLS reports, in an LMDB file (lib/lmdb_file.h) under
 * day and domain.  What comes is collected for a second and then added to the
 * file, so that an end of this process, however sudden, loses no more; two
 * processes, the old and the new of a reload, may both add to it.
 *
 * A record is open while things are added to it.  It is closed when a report
 * is due, and is then only read, and removed when that is sent.
 *
 * The file has results of at most smtp_tlsrpt_domain_limit domains, of
 * STORE_BYTES in all; the oldest make room.  While it cannot be written to,
 * results of STORE_PENDING domains are in memory.
 */
#ifndef PROXY_TLSRPT_STORE_H
#define PROXY_TLSRPT_STORE_H

#include "lib/conf.h"
#include "rules/tlsrpt_tally.h"

#define TLSRPT_DAY	86400		/* s */

struct tlsrpt_key {
	int64_t day;		/* since 1970, UTC */
	char domain[TLSRPT_DOMAIN_MAX + 1];
	int64_t until;		/* s, the last one of the report; 0: open */
};

/* Before the jail.  Without the file nothing is counted; the log says so. */
void tlsrpt_store_load(const struct conf *cf);
void tlsrpt_store_add(const struct tlsrpt_event *e);
/* Write now what was collected. */
void tlsrpt_store_flush(void);
/* All of the file; nothing may be changed meanwhile. */
typedef void tlsrpt_store_each_fn(const struct tlsrpt_key *k,
    struct view value, void *arg);
void tlsrpt_store_each(tlsrpt_store_each_fn *each, void *arg);
/* NULL: not there, damaged, or it cannot be read. */
struct tlsrpt_tally *tlsrpt_store_read(const struct tlsrpt_key *k);
/*
 * Close an open one; k->until is set.  If that is not at the end of its day,
 * what comes after it is counted from there on.  False: it was empty, is gone,
 * or the file cannot be written to.
 */
bool tlsrpt_store_close(struct tlsrpt_key *k, int64_t until);
void tlsrpt_store_remove(const struct tlsrpt_key *k);
/* Results that were dropped for want of room. */
uint64_t tlsrpt_store_dropped(void);

#endif
