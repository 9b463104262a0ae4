/*
 * smtp_generic_maps: addresses of a delivery as the server gets them, in its
 * commands and in the message's headers; what is logged and reported keeps
 * the addresses it was queued with.
 */
#ifndef PROXY_RELAY_GENERIC_H
#define PROXY_RELAY_GENERIC_H

#include "proxy/relay_delivery.h"

/* Fills in d->env.sender, rcpts[].out and d->edits, from d's arena.  False: a
 * table does not answer, or the text cannot be read; logged. */
bool relay_generic(struct delivery *d, struct rewrite *generic);

/* The same without a change, and without a word: to find out which tables
 * behind connections must be asked. */
void relay_generic_rehearse(struct delivery *d, struct rewrite *generic);

#endif
