/* local_header_rewrite_clients: whose messages are completed as local mail. */
#include <stdlib.h>

#include "lib/mem.h"
#include "proxy/smtpd.h"

bool
local_load(struct server *sv, const struct netaddr *own, size_t n_own,
    table_report *report, void *arg)
{
	const struct conf *cf = sv->cf;
	struct view rest = view_of(cf->local_header_rewrite_clients), word;
	char *why;

	while ((word = conf_word(&rest)).n > 0) {
		if (view_is(word, "permit_inet_interfaces") &&
		    sv->local_own == NULL) {
			sv->local_own = mem_array(n_own + 1, sizeof *own);
			memcpy(sv->local_own, own, n_own * sizeof *own);
			sv->n_local_own = n_own;
		} else if (view_is(word, "permit_mynetworks") &&
		    sv->local_networks == NULL) {
			sv->local_networks = net_list_open("mynetworks",
			    cf->mynetworks, cf->config_directory, report, arg);
			if (sv->local_networks == NULL)
				return false;
		} else {
			why = mem_printf("local_header_rewrite_clients: %.*s "
			    "has no effect", VIEW_ARGS(word));
			report(false, why, arg);
			free(why);
		}
	}
	return true;
}

void
local_free(struct server *sv)
{
	addr_list_free(&sv->local_networks);
	free(sv->local_own);
	sv->local_own = NULL;
}

bool
local_is(const struct session *s)
{
	const struct server *sv = s->server;
	size_t i;

	for (i = 0; i < sv->n_local_own; i++)
		if (netaddr_equal(&sv->local_own[i], &s->addr))
			return true;
	return sv->local_networks != NULL &&
	    net_list_match(sv->local_networks, session_client_name(s),
	    &s->addr) == TABLE_FOUND;
}
