/*
 * memcache:/path/NAME.cf - memcache_table(5), reading only, as a table does;
 * what a backup table knows is put into the cache.
 */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/engine_format.h"
#include "proxy/engine_net.h"
#include "proxy/engine_reply.h"
#include "rules/table.h"
#include "rules/table_remote.h"

/* One for all handles: an LMDB file may be open only once in a process. */
struct backup {
	struct backup *next;
	char *spec;
	struct table *table;
	pthread_mutex_t lock;
};
static struct backup *backups;

struct memcache {
	struct net net;
	struct engine_format *format;
	struct backup *backup;	/* NULL: none */
	int64_t timeout, pause;
	int64_t ttl, flags;
	unsigned tries;
	size_t data_max, line_max;
};

static void
backup_report(bool error, const char *text, void *arg)
{
	if (error)
		engine_conf_wrong(arg, "backup: %s", text);
}

static void
backup_refuse(uint32_t service, struct view table, void *arg)
{
	(void)service;
	engine_conf_wrong(arg, "backup: %.*s: no table behind another "
	    "connection", VIEW_ARGS(table));
}

static struct backup *
backup_open(const struct engine_conf *c, const char *spec)
{
	const char *dir = engine_conf_main(c, "config_directory");
	struct backup *b;
	void *arg = (void *)(uintptr_t)c;

	for (b = backups; b != NULL; b = b->next)
		if (strcmp(b->spec, spec) == 0)
			return b;
	table_remote_names(view_of(spec), backup_refuse, arg);
	b = mem_alloc(sizeof *b);
	b->spec = mem_strdup(spec);
	b->table = table_open(view_of(spec), dir, backup_report, arg);
	(void)pthread_mutex_init(&b->lock, NULL);
	b->next = backups;
	backups = b;
	return b;
}

static enum engine_answer
backup_find(struct backup *b, struct view key, struct buf *value,
    struct buf *err)
{
	enum table_answer a;
	unsigned line;

	if (b == NULL)
		return ENGINE_NOT_FOUND;
	(void)pthread_mutex_lock(&b->lock);
	a = table_find(b->table, key, value, &line);
	(void)pthread_mutex_unlock(&b->lock);
	if (a == TABLE_FAILED)
		(void)buf_printf(err, "backup table %s failed", b->spec);
	return a == TABLE_FOUND ? ENGINE_FOUND : a == TABLE_NOT_FOUND ?
	    ENGINE_NOT_FOUND : ENGINE_TEMPORARY;
}

static void
memcache_close(void *h)
{
	struct memcache *m = h;

	net_free(&m->net);
	engine_format_free(&m->format);
	free(m);
}

static bool
memcache_open(const struct engine_conf *c, void **ret, struct buf *err)
{
	struct memcache *m = mem_alloc(sizeof *m);
	const char *backup = engine_conf_str(c, "backup", "");

	(void)err;
	if (!net_init(&m->net, view_of(engine_conf_str(c, "memcache",
	    "inet:localhost:11211"))))
		engine_conf_wrong(c, "memcache: need inet:host:port or "
		    "unix:/path");
	m->format = engine_format_new(c, "key_format", "%s");
	m->timeout = engine_conf_time(c, "timeout", 's', 2000);
	m->pause = engine_conf_time(c, "retry_pause", 's', 1000);
	m->tries = (unsigned)engine_conf_int(c, "max_try", 2, 1, 10);
	m->ttl = engine_conf_int(c, "ttl", 3600, 0, 30 * 86400);
	m->flags = engine_conf_int(c, "flags", 0, 0, UINT32_MAX);
	m->data_max = (size_t)engine_conf_int(c, "data_size_limit", 10240, 1,
	    ENGINE_VALUE_MAX);
	m->line_max = (size_t)engine_conf_int(c, "line_size_limit", 1024, 64,
	    16384);
	if (backup[0] != '\0')
		m->backup = backup_open(c, backup);
	*ret = m;
	return true;
}

/* The bytes of a value, and the lines behind it. */
static enum engine_answer
memcache_data(struct memcache *m, size_t length, struct buf *value,
    struct buf *err)
{
	struct net *n = &m->net;
	struct view line;

