/*
 * What each client does: how many connections it has, and how often it did
 * what is counted (enum client_event) in its present unit of time.  A client is an
 * address block at one service.  The table is bounded; when it is full a new
 * client is not counted, which lets it in: a limit must not keep mail away
 * because of strangers.
 */
#ifndef PROXY_GATE_COUNT_H
#define PROXY_GATE_COUNT_H

#include "lib/clock.h"
#include "lib/netaddr.h"
#include "proxy/client_event.h"

struct gate_count;

/* One client: an address at a service. */
struct gate_client {
	struct netaddr addr;
	uint32_t service;
};

struct gate_count *gate_count_new(unsigned ipv4_bits, unsigned ipv6_bits,
    uint32_t max_clients, int64_t unit_ms);
void gate_count_free(struct gate_count **g);
/* The client's address block; *ret_bits: its length. */
struct netaddr gate_count_block(const struct gate_count *g,
    const struct netaddr *a, unsigned *ret_bits);
/* One more connection; returns how many there are now (0: not counted). */
uint32_t gate_count_add(struct gate_count *g, const struct gate_client *k);
/* It did that: how often in its unit of time (0: not counted), which begins
 * with the first event of any kind. */
uint32_t gate_count_event(struct gate_count *g, const struct gate_client *k,
    enum client_event event, struct mono now);
/* Forget clients that are gone and whose unit is over; call it about once in
 * a unit. */
void gate_count_sweep(struct gate_count *g, struct mono now);
void gate_count_drop(struct gate_count *g, const struct gate_client *k);
uint32_t gate_count_clients(const struct gate_count *g);
/* How many times a client was not counted, since the last call. */
uint64_t gate_count_missed(struct gate_count *g);

#endif
