/*
 * A filter's connection: a socket, its events and its clock around a milter
 * client (filters/milter_client.h).  The owner asks its client for something,
 * then calls milter_link_go(): answered() comes in any case, from the loop or
 * at once: when the filter has answered, closed, or was too slow.
 *
 * A filter gets the time of its spec for each answer; what it says meanwhile
 * (progress, changes) begins that time anew, up to MILTER_TIMES_MAX times.
 */
#ifndef FILTERS_MILTER_LINK_H
#define FILTERS_MILTER_LINK_H

#include <sys/socket.h>

#include "filters/milter_client.h"
#include "rules/milters.h"
#include "lib/loop.h"

#define MILTER_TIMES_MAX	10u

/* An address that a spec stands for, found before the jail. */
struct milter_address {
	struct sockaddr_storage sa;
	socklen_t len;
};

struct milter_link;
typedef void milter_answered(void *arg);

struct milter_link *milter_link_new(const struct milter_spec *spec,
    const struct milter_address *a, struct milter_client *client,
    milter_answered *answered, void *arg);
/* Closes; the client stays the owner's. */
void milter_link_free(struct milter_link **l);
/* Another owner, while nothing is asked. */
void milter_link_adopt(struct milter_link *l, milter_answered *answered,
    void *arg);
/* Connects if it has to; answered() comes. */
void milter_link_go(struct milter_link *l, int64_t ms);
/* answered() comes when all is written. */
void milter_link_drain(struct milter_link *l, int64_t ms);
/* It failed because the time was over. */
bool milter_link_late(const struct milter_link *l);
/* What is left to say without an answer (abort, quit), as far as the socket
 * takes it. */
void milter_link_flush(struct milter_link *l);

#endif