	if (!net_read(n, length + 2, err))
		return ENGINE_NONE;
	if (n->in.p[length] != '\r' || n->in.p[length + 1] != '\n' ||
	    !buf_putv(value, buf_part(&n->in, 0, length))) {
		(void)buf_puts(err, "the server's reply makes no sense");
		return ENGINE_NONE;
	}
	buf_consume(&n->in, length + 2);
	if (!net_line(n, m->line_max, &line, err))
		return ENGINE_NONE;
	if (!view_is(view_trim(line), "END")) {
		(void)buf_puts(err, "the server's reply makes no sense");
		return ENGINE_NONE;
	}
	buf_consume(&n->in, line.n + 1);
	return value->n > 0 ? ENGINE_FOUND : ENGINE_NOT_FOUND;
}

static enum engine_answer
memcache_get(struct memcache *m, struct view key, struct buf *value,
    struct buf *err)
{
	struct net *n = &m->net;
	enum engine_answer a;
	struct buf request;
	struct view line;
	size_t length = 0;
	bool sent;

	buf_init(&request, 300);
	ensure(buf_puts(&request, "get ") && buf_putv(&request, key) &&
	    buf_puts(&request, "\r\n"));
	net_limit(n, m->timeout);
	sent = net_open(n, err) && net_write(n, buf_view(&request), err);
	buf_free(&request);
	if (!sent || !net_line(n, m->line_max, &line, err))
		return ENGINE_NONE;
	a = memcache_head(line, key, m->data_max, &length);
	if (a == ENGINE_NONE)
		(void)buf_printf(err, "the server's reply makes no sense, or "
		    "has more than data_size_limit = %zu bytes", m->data_max);
	buf_consume(&n->in, line.n + 1);
	if (a == ENGINE_FOUND)
		a = memcache_data(m, length, value, err);
	return n->in.n > 0 ? ENGINE_NONE : a;
}

/* That it fails is no harm. */
static void
memcache_set(struct memcache *m, struct view key, struct view value)
{
	struct net *n = &m->net;
	struct buf b, err;
	struct view line;

	if (value.n > m->data_max)
		return;
	buf_init(&b, ENGINE_VALUE_MAX + 400);
	buf_init(&err, ENGINE_ERROR_MAX);
	net_limit(n, m->timeout);
	if (buf_printf(&b, "set %.*s %lld %lld %zu\r\n", VIEW_ARGS(key),
	    (long long)m->flags, (long long)m->ttl, value.n) &&
	    buf_putv(&b, value) && buf_puts(&b, "\r\n") &&
	    net_open(n, &err) && net_write(n, buf_view(&b), &err) &&
	    net_line(n, m->line_max, &line, &err))
		buf_consume(&n->in, line.n + 1);
	buf_free(&b);
	buf_free(&err);
}

static enum engine_answer
memcache_try(struct memcache *m, struct view key, struct buf *value,
    struct buf *err)
{
	const struct timespec pause = { m->pause / 1000,
		m->pause % 1000 * 1000000 };
	enum engine_answer a = ENGINE_NONE;
	unsigned i;

	for (i = 0; i < m->tries; i++) {
		/* A connection that was idle may be gone: again, at once. */
		if (i > 0 && !m->net.used)
			(void)nanosleep(&pause, NULL);
		if (m->net.fd >= 0 && net_stale(&m->net))
			net_close(&m->net);
		buf_clear(err);
		buf_clear(value);
		a = memcache_get(m, key, value, err);
		if (a != ENGINE_NONE) {
			m->net.used = true;
			return a;
		}
		net_close(&m->net);
	}
	return ENGINE_TEMPORARY;
}

static enum engine_answer
memcache_query(void *h, struct view key, struct buf *ret_value,
    struct buf *err)
{
	struct memcache *m = h;
	enum engine_answer a = ENGINE_NOT_FOUND;
	struct buf full;
	bool wanted;

	if (!engine_format_wants(m->format, key))
		return ENGINE_NOT_FOUND;
	buf_init(&full, 4096);
	if (engine_format_query(m->format, key, NULL, NULL, &full, &wanted) &&
	    wanted && memcache_key_ok(buf_view(&full))) {
		a = memcache_try(m, buf_view(&full), ret_value, err);
		if (m->backup != NULL && a != ENGINE_FOUND) {
			/* It has all; the cache only makes it faster. */
			buf_clear(err);
			a = backup_find(m->backup, key, ret_value, err);
			if (a == ENGINE_FOUND && m->net.fd >= 0)
				memcache_set(m, buf_view(&full),
				    buf_view(ret_value));
		}
	} else if (m->backup != NULL) {
		a = backup_find(m->backup, key, ret_value, err);
	}
	buf_free(&full);
	return a;
}

const struct lookup_engine engine = {
	.type = "memcache", .open = memcache_open, .query = memcache_query,
	.close = memcache_close, .sees_files = true,
};
