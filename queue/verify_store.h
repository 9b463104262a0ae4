/*
 * What is known of verified addresses, on disk (address_verify_map), so that a
 * restart does not ask everybody again: an LMDB file, in Postfix's form -
 * key: the address; value: "status:probed:updated:text", status 0 or 2.
 *
 * It is a copy and never waited for: changes are collected for a second and
 * written by the pool (queue/spool_pool.h).  A file that cannot be used
 * (lib/lmdb_file.h) or is full costs one line in the log, and what is known is
 * in memory only.
 */
#ifndef QUEUE_VERIFY_STORE_H
#define QUEUE_VERIFY_STORE_H

#include "queue/verify_cache.h"

struct verify_store;

/* Before the jail.  spec: "lmdb:path", or only the path.  NULL: none, after a
 * line in the log; or spec is empty.  each is called for what is in it. */
struct verify_store *verify_store_open(const char *spec,
    void (*each)(struct view addr, const struct verify_fact *f));
/* f NULL: it is not known any more. */
void verify_store_put(struct verify_store *s, struct view addr,
    const struct verify_fact *f);
/* Write now what was collected. */
void verify_store_flush(struct verify_store *s);
/* Changes that were not stored. */
uint64_t verify_store_lost(const struct verify_store *s);

#endif
