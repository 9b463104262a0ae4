/*
 * socketmap:inet:host:port:name, socketmap:unix:/path:name - sendmail's
 * protocol of netstrings, socketmap_table(5).
 */
#include <stdlib.h>

#include "lib/mem.h"
#include "proxy/engine_net.h"
#include "proxy/engine_reply.h"

#define TIMEOUT_MS	25000	/* of one attempt */
#define REPLY_MAX	(ENGINE_VALUE_MAX + 16u)

struct socketmap {
	struct net net;
	char *name;
};

static bool
socketmap_open(const struct engine_conf *c, void **ret, struct buf *err)
{
	struct socketmap *m = mem_alloc(sizeof *m);
	struct view all = view_of(engine_conf_name(c));
	size_t i = all.n;
	bool prefix = view_starts_nocase(all, "inet:") ||
	    view_starts_nocase(all, "unix:");

	(void)err;
	while (i > 0 && all.p[i - 1] != ':')
		i--;
	m->name = mem_copy(view_from(all, i));
	/* Both: the handle must be made whatever is wrong. */
	if (!net_init(&m->net, view_head(all, i > 0 ? i - 1 : 0)) ||
	    !prefix || m->name[0] == '\0')
		engine_conf_wrong(c, "need socketmap:inet:host:port:name or "
		    "socketmap:unix:/path:name");
	*ret = m;
	return true;
}

static void
socketmap_close(void *h)
{
	struct socketmap *m = h;

	net_free(&m->net);
	free(m->name);
	free(m);
}

static enum engine_answer
socketmap_once(struct net *n, struct view request, struct buf *value,
    struct buf *err)
{
	size_t head = 0, length = 0;
	enum engine_answer a;
	bool bad = false;

	if (!net_open(n, err) || !net_write(n, request, err))
		return ENGINE_NONE;
	while ((head = netstring_head(n->in.n > 0 ? buf_view(&n->in) :
	    view_make("", 0), REPLY_MAX, &length, &bad)) == 0 && !bad)
		if (!net_read(n, n->in.n + 1, err))
			return ENGINE_NONE;
	if (bad || !net_read(n, head + length + 1, err) ||
	    n->in.p[head + length] != ',') {
		if (err->n == 0)
			(void)buf_puts(err, "the server's reply is no "
			    "netstring, or too long");
		net_close(n);
		return ENGINE_NONE;
	}
	a = socketmap_reply(buf_part(&n->in, head, length), value, err);
	buf_consume(&n->in, head + length + 1);
	if (a == ENGINE_NONE || n->in.n > 0)
		net_close(n);
	n->used = n->fd >= 0;
	return a;
}

static enum engine_answer
socketmap_query(void *h, struct view key, struct buf *ret_value,
    struct buf *err)
{
	struct socketmap *m = h;
	enum engine_answer a = ENGINE_NONE;
	struct buf request;
	bool again;

	buf_init(&request, 4 * ENGINE_KEY_MAX);
	if (buf_printf(&request, "%zu:%s ", strlen(m->name) + 1 + key.n,
	    m->name) && buf_putv(&request, key) && buf_putc(&request, ',')) {
		net_limit(&m->net, TIMEOUT_MS);
		if (m->net.fd >= 0 && net_stale(&m->net))
			net_close(&m->net);
		again = m->net.used;
		a = socketmap_once(&m->net, buf_view(&request), ret_value,
		    err);
		if (a == ENGINE_NONE && again) {
			buf_clear(err);
			a = socketmap_once(&m->net, buf_view(&request),
			    ret_value, err);
		}
	}
	buf_free(&request);
	return a == ENGINE_NONE ? ENGINE_TEMPORARY : a;
}

const struct lookup_engine engine = {
	.type = "socketmap", .open = socketmap_open,
	.query = socketmap_query, .close = socketmap_close,
	.sees_files = true, .name_is_all = true,
};
