/*
 * Keys for session tickets (RFC 5077, RFC 8446 section 4.6.1).
 *
 * All processes of one generation of one service get the same seed and the
 * moment at which it began.  Time is cut into periods; each period has its
 * keys, and the state that they come from is hashed on to the next one and
 * forgotten, so that who gets hold of a process learns no key that is out of
 * use.  A ticket is good in its period and in the one after it.
 */
#ifndef LIB_TLS_TICKET_H
#define LIB_TLS_TICKET_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/clock.h"

#define TLS_SEED_SIZE	32u

struct tls_ticket_key {
	uint8_t name[16], cipher[32], mac[32];
};

struct tls_tickets {
	bool ready;
	uint8_t state[TLS_SEED_SIZE];	/* of the present period */
	uint64_t period;
	struct mono from;
	int64_t length_ms;
	struct tls_ticket_key now, before;
	bool has_before;
};

void tls_tickets_start(struct tls_tickets *t,
    const uint8_t seed[TLS_SEED_SIZE], struct mono from, int64_t length_ms,
    struct mono now);
/* Go on to the period that now is in. */
void tls_tickets_turn(struct tls_tickets *t, struct mono now);
/* The key of a ticket; NULL: none of ours, or too old. */
const struct tls_ticket_key *tls_tickets_find(const struct tls_tickets *t,
    const uint8_t name[16]);
void tls_tickets_end(struct tls_tickets *t);

#endif
