/*
 * address_verify_sender: the sender of probes, which ask a server whether it
 * takes an address.  Mail to it is accepted and discarded: a server that calls
 * back, or answers, must not be told that our own sender does not exist.
 *
 * With address_verify_sender_ttl the local part ends in a code of the time, so
 * that nobody collects it once and writes to it for ever; that of now and its
 * neighbours are valid.  Code and alphabet are Postfix's kind, not its values.
 */
#ifndef RULES_VERIFY_SENDER_H
#define RULES_VERIFY_SENDER_H

#include "lib/clock.h"
#include "lib/conf.h"

/* The address as of now into out, which is cleared first; empty: <>. */
void verify_sender_put(const struct conf *cf, struct wall now,
    struct buf *out);
/* Is this (in internal form, with a domain) that address, or was it just
 * now?  Never true for the empty one. */
bool verify_sender_is(const struct conf *cf, struct wall now,
    struct view addr);

#endif
