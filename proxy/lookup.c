/*
 * The lookup role: the one process that talks to name servers, for all the
 * others.
 */
#include <unistd.h>

#include "lib/conf_choice.h"
#include "lib/log.h"
#include "lib/role.h"
#include "proxy/lookup_request.h"
#include "proxy/lookup_service.h"

static size_t n_peers;
static uint64_t n_names, n_routes, n_facts;

static void
lookup_look_for_end(void)
{
	if (role_phase() == PHASE_RETIRING && n_peers == 0)
		role_exit();
}

static void
lookup_on_fact(struct chan *c, struct chan_in *m, uint32_t tag)
{
	unsigned kind = cursor_u8(&m->body);
	uint16_t type = cursor_u16(&m->body);
	struct view key = cursor_view(&m->body);
	uint32_t ms = cursor_u32(&m->body);
	struct view request = cursor_view(&m->body);

	if (!chan_check(c, m))
		return;
	n_facts++;
	switch (kind) {
	case FACT_DNS:
		if (type == FACT_A || type == FACT_NS || type == FACT_MX ||
		    type == FACT_TXT || type == FACT_HOST) {
			lookup_fact(c, tag, (enum fact_dns)type, key);
			return;
		}
		break;
	case FACT_SERVICE:
		/* Those with restrictions. */
		if (chan_peer(c) != ROLE_SMTPD && chan_peer(c) != ROLE_POLICY)
			break;
		lookup_service(c, tag, key, ms, request);
		return;
	default:
		break;
	}
	chan_blame(c, "a fact that nobody can know");
}

static void
lookup_on_dane(struct chan *c, struct chan_in *m, uint32_t tag)
{
	struct view domain = cursor_view(&m->body);
	struct view host = cursor_view(&m->body);
	uint16_t port = cursor_u16(&m->body);

	if (chan_check(c, m))
		lookup_dane(c, tag, domain, host, port);
}

static void
lookup_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	uint32_t tag = cursor_u32(&m->body);
	struct view what;
	uint8_t flags = 0;

	(void)arg;
	if (m->type == MSG_FACT) {
		lookup_on_fact(c, m, tag);
		return;
	}
	if (m->type == MSG_DANE) {
		lookup_on_dane(c, m, tag);
		return;
	}
	if (m->type == MSG_ROUTE)
		flags = cursor_u8(&m->body);
	what = cursor_view(&m->body);
	if (!chan_check(c, m))
		return;
	if (m->type == MSG_NAME) {
		n_names++;
		lookup_name(c, tag, what);
	} else if (m->type == MSG_ROUTE) {
		n_routes++;
		lookup_route(c, tag, flags, what);
	} else {
		chan_blame(c, "unexpected message");
	}
}

static void
lookup_on_close(struct chan *c, void *arg)
{
	(void)arg;
	request_forget_all(c);
	lookup_service_forget(c);
	chan_free(&c);
	n_peers--;
	lookup_look_for_end();
}

static void
lookup_peer(const struct role_peer *peer, int fd)
{
	if (peer->kind != ROLE_SMTPD && peer->kind != ROLE_RELAY &&
	    peer->kind != ROLE_POLICY && peer->kind != ROLE_STS &&
	    peer->kind != ROLE_TLSRPT) {
		close(fd);
		return;
	}
	(void)chan_new(fd, ROLE_LOOKUP, peer->kind, peer->pid, lookup_on_msg,
	    lookup_on_close, NULL);
	n_peers++;
}

static void
lookup_load(void)
{
	uint32_t set = conf_choice("inet_protocols",
	    view_of(role_conf()->inet_protocols));
	bool ipv4 = (set & PROTOCOL_IPV4) != 0;
	bool ipv6 = (set & PROTOCOL_IPV6) != 0;

	lookup_route_families(ipv4 || !ipv6, ipv6 || !ipv4);
	lookup_fact_families(ipv4 || !ipv6, ipv6 || !ipv4);
	lookup_service_load(role_conf());
	dns_load(role_conf());
}

static void
lookup_status(struct buf *b)
{
	(void)buf_printf(b, "names %llu\nroutes %llu\nfacts %llu\nopen %zu\n",
	    (unsigned long long)n_names, (unsigned long long)n_routes,
	    (unsigned long long)n_facts, request_count());
}

int
main(int argc, char **argv)
{
	static const struct role_def def = {
		.kind = ROLE_LOOKUP,
		.jail = { .allow = JAIL_CONNECT | JAIL_THREADS,
			.max_files = 4096 },
		.load = lookup_load,
		.start = dns_start,
		.peer = lookup_peer,
		.retire = lookup_look_for_end,
		.status = lookup_status,
	};

	return role_main(&def, argc, argv);
}
