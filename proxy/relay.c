#include <stdlib.h>
#include <unistd.h>

#include "lib/conf_choice.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/role.h"
#include "lib/table_client.h"
#include "lib/tls_library.h"
#include "proxy/relay.h"
#include "proxy/relay_auth.h"
#include "proxy/relay_bdat.h"
#include "proxy/relay_checks.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_ehlo.h"
#include "proxy/relay_lmtp.h"
#include "proxy/relay_pix.h"
#include "proxy/relay_session.h"
#include "proxy/relay_tls.h"
#include "proxy/relay_sts.h"
#include "proxy/relay_tlsrpt.h"

/* A channel to a qmgr or a lookup; there are two of them during a reload. */
struct relay_link {
	struct chan *chan;
	enum role_kind kind;
	uint32_t generation;
	TAILQ_ENTRY(relay_link) link;
};

/* The role's own state; everything else is passed a pointer to it. */
static struct relay relay;
static TAILQ_HEAD(, relay_link) links = TAILQ_HEAD_INITIALIZER(links);
static uint32_t last_tag;

bool
relay_retiring(void)
{
	return role_phase() == PHASE_RETIRING;
}

void
relay_look_for_end(struct relay *r)
{
	const struct relay_link *l;

	if (!relay_retiring() || r->n_deliveries > 0)
		return;
	TAILQ_FOREACH(l, &links, link)
		if (l->kind == ROLE_QMGR)
			return;
	role_exit();
}

/* use_srv_lookup */
static bool
relay_wants_srv(const struct relay *r, const struct relay_nexthop *hop)
{
	struct view rest = view_of(r->conf->use_srv_lookup), word;

	while (hop->service.n > 0 && (word = conf_word(&rest)).n > 0)
		if (view_eq_nocase(word, hop->service))
			return true;
	return false;
}

static void
relay_put_question(const struct relay *r, const struct relay_nexthop *hop,
    struct buf *b)
{
	bool dns = hop->mx && r->dns, srv = dns && relay_wants_srv(r, hop);
	char *both;

	put_u8(b, (uint8_t)(r->route | (dns ? ROUTE_MX : 0u) |
	    (srv ? ROUTE_SRV : 0u)));
	if (!srv) {
		put_view(b, hop->host);
		return;
	}
	both = mem_printf("%.*s:%.*s", VIEW_ARGS(hop->service),
	    VIEW_ARGS(hop->host));
	put_view(b, view_of(both));
	free(both);
}

struct chan *
relay_lookup(void)
{
	const struct relay_link *l, *best = NULL;

	TAILQ_FOREACH(l, &links, link)
		if (l->kind == ROLE_LOOKUP &&
		    (best == NULL || l->generation >= best->generation))
			best = l;
	return best != NULL ? best->chan : NULL;
}

bool
relay_ask_route(struct relay *r, struct delivery *d)
{
	struct chan *best = relay_lookup();
	struct buf *b;

	if (best == NULL)
		return false;
	if (++last_tag == 0)
		last_tag = 1;
	d->tag = last_tag;
	d->asked = best;
	b = chan_begin(best, MSG_ROUTE);
	put_u32(b, d->tag);
	relay_put_question(r, &d->hop, b);
	chan_end(best);
	return true;
}

/* Two bytes behind the address; 0: none. */
static uint16_t
relay_address_port(struct view *bytes)
{
	const unsigned char *p;

	if (bytes->n != 4 + 2 && bytes->n != 16 + 2)
		return 0;
	bytes->n -= 2;
	p = (const unsigned char *)bytes->p + bytes->n;
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void
relay_route_is(struct chan *c, struct chan_in *m)
{
	struct relay_address list[RELAY_ADDRESSES_MAX], a;
	struct delivery *d;
	struct view text, bytes;
	uint32_t tag, n, i;
	size_t kept = 0;
	uint16_t best = UINT16_MAX, port;
	uint8_t status;

	tag = cursor_u32(&m->body);
	status = cursor_u8(&m->body);
	text = cursor_view(&m->body);
	n = cursor_u32(&m->body);
	for (i = 0; i < n && !m->body.bad; i++) {
		a.preference = cursor_u16(&m->body);
		a.host = cursor_view(&m->body);
		bytes = cursor_view(&m->body);
		port = relay_address_port(&bytes);
		best = a.preference < best ? a.preference : best;
		if (kept == RELAY_ADDRESSES_MAX ||
		    !netaddr_from_bytes(bytes, &a.addr))
			continue;
		a.addr.port = port;
		list[kept++] = a;
	}
	if (!chan_check(c, m))
		return;
	TAILQ_FOREACH(d, &relay.deliveries, link)
		if (d->tag == tag && d->asked == c)
			break;
	/* It may have been given up meanwhile. */
	if (d != NULL && tag != 0)
		delivery_routed(d, status, text, list, kept, best);
}

static void
relay_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	(void)arg;
	if (m->type == MSG_DELIVER)
		delivery_begin(&relay, c, m);
	else if (m->type == MSG_PROBE)
		probe_begin(&relay, c, m);
	else if (m->type == MSG_PROXY_MAIL)
		proxy_begin(&relay, c, m);
	else if (m->type == MSG_ROUTE_IS)
		relay_route_is(c, m);
	else if (m->type == MSG_DANE_IS)
		relay_dane_is(&relay, c, m);
	else
		chan_blame(c, "unexpected message");
}

