/*
 * The policies on disk (smtp_tls_sts_cache_map), so that they protect after a
 * restart too: an LMDB file (lib/lmdb_file.h).  A change is written at once,
 * and further ones of the same second together.  What is read is checked as if
 * it came from a web server.
 */
#ifndef PROXY_STS_STORE_H
#define PROXY_STS_STORE_H

#include "lib/conf.h"
#include "proxy/sts_cache.h"

/* Before the jail: reads what is there into the cache. */
void sts_store_load(const struct conf *cf);
/* Its policy. */
void sts_store_put(const struct sts_entry *e);
/* It has none any more. */
void sts_store_drop(const char *domain);
/* Write now what was collected. */
void sts_store_flush(void);

#endif
