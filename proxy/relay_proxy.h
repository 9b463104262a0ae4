/*
 * Deliveries to a filter that answers for the message; see relay_delivery.h
 * and MSG_PROXY_MAIL.
 */
#ifndef PROXY_RELAY_PROXY_H
#define PROXY_RELAY_PROXY_H

#include "proxy/relay_delivery.h"
#include "proxy/relay_reply.h"

struct delivery_proxy {
	struct view ehlo;	/* our name there */
	int64_t timeout;	/* ms, of each step */
	unsigned code;		/* of the answer; 0: there is none */
	char dsn[RELAY_STATUS_MAX];
	struct view text;
};

/* Read the fields of MSG_PROXY_MAIL into d, which becomes a delivery to a
 * filter; false: they are none. */
bool proxy_read(struct delivery *d, struct view body)
    __attribute__((warn_unused_result));
/* The filter's reply that decides; the first one counts.  Nothing for other
 * deliveries. */
void proxy_replied(struct delivery *d, const struct relay_reply *r);
/* The filter cannot take this message at all, by what it says of itself. */
void proxy_unfit(struct delivery *d, const char *dsn, const char *why);
/* MSG_PROXY_SAID. */
void proxy_report(struct delivery *d);

#endif
