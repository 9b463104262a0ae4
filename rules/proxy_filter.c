#include <stdlib.h>

#include "lib/cursor.h"
#include "lib/mem.h"
#include "lib/netaddr.h"
#include "rules/proxy_filter.h"

#define HOST_MAX	255u
#define TIMEOUT_MAX	(INT64_C(86400) * 1000)

/* False: it names no host and port. */
static bool
proxy_filter_hop(const struct conf *cf, struct view *ret_host,
    uint16_t *ret_port)
{
	struct view v = view_trim(view_of(cf->smtpd_proxy_filter));
	size_t i;

	if (view_starts_nocase(v, "unix:"))
		return false;
	if (view_starts_nocase(v, "inet:"))
		v = view_from(v, 5);
	if (!netaddr_split_hostport(v, ret_host, ret_port, 0) ||
	    *ret_port == 0 || ret_host->n > HOST_MAX)
		return false;
	for (i = 0; i < ret_host->n; i++)
		if (ret_host->p[i] <= ' ' || ret_host->p[i] == 0x7f ||
		    ret_host->p[i] == '[' || ret_host->p[i] == ']')
			return false;
	/* No name server is asked for what is here. */
	if (ret_host->n == 0 || view_is_nocase(*ret_host, "localhost"))
		*ret_host = view_of("127.0.0.1");
	return true;
}

bool
proxy_filter_check(const struct conf *cf, table_report *report, void *arg)
{
	struct view host;
	uint16_t port;
	char *text;

	if (view_trim(view_of(cf->smtpd_proxy_filter)).n == 0 ||
	    proxy_filter_hop(cf, &host, &port))
		return true;
	text = mem_printf("bad value for smtpd_proxy_filter: need host:port");
	report(true, text, arg);
	free(text);
	return false;
}

void
proxy_filter_put(struct buf *b, const struct conf *cf, int64_t maxproc)
{
	struct view host;
	struct buf hop;
	uint16_t port;

	if (view_trim(view_of(cf->smtpd_proxy_filter)).n == 0)
		return;
	buf_init(&hop, HOST_MAX + 16);
	if (proxy_filter_hop(cf, &host, &port))
		(void)buf_printf(&hop, "[%.*s]:%u", VIEW_ARGS(host),
		    (unsigned)port);
	else
		(void)buf_puts(&hop, "[127.0.0.1]:1");
	(void)put_view(b, buf_view(&hop));
	(void)put_view(b, view_head(view_of(cf->smtpd_proxy_ehlo), HOST_MAX));
	(void)put_u64(b, (uint64_t)cf->smtpd_proxy_timeout);
	(void)put_u32(b, maxproc > 0 && maxproc < UINT16_MAX ?
	    (uint32_t)maxproc : PROXY_FILTER_LIMIT);
	buf_free(&hop);
}

bool
proxy_filter_get(struct view v, struct proxy_filter *ret)
{
	struct cursor c = cursor_of(v);
	struct proxy_filter f;
	uint64_t timeout;

	f.hop = cursor_view(&c);
	f.ehlo = cursor_view(&c);
	timeout = cursor_u64(&c);
	f.limit = cursor_u32(&c);
	f.timeout = timeout > 0 && timeout < TIMEOUT_MAX ? (int64_t)timeout :
	    TIMEOUT_MAX;
	if (!cursor_done(&c) || f.hop.n == 0 || f.limit == 0)
		return false;
	*ret = f;
	return true;
}
