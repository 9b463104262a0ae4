/*
 * What the SQL tables have in common: several servers of which one answers,
 * a statement made from a template and the key, and rows that become one
 * result.  An engine brings a driver, which knows one client library.
 *
 * Servers: one that is connected is preferred, then UNIX sockets, then the
 * others, equals in random order.  One that failed is left alone for
 * retry_interval; but if it is the only one, for a second, because it may be
 * a balancer with healthy servers behind it.  A connection that was idle for
 * idle_interval is made anew.  A failure of all of them is temporary.
 *
 * Keys that are not UTF-8, or hold a NUL, are in no table: they are not asked
 * for.  All text to and from a server is UTF-8.
 */
#ifndef PROXY_ENGINE_SQL_H
#define PROXY_ENGINE_SQL_H

#include "proxy/engine_format.h"

#define SQL_HOSTS_MAX	32u

/* One server of "hosts". */
struct sql_host {
	const char *name;	/* as in the parameter */
	const char *host;	/* NULL for a socket */
	const char *path;	/* of a socket; NULL otherwise */
	uint16_t port;		/* 0: the usual one */
};

enum sql_outcome {
	SQL_DONE = 1,
	SQL_REFUSED,		/* the statement; the connection lives */
	SQL_LOST		/* the connection */
};

struct sql_result;

struct sql_driver {
	bool has_hosts;
	/* Double quotes make strings, too, and quote() serves both. */
	bool double_quotes;
	/* Read the parameters that only this driver knows. */
	void *(*open)(const struct engine_conf *c, int64_t timeout_ms);
	void (*free)(void *own);
	/* NULL, with err filled: this server cannot be used now. */
	void *(*connect)(void *own, const struct sql_host *host,
	    struct buf *err);
	/* Append a part of a key as it may stand between single quotes;
	 * arg: the connection. */
	engine_quote *quote;
	/* Run one statement; each field that is not NULL goes through
	 * sql_field(), which says whether to go on. */
	enum sql_outcome (*run)(void *db, const char *statement,
	    struct sql_result *to, struct buf *err);
	void (*disconnect)(void *db);
};

/* The template of old: table, select_field, where_field and
 * additional_conditions, or NULL; free it. */
char *sql_old_query(const struct engine_conf *c);

bool sql_open(const struct sql_driver *driver, const struct engine_conf *c,
    const char *query, void **ret, struct buf *err);
enum engine_answer sql_query(void *h, struct view key, struct buf *ret_value,
    struct buf *err);
void sql_close(void *h);

/* For drivers: one field of a row; false: no more are wanted. */
bool sql_field(struct sql_result *to, struct view value);

#endif
