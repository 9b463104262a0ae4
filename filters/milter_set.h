/*
 * The settings of outside filters: for each SMTP service of master.cf, and for
 * mail from other sources.  All is read, and host names are looked up, before
 * the jail; an address that changes is found by a reload.
 */
#ifndef FILTERS_MILTER_SET_H
#define FILTERS_MILTER_SET_H

#include "filters/milter_client.h"
#include "filters/milter_link.h"

/* Filters, in their order; addresses[i] is that of specs.list[i]. */
struct milter_list {
	struct milter_specs specs;
	struct milter_address *addresses;
};

struct milter_set {
	struct conf *cf;		/* with the service's own settings */
	struct milter_list list;
	struct table_list maps;		/* smtpd_milter_maps */
	struct milter_settings settings; /* but version */
	struct view hostname, daemon_name, v;
	int64_t reuse_ms;		/* of a connection */
	bool internal;			/* for no service */
};

/* Errors are reported, then it is false. */
bool milter_sets_open(const struct conf *cf, table_report *report, void *arg);
/* Of the n-th SMTP service (struct plan_entry), 0: none, mail from elsewhere.
 * NULL: there is no such service. */
const struct milter_set *milter_set_find(uint32_t service);
/*
 * Which filters a client gets.  addr: numeric, "": not known.  *ret NULL:
 * none.  False: a table failed, or says what is no list; it was logged.
 */
bool milter_set_list(const struct milter_set *s, struct view addr,
    const struct milter_list **ret);
/* milter_macro_defaults; false: not there. */
bool milter_set_macro(const struct milter_set *s, struct view name,
    struct view *ret);


#endif
