/*
 * What is told of TLS with a peer: smtpd_tls_loglevel, or what
 * smtpd_tls_loglevel_maps has for its name or address; the same for the
 * client's side.  Read before the jail; pure afterwards.
 */
#ifndef RULES_TLS_TELL_H
#define RULES_TLS_TELL_H

#include "lib/conf.h"
#include "lib/netaddr.h"
#include "lib/tls_watch.h"
#include "rules/table.h"

struct tls_tells {
	uint32_t usual;		/* enum tls_tell */
	struct table_list maps;
	bool parent_matches;
};
struct tls_tell_params {
	const char *level_name, *level;
	const char *maps_name, *maps;
};
/* False after a report: not a level, in a parameter or in a table. */
bool tls_tells_open(const struct conf *cf, const struct tls_tell_params *p,
    struct tls_tells *ret, conf_report *report, void *arg);
void tls_tells_free(struct tls_tells *t);
/* name: verified; "" or "unknown": it has none. */
uint32_t tls_tells_find(const struct tls_tells *t, struct view name,
    const struct netaddr *addr);

#endif
