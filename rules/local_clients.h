/*
 * local_header_rewrite_clients: the SMTP clients whose messages are treated
 * as mail of this host, in the header: completed and rewritten.  Opened
 * before the jail, pure afterwards.
 */
#ifndef RULES_LOCAL_CLIENTS_H
#define RULES_LOCAL_CLIENTS_H

#include "lib/conf.h"
#include "lib/netaddr.h"
#include "rules/table.h"

struct local_clients;

/* own: this machine's addresses, copied.  NULL after an error was reported. */
struct local_clients *local_clients_open(const struct conf *cf,
    const struct netaddr *own, size_t n_own, table_report *report, void *arg);
void local_clients_free(struct local_clients **l);
struct local_client {
	struct netaddr addr;
	struct view name;		/* verified, or "unknown" */
	bool authenticated;
	/* By its certificate; empty: it has shown none. */
	bool trusted;
	struct view fingerprint, pubkey_fingerprint;
};
/* A table that does not answer: no. */
bool local_clients_match(const struct local_clients *l,
    const struct local_client *client);

#endif
