/*
 * The sts role: it knows the MTA-STS policies of the domains that mail goes
 * to.  It alone speaks HTTPS, with web servers that anybody may have; the DNS
 * it asks by way of lookup.  It has no mail, no keys, and no file but the one
 * that keeps its policies.
 */
#include <unistd.h>

#include "lib/log.h"
#include "proxy/sts_domain.h"
#include "proxy/sts_store.h"

static size_t n_relays;

static void
sts_look_for_end(void)
{
	if (role_phase() != PHASE_RETIRING || n_relays > 0)
		return;
	sts_store_flush();
	role_exit();
}

static void
sts_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	uint32_t tag = cursor_u32(&m->body);
	struct view domain = cursor_view(&m->body);

	(void)arg;
	if (chan_check(c, m))
		sts_domain_ask(c, tag, domain, false);
}

static void
sts_on_close(struct chan *c, void *arg)
{
	(void)arg;
	sts_domain_forget(c);
	chan_free(&c);
	n_relays--;
	sts_look_for_end();
}

static void
sts_peer(const struct role_peer *peer, int fd)
{
	if (peer->kind == ROLE_LOOKUP) {
		sts_dns_peer(ROLE_STS, peer, fd);
	} else if (peer->kind == ROLE_RELAY) {
		(void)chan_new(fd, ROLE_STS, peer->kind, peer->pid,
		    sts_on_msg, sts_on_close, NULL);
		n_relays++;
	} else {
		close(fd);
	}
}

static void
sts_control(struct chan_in *m)
{
	uint32_t tag;
	struct view words;

	if (m->type != MSG_ORDER)
		return;
	tag = cursor_u32(&m->body);
	words = cursor_view(&m->body);
	if (chan_check(role_control(), m))
		sts_order(tag, words);
}

static void
sts_load(void)
{
	const struct conf *cf = role_conf();

	sts_fetch_load(cf);
	sts_cache_load((size_t)cf->smtp_tls_sts_cache_limit, sts_store_drop);
	sts_domain_load(cf);
	sts_store_load(cf);
}

static void
sts_status(struct buf *b)
{
	const struct sts_counts *n = sts_domain_counts();

	(void)buf_printf(b, "asked %llu\nlooked %llu\nfetched %llu\n"
	    "failed %llu\nopen %zu\npolicies %zu\nothers %zu\n",
	    (unsigned long long)n->asked, (unsigned long long)n->looked,
	    (unsigned long long)n->fetched, (unsigned long long)n->failed,
	    n->open, sts_cache_count(true), sts_cache_count(false));
}

int
main(int argc, char **argv)
{
	static const struct role_def def = {
		.kind = ROLE_STS,
		.jail = { .allow = JAIL_CONNECT | JAIL_SYNC,
			.max_files = 1024 },
		.load = sts_load,
		.start = sts_domain_start,
		.peer = sts_peer,
		.retire = sts_look_for_end,
		.control = sts_control,
		.status = sts_status,
	};

	return role_main(&def, argc, argv);
}
