/*
 * The relay role: an SMTP client for many deliveries at once.  qmgr hands it
 * deliveries (a message, recipients, a next hop), which open or reuse
 * sessions; lookup tells it the addresses of a next hop.
 *
 * Who owns what: the role owns all deliveries and sessions; a delivery and
 * the session that works for it know one another until the session is done
 * with it.
 */
#ifndef PROXY_RELAY_H
#define PROXY_RELAY_H

#include <sys/queue.h>

#include "lib/chan.h"
#include "lib/conf.h"
#include "lib/own_addr.h"
#include "proxy/relay_route.h"
#include "rules/addr_list.h"
#include "rules/rewrite.h"

#define RELAY_IDLE_MAX		512u	/* connections kept unused */
#define RELAY_PIECE		65536u	/* bytes of text read at once */
#define RELAY_COMMANDS		32768u	/* bytes of commands made at once */
#define RELAY_NO_BDAT		64u	/* servers remembered */
#define RELAY_ROUTE_TIMEOUT	60000	/* ms to wait for lookup */

struct delivery;
struct session;
TAILQ_HEAD(session_list, session);
TAILQ_HEAD(delivery_list, delivery);

struct relay {
	const struct conf *conf;
	bool lmtp;			/* the protocol, for all sessions */
	uint16_t lmtp_port;
	uint32_t discard;		/* EHLO keywords not used, */
	struct table_list discards;	/* ... by server */
	struct table_list pix_maps;	/* smtp_pix_workaround_maps */
	enum relay_family family;	/* inet_protocols */
	enum relay_family preferred;	/* smtp_address_preference */
	bool dns;			/* MX and SRV are asked for */
	uint32_t route;			/* enum route_flag, of all next hops */
	struct netaddr bind4, bind6;	/* family 0: none */
	bool bind_enforce;		/* smtp_bind_address_enforce */
	struct netaddr *own;		/* and those of proxy_interfaces */
	size_t n_own;
	struct rewrite *generic;	/* NULL: no smtp_generic_maps */
	struct relay_checks *checks;	/* NULL: no smtp_header_checks, ... */
	struct relay_tls_shared *tls;
	struct addr_list *auth_filter;	/* smtp_sasl_mechanism_filter */
	struct netaddr no_bdat[RELAY_NO_BDAT];	/* relay_bdat.c: a ring */
	size_t n_no_bdat;		/* ever put there */
	struct addr_list *cached;	/* smtp_connection_cache_destinations */

	struct delivery_list deliveries;
	struct session_list idle;	/* latest first */
	size_t n_deliveries, n_sessions, n_idle;
	uint64_t sent, deferred, bounced, reused;

	/* Shared by all sessions; void when a handler returns. */
	struct buf commands;
	char input[8192];
	char piece[RELAY_PIECE];
	char *encoded;
};

/* The lookup to ask; NULL: there is none. */
struct chan *relay_lookup(void);
/* Ask lookup for the addresses of d's next hop.  False: nobody to ask. */
bool relay_ask_route(struct relay *r, struct delivery *d);
/* A delivery ended: if the role is retiring, it may be over. */
void relay_look_for_end(struct relay *r);
/* No new work is wanted. */
bool relay_retiring(void);

#endif
