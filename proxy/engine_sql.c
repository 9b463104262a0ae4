#include <stdlib.h>
#include <sys/random.h>

#include "lib/address.h"
#include "lib/clock.h"
#include "lib/conf.h"
#include "lib/mem.h"
#include "proxy/engine_sql.h"

/* How long the only server is left alone after a failure. */
#define SQL_ONLY_RETRY_US	1000000

struct sql_server {
	struct sql_host at;
	char *text;		/* what at points into */
	void *db;		/* NULL: not connected */
	struct mono used;	/* the connection, last */
	struct mono down_until;	/* us 0: not down */
	uint8_t rank;		/* the next to try has the lowest */
};

struct sql {
	const struct sql_driver *driver;
	void *own;
	struct engine_format *format;
	int64_t retry_us, idle_us;
	struct sql_server *servers;
	size_t n_servers;
};

struct sql_result {
	const struct engine_format *format;
	struct view key;
	struct buf *value;
	struct buf *err;
	unsigned n;
	enum engine_answer answer;	/* ENGINE_NONE: go on */
};

char *
sql_old_query(const struct engine_conf *c)
{
	const char *function = engine_conf_str(c, "select_function", NULL);
	const char *table = engine_conf_str(c, "table", NULL);
	const char *field = engine_conf_str(c, "select_field", NULL);
	const char *where = engine_conf_str(c, "where_field", NULL);

	if (function != NULL)
		return mem_printf("SELECT %s('%%s')", function);
	if (table == NULL || field == NULL || where == NULL)
		return NULL;
	return mem_printf("SELECT %s FROM %s WHERE %s = '%%s' %s", field,
	    table, where, engine_conf_str(c, "additional_conditions", ""));
}

static bool
sql_port(struct view text, uint16_t *ret)
{
	int64_t n;

	if (!conf_parse_int(text, 1, 65535, &n))
		return false;
	*ret = (uint16_t)n;
	return true;
}

/* unix:/path, [inet:]host, [inet:]host:port, [inet:][address]:port; what has
 * "://" is left to the library. */
static bool
sql_server_parse(struct sql_server *s, struct view word)
{
	struct view host = word;
	size_t colon;
	char *text;

	s->text = text = mem_printf("%.*s%c%.*s", VIEW_ARGS(word), '\0',
	    VIEW_ARGS(word));
	s->at.name = text;
	text += word.n + 1;
	if (view_starts_nocase(word, "unix:")) {
		s->at.path = text + 5;
		return word.n > 5;
	}
	s->at.host = text;
	if (strstr(text, "://") != NULL)
		return true;
	if (view_starts_nocase(word, "inet:")) {
		host = view_from(host, 5);
		s->at.host = text += 5;
	}
	if (host.n > 0 && host.p[0] == '[') {
		colon = view_find(host, ']');
		if (colon == host.n)
			return false;
		text[colon] = '\0';
		s->at.host = text + 1;
		host = view_from(host, colon + 1);
		return host.n == 0 || (host.p[0] == ':' &&
		    sql_port(view_from(host, 1), &s->at.port));
	}
	colon = view_find(host, ':');
	if (colon == host.n)
		return host.n > 0;
	text[colon] = '\0';
	return colon > 0 && sql_port(view_from(host, colon + 1), &s->at.port);
}

static void
sql_servers_parse(struct sql *s, const struct engine_conf *c)
{
	const char *hosts = s->driver->has_hosts ?
	    engine_conf_str(c, "hosts", "localhost") : "file";
	struct view rest = view_of(hosts), word;

	s->servers = mem_array(SQL_HOSTS_MAX, sizeof(*s->servers));
	while ((word = view_word(&rest, ", \t\r\n")).n > 0) {
		if (s->n_servers == SQL_HOSTS_MAX) {
			engine_conf_wrong(c, "hosts: more than %u servers",
			    SQL_HOSTS_MAX);
			return;
		}
		if (!sql_server_parse(&s->servers[s->n_servers++], word))
			engine_conf_wrong(c, "hosts: \"%.*s\" is no server",
			    VIEW_ARGS(word));
	}
	if (s->n_servers == 0)
		engine_conf_wrong(c, "hosts: no server");
}

