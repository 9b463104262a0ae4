/*
 * How many connections each client has: a client is an address block.  The
 * table is bounded; when it is full a new client is not counted, which lets
 * it in: a limit must not keep mail away because of strangers.
 */
#ifndef PROXY_GATE_COUNT_H
#define PROXY_GATE_COUNT_H

#include "lib/netaddr.h"

struct gate_count;

struct gate_count *gate_count_new(unsigned ipv4_bits, unsigned ipv6_bits,
    uint32_t max_clients);
void gate_count_free(struct gate_count **g);
/* One more connection; returns how many there are now (0: not counted). */
uint32_t gate_count_add(struct gate_count *g, const struct netaddr *a);
void gate_count_drop(struct gate_count *g, const struct netaddr *a);
uint32_t gate_count_clients(const struct gate_count *g);

#endif