static void
relay_on_close(struct chan *c, void *arg)
{
	struct relay_link *l = arg;
	struct delivery *d, *next;

	TAILQ_REMOVE(&links, l, link);
	for (d = TAILQ_FIRST(&relay.deliveries); d != NULL; d = next) {
		next = TAILQ_NEXT(d, link);
		if (d->qmgr == c)
			delivery_orphan(d);
		else if (d->tag != 0 && d->asked == c)
			delivery_lookup_gone(d);
		else
			relay_dane_gone(d, c);
	}
	free(l);
	chan_free(&c);
	relay_look_for_end(&relay);
}

static void
relay_peer(const struct role_peer *peer, int fd)
{
	struct relay_link *l;

	if (peer->kind == ROLE_TABLE) {
		table_client_peer(peer, fd);
		return;
	}
	if (peer->kind == ROLE_STS) {
		relay_sts_peer(peer, fd);
		return;
	}
	if (peer->kind == ROLE_CREDENTIALS) {
		relay_credentials_peer(peer, fd);
		return;
	}
	if (peer->kind == ROLE_TLSRPT) {
		relay_tlsrpt_peer(peer, fd);
		return;
	}
	if (peer->kind != ROLE_QMGR && peer->kind != ROLE_LOOKUP) {
		close(fd);
		return;
	}
	l = mem_alloc(sizeof *l);
	l->kind = peer->kind;
	l->generation = peer->generation;
	l->chan = chan_new(fd, ROLE_RELAY, peer->kind, peer->pid,
	    relay_on_msg, relay_on_close, l);
	TAILQ_INSERT_TAIL(&links, l, link);
}

static void
relay_bind_address(const char *parameter, const char *value, uint8_t family,
    struct netaddr *ret)
{
	struct netaddr a;

	if (*value == '\0')
		return;
	if (netaddr_parse(view_of(value), &a) && a.family == family)
		*ret = a;
	else
		log_warn("%s: bad address: %s", parameter, value);
}

/* Loopback, or none (RFC 6890): nobody outside is reached from there. */
static bool
relay_inner_address(const struct netaddr *a)
{
	size_t i;

	if (a->family == AF_INET)
		return a->b[0] == 127 || a->b[0] == 0;
	for (i = 0; i < 15; i++)
		if (a->b[i] != 0)
			return false;
	return a->b[15] <= 1;
}

/*
 * Mail of a virtual host comes from its address: the only one of the family in
 * inet_interfaces.
 */
static void
relay_bind_only(const struct netaddr *own, size_t n, uint8_t family,
    struct netaddr *ret)
{
	const struct netaddr *only = NULL;
	size_t i;

	if (ret->family != 0)
		return;
	for (i = 0; i < n; i++) {
		if (own[i].family != family)
			continue;
		if (only != NULL)
			return;
		only = &own[i];
	}
	if (only != NULL && !relay_inner_address(only)) {
		*ret = *only;
		ret->port = 0;
	}
}

static void
relay_load_route(struct relay *r)
{
	const struct conf *cf = r->conf;
	uint32_t level = conf_choice("smtp_dns_support_level",
	    view_of(cf->smtp_dns_support_level));
	uint32_t hosts = conf_choice("smtp_host_lookup",
	    view_of(cf->smtp_host_lookup));

	r->dns = level == DNS_SUPPORT_BY_DEFAULT ? !cf->disable_dns_lookups :
	    level != DNS_SUPPORT_DISABLED;
	r->route = (hosts & HOST_LOOKUP_NATIVE) != 0 ? ROUTE_NATIVE : 0;
	if (!r->dns || (hosts & HOST_LOOKUP_DNS) == 0)
		r->route |= ROUTE_NO_DNS;
	if (cf->ignore_mx_lookup_error)
		r->route |= ROUTE_IGNORE_MX;
	if (cf->smtp_defer_if_no_mx_address_found)
		r->route |= ROUTE_DEFER_MX;
	if (cf->allow_srv_lookup_fallback)
		r->route |= ROUTE_SRV_FALLBACK;
	if (cf->ignore_srv_lookup_error)
		r->route |= ROUTE_IGNORE_SRV;
}

