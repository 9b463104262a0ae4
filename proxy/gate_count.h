/*
 * How many connections each client has, and began lately: a client is an address block.  The
 * table is bounded; when it is full a new client is not counted, which lets
 * it in: a limit must not keep mail away because of strangers.
 */
#ifndef PROXY_GATE_COUNT_H
#define PROXY_GATE_COUNT_H

#include "lib/clock.h"
#include "lib/netaddr.h"

struct gate_count;

struct gate_count *gate_count_new(unsigned ipv4_bits, unsigned ipv6_bits,
    uint32_t max_clients);
void gate_count_free(struct gate_count **g);
/* One more connection; returns how many there are now (0: not counted). */
uint32_t gate_count_add(struct gate_count *g, const struct netaddr *a);
/* It began one: how many that are in its unit of time (0: not counted), which
 * begins with the first. */
uint32_t gate_count_rate(struct gate_count *g, const struct netaddr *a,
    struct mono now, int64_t unit_ms);
/* Forget clients that are gone and whose unit is over; call it about once in
 * a unit if rates are counted. */
void gate_count_sweep(struct gate_count *g, struct mono now,
    int64_t unit_ms);
void gate_count_drop(struct gate_count *g, const struct netaddr *a);
uint32_t gate_count_clients(const struct gate_count *g);

#endif