/* Is it neither E'...' nor U&'...'? */
static bool
sql_plain_quote(const char *query, const char *quote)
{
	size_t n = (size_t)(quote - query);

	if (n > 0 && quote[-1] == '&')
		return false;
	/* LIKE'...' is no E'...'. */
	return n == 0 || (quote[-1] != 'e' && quote[-1] != 'E') ||
	    (n > 1 && (isalnum((unsigned char)quote[-2]) ||
	    quote[-2] == '_'));
}

/*
 * What a key puts into a query is quoted for a place inside a string, so it
 * must stand there.  SQLite and others take "%s" for a string only as long as
 * there is no column of that name, and in PostgreSQL's E'%s' a backslash has
 * a meaning: from both a key could get out.
 */
static void
sql_check_quotes(const struct sql_driver *driver,
    const struct engine_conf *c, const char *query)
{
	char in = '\0';		/* the quote that a string began with */
	bool safe = false;
	const char *p;

	for (p = query; *p != '\0'; p++) {
		if (in == '\0' && (*p == '\'' || *p == '"')) {
			in = *p;
			safe = driver->double_quotes || (in == '\'' &&
			    sql_plain_quote(query, p));
		} else if (*p == in) {
			in = '\0';
		} else if (*p == '%' && p[1] == '%') {
			p++;
		} else if (*p == '%' && (in == '\0' || !safe)) {
			engine_conf_wrong(c, "query: %%%.1s must stand "
			    "between single quotes: '%%%.1s'", p + 1, p + 1);
			return;
		}
	}
}

bool
sql_open(const struct sql_driver *driver, const struct engine_conf *c,
    const char *query, void **ret, struct buf *err)
{
	struct sql *s = mem_alloc(sizeof(*s));
	int64_t timeout = engine_conf_time(c, "timeout", 's', 10000);

	s->driver = driver;
	s->format = engine_format_new(c, "query", query);
	s->retry_us = engine_conf_time(c, "retry_interval", 's', 60000) * 1000;
	s->idle_us = engine_conf_time(c, "idle_interval", 's', 60000) * 1000;
	if (timeout < 1000) {
		engine_conf_wrong(c, "timeout: less than a second");
		timeout = 1000;
	}
	sql_servers_parse(s, c);
	query = engine_conf_str(c, "query", query);
	if (query != NULL)
		sql_check_quotes(driver, c, query);
	s->own = driver->open(c, timeout);
	if (engine_conf_mistakes(c).n > 0 || s->format == NULL) {
		(void)buf_putv(err, engine_conf_mistakes(c));
		sql_close(s);
		return false;
	}
	*ret = s;
	return true;
}

static void
sql_disconnect(struct sql *s, struct sql_server *server)
{
	if (server->db != NULL)
		s->driver->disconnect(server->db);
	server->db = NULL;
}

void
sql_close(void *h)
{
	struct sql *s = h;
	size_t i;

	for (i = 0; i < s->n_servers; i++) {
		sql_disconnect(s, &s->servers[i]);
		free(s->servers[i].text);
	}
	free(s->servers);
	engine_format_free(&s->format);
	if (s->own != NULL)
		s->driver->free(s->own);
	free(s);
}

bool
sql_field(struct sql_result *to, struct view value)
{
	enum engine_answer a;

	if (value.n > 0 && memchr(value.p, '\0', value.n) != NULL) {
		(void)buf_puts(to->err, "a result with a NUL byte");
		to->answer = ENGINE_WRONG;
		return false;
	}
	a = engine_format_result(to->format, to->key, value, &to->n,
	    to->value, to->err);
	if (a == ENGINE_FOUND)
		return true;
	to->answer = a;
	return false;
}

/* Which to try first, second and so on. */
static void
sql_rank(struct sql *s, struct mono now)
{
	struct sql_server *server;
	uint8_t chance;
	size_t i;

	for (i = 0; i < s->n_servers; i++) {
		server = &s->servers[i];
		if (server->db != NULL &&
		    mono_since(server->used, now) >= s->idle_us)
			sql_disconnect(s, server);
		if (getrandom(&chance, 1, GRND_NONBLOCK) != 1)
			chance = (uint8_t)now.us;
		server->rank = (uint8_t)((server->db == NULL ? 0x80 : 0) |
		    (server->at.path == NULL ? 0x40 : 0) | (chance & 0x3f));
	}
}

