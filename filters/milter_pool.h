/*
 * Connections to filters that a session left in good order: the next session
 * goes on with one (SMFIC_QUIT_NC, version 6), which saves both sides a
 * connection, and the filter a thread.  Not for long: libmilter does not end
 * while it has any.
 */
#ifndef FILTERS_MILTER_POOL_H
#define FILTERS_MILTER_POOL_H

#include "filters/milter_client.h"
#include "filters/milter_link.h"

#define MILTER_POOL_MAX	100u	/* of one filter */

/* Both are taken; ms: how long they are kept.  False: they cannot be used
 * again, and are still the caller's. */
bool milter_pool_give(const struct milter_address *a,
    struct milter_client *client, struct milter_link *link, int64_t ms);
/* One that was negotiated; false: there is none. */
bool milter_pool_take(const struct milter_address *a,
    struct milter_client **ret_client, struct milter_link **ret_link);
/* It does not answer on a connection that had a session: it is given none any
 * more. */
void milter_pool_distrust(const struct milter_address *a);
/* It decides before the end of a message: for a while it is told one thing at
 * a time, for its connection ends when it was told more. */
void milter_pool_early(const struct milter_address *a);
bool milter_pool_is_early(const struct milter_address *a);
unsigned milter_pool_idle(void);

#endif
