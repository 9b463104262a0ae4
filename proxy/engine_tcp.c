/*
 * tcp:host:port - tcp_table(5): "get KEY", and a line that begins with 200,
 * 400 or 500.
 */
#include <stdlib.h>

#include "lib/mem.h"
#include "proxy/engine_net.h"
#include "proxy/engine_reply.h"

#define TIMEOUT_MS	25000	/* of one attempt */
#define LINE_MAX_BYTES	(3u * 16384u)

static bool
tcp_open(const struct engine_conf *c, void **ret, struct buf *err)
{
	struct net *n = mem_alloc(sizeof *n);

	(void)err;
	if (!net_init(n, view_of(engine_conf_name(c))))
		engine_conf_wrong(c, "need tcp:host:port");
	*ret = n;
	return true;
}

static void
tcp_close(void *h)
{
	net_free(h);
	free(h);
}

static enum engine_answer
tcp_once(struct net *n, struct view request, struct buf *value,
    struct buf *err)
{
	enum engine_answer a;
	struct view line;

	if (!net_open(n, err) || !net_write(n, request, err) ||
	    !net_line(n, LINE_MAX_BYTES, &line, err))
		return ENGINE_NONE;
	a = tcp_reply(line, value, err);
	buf_consume(&n->in, line.n + 1);
	if (a == ENGINE_NONE || n->in.n > 0)
		net_close(n);
	n->used = n->fd >= 0;
	return a;
}

static enum engine_answer
tcp_query(void *h, struct view key, struct buf *ret_value, struct buf *err)
{
	struct net *n = h;
	enum engine_answer a = ENGINE_NONE;
	struct buf request;
	bool again;

	buf_init(&request, 4 * ENGINE_KEY_MAX + 16);
	if (buf_puts(&request, "get ") && tcp_encode(key, &request) &&
	    buf_putc(&request, '\n')) {
		net_limit(n, TIMEOUT_MS);
		if (n->fd >= 0 && net_stale(n))
			net_close(n);
		again = n->used;
		a = tcp_once(n, buf_view(&request), ret_value, err);
		/* The server may have ended a connection that was idle. */
		if (a == ENGINE_NONE && again) {
			buf_clear(err);
			a = tcp_once(n, buf_view(&request), ret_value, err);
		}
	}
	buf_free(&request);
	return a == ENGINE_NONE ? ENGINE_TEMPORARY : a;
}

const struct lookup_engine engine = {
	.type = "tcp", .open = tcp_open, .query = tcp_query,
	.close = tcp_close, .sees_files = true, .name_is_all = true,
};