static void
relay_load(void)
{
	const struct conf *cf = role_conf();
	struct relay *r = &relay;
	struct netaddr own[OWN_ADDR_MAX];
	struct view bad;
	uint32_t pix;
	size_t n;

	tls_library_load(cf);
	r->conf = cf;
	r->lmtp = role_lmtp();
	r->lmtp_port = relay_lmtp_port(cf->lmtp_tcp_port);
	table_client_init(ROLE_RELAY, cf->lookup_table_time_limit);
	TAILQ_INIT(&r->deliveries);
	TAILQ_INIT(&r->idle);
	r->discard = relay_ehlo_keywords(cf->smtp_discard_ehlo_keywords);
	if (!table_list_open(cf->smtp_discard_ehlo_keyword_address_maps,
	    cf->config_directory, &r->discards, log_report_errors, NULL))
		fatal("smtp_discard_ehlo_keyword_address_maps cannot be "
		    "used");
	if (!table_list_open(cf->smtp_pix_workaround_maps,
	    cf->config_directory, &r->pix_maps, log_report_errors, NULL))
		fatal("smtp_pix_workaround_maps cannot be used");
	if (!relay_pix_parse(view_of(cf->smtp_pix_workarounds), &pix, &bad))
		fatal("smtp_pix_workarounds: unknown workaround: %s",
		    log_safe(view_head(bad, 100)));
	r->family = FAMILY_ANY & conf_choice("inet_protocols",
	    view_of(cf->inet_protocols));
	r->preferred = FAMILY_ANY & conf_choice("smtp_address_preference",
	    view_of(cf->smtp_address_preference));
	relay_load_route(r);
	relay_bind_address("smtp_bind_address", cf->smtp_bind_address,
	    AF_INET, &r->bind4);
	relay_bind_address("smtp_bind_address6", cf->smtp_bind_address6,
	    AF_INET6, &r->bind6);
	r->bind_enforce = cf->smtp_bind_address_enforce;
	buf_init(&r->commands, 2 * RELAY_COMMANDS);
	r->encoded = mem_alloc(RELAY_BDAT_ROOM + RELAY_PIECE +
	    RELAY_TEXT_ROOM(RELAY_PIECE) + RELAY_TEXT_END_ROOM);
	if (!relay_checks_open(cf, log_report_errors, NULL, &r->checks))
		fatal("smtp_header_checks or smtp_body_checks cannot be used");
	if (!relay_tls_open(cf, &r->tls, log_report_errors, NULL))
		fatal("smtp_tls_* cannot be used");
	r->cached = word_list_open("smtp_connection_cache_destinations",
	    cf->smtp_connection_cache_destinations, cf->config_directory,
	    log_report_errors, NULL);
	if (r->cached == NULL)
		fatal("smtp_connection_cache_destinations cannot be used");
	if (!relay_auth_open(r))
		fatal("smtp_sasl_mechanism_filter cannot be used");
	n = own_addresses(cf, own, OWN_ADDR_MAX);
	relay_bind_only(own, n, AF_INET, &r->bind4);
	relay_bind_only(own, n, AF_INET6, &r->bind6);
	r->own = own_and_proxies(cf, own, n, &r->n_own);
	if (view_trim(view_of(cf->smtp_generic_maps)).n == 0)
		return;
	r->generic = rewrite_open_generic(cf, own, n,
	    log_report_errors, NULL);
	if (r->generic == NULL)
		fatal("smtp_generic_maps cannot be used");
}

static void
relay_control(struct chan_in *m)
{
	if (m->type == MSG_TLS_TRACE_FILE || m->type == MSG_TLS_TRACE_NONE)
		tls_watch_answer(role_control(), m);
}

static void
relay_retire(void)
{
	session_quit_idle(&relay);
	relay_look_for_end(&relay);
}

static void
relay_status(struct buf *b)
{
	const struct relay *r = &relay;

	(void)buf_printf(b, "deliveries %zu\nsessions %zu\nidle %zu\n"
	    "reused %llu\nsent %llu\ndeferred %llu\nbounced %llu\n"
	    "tls %llu\ntls_resumed %llu\ntls_failed %llu\ntls_kept %zu\n",
	    r->n_deliveries, r->n_sessions, r->n_idle,
	    (unsigned long long)r->reused, (unsigned long long)r->sent,
	    (unsigned long long)r->deferred, (unsigned long long)r->bounced,
	    (unsigned long long)r->tls->sessions,
	    (unsigned long long)r->tls->resumed,
	    (unsigned long long)r->tls->failed, r->tls->n_kept);
}

int
main(int argc, char **argv)
{
	static const struct role_def def = {
		.kind = ROLE_RELAY,
		.jail = { .allow = JAIL_CONNECT, .max_files = 8192 },
		.load = relay_load,
		.peer = relay_peer,
		.retire = relay_retire,
		.control = relay_control,
		.status = relay_status,
	};

	return role_main(&def, argc, argv);
}