/* The best one with a rank of at least *least that may be tried. */
static struct sql_server *
sql_next(struct sql *s, const bool *tried, struct mono now)
{
	struct sql_server *best = NULL;
	size_t i;

	for (i = 0; i < s->n_servers; i++) {
		if (tried[i] || s->servers[i].down_until.us > now.us)
			continue;
		if (best == NULL || s->servers[i].rank < best->rank)
			best = &s->servers[i];
	}
	return best;
}

static void
sql_down(struct sql *s, struct sql_server *server)
{
	int64_t pause = s->n_servers > 1 || s->retry_us < SQL_ONLY_RETRY_US ?
	    s->retry_us : SQL_ONLY_RETRY_US;

	sql_disconnect(s, server);
	server->down_until.us = clock_mono().us + pause;
}

/* Ask one server; SQL_DONE: the answer is in to. */
static enum sql_outcome
sql_ask(struct sql *s, struct sql_server *server, struct sql_result *to)
{
	enum sql_outcome outcome;
	struct buf statement;
	bool wanted = true, fits;

	if (server->db == NULL) {
		server->db = s->driver->connect(s->own, &server->at, to->err);
		if (server->db == NULL)
			return SQL_LOST;
	}
	buf_init(&statement, ENGINE_QUERY_MAX);
	fits = engine_format_query(s->format, to->key, s->driver->quote,
	    server->db, &statement, &wanted);
	if (!fits || !wanted) {
		to->answer = wanted ? ENGINE_TEMPORARY : ENGINE_NOT_FOUND;
		if (!fits)
			(void)buf_puts(to->err, "the key cannot be quoted");
		outcome = SQL_DONE;
	} else {
		outcome = s->driver->run(server->db, buf_cstr(&statement),
		    to, to->err);
		server->used = clock_mono();
	}
	buf_free(&statement);
	return outcome;
}

/* The same, and once more over a new connection if an old one broke: the
 * server may have been started again since, or have ended an idle one. */
static enum sql_outcome
sql_ask_again(struct sql *s, struct sql_server *server, struct sql_result *to)
{
	bool fresh = server->db == NULL;
	size_t noted = to->err->n;
	struct mono start = clock_mono();
	enum sql_outcome outcome = sql_ask(s, server, to);

	/* One that was silent for a second is not asked again. */
	if (outcome != SQL_LOST || fresh || server->db == NULL ||
	    mono_since(start, clock_mono()) > SQL_ONLY_RETRY_US)
		return outcome;
	sql_disconnect(s, server);
	to->err->n = noted;
	buf_clear(to->value);
	to->n = 0;
	to->answer = ENGINE_NONE;
	return sql_ask(s, server, to);
}

/* What is wrong with one server stands behind its name; an answer from
 * another leaves it there, for the log. */
static void
sql_note(const struct sql_server *server, struct buf *err)
{
	if (err->n > 0)
		(void)buf_puts(err, "; ");
	(void)buf_printf(err, "%s: ", server->at.name);
}

static bool
sql_key_wanted(const struct sql *s, struct view key)
{
	return address_utf8(key, NULL) && (key.n == 0 ||
	    memchr(key.p, '\0', key.n) == NULL) &&
	    engine_format_wants(s->format, key);
}

enum engine_answer
sql_query(void *h, struct view key, struct buf *ret_value, struct buf *err)
{
	struct sql *s = h;
	struct sql_server *server;
	struct mono now = clock_mono();
	struct sql_result to;
	enum sql_outcome outcome;
	size_t noted;
	bool tried[SQL_HOSTS_MAX] = { false };

	if (!sql_key_wanted(s, key))
		return ENGINE_NOT_FOUND;
	sql_rank(s, now);
	while ((server = sql_next(s, tried, now)) != NULL) {
		tried[server - s->servers] = true;
		buf_clear(ret_value);
		noted = err->n;
		sql_note(server, err);
		to = (struct sql_result){ .format = s->format, .key = key,
		    .value = ret_value, .err = err };
		outcome = sql_ask_again(s, server, &to);
		if (to.answer != ENGINE_NONE) {
			/* The rest of its answer is not read. */
			if (outcome == SQL_LOST)
				sql_disconnect(s, server);
			return to.answer;
		}
		if (outcome == SQL_DONE) {
			err->n = noted;
			return ret_value->n > 0 ? ENGINE_FOUND :
			    ENGINE_NOT_FOUND;
		}
		if (outcome == SQL_LOST)
			sql_down(s, server);
	}
	if (err->n == 0)
		(void)buf_puts(err, "no server answered lately");
	return ENGINE_TEMPORARY;
}
