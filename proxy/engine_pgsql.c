/*
 * pgsql: tables.  libpq is used without blocking calls, because those have no
 * limit in time.
 */
#include <poll.h>
#include <stdlib.h>

#include <libpq-fe.h>

#include "lib/clock.h"
#include "lib/mem.h"
#include "proxy/engine_sql.h"

struct pgsql {
	char *user, *password, *dbname, *encoding;	/* NULL: not set */
	int64_t timeout_ms;
};

struct pgsql_db {
	PGconn *conn;
	int64_t timeout_ms;
};

static void *
pgsql_open(const struct engine_conf *c, int64_t timeout_ms)
{
	struct pgsql *own = mem_alloc(sizeof(*own));

	own->user = engine_conf_copy(c, "user", NULL);
	own->password = engine_conf_copy(c, "password", NULL);
	own->dbname = engine_conf_copy(c, "dbname", NULL);
	own->encoding = engine_conf_copy(c, "encoding", "UTF8");
	own->timeout_ms = timeout_ms;
	return own;
}

static void
pgsql_free(void *h)
{
	struct pgsql *own = h;

	free(own->user);
	if (own->password != NULL)
		explicit_bzero(own->password, strlen(own->password));
	free(own->password);
	free(own->dbname);
	free(own->encoding);
	free(own);
}

/* Wait for the socket; false: until has passed. */
static bool
pgsql_wait(PGconn *conn, short events, struct mono until)
{
	struct pollfd p = { .fd = PQsocket(conn), .events = events };
	int64_t ms = (until.us - clock_mono().us) / 1000;

	return p.fd >= 0 && ms > 0 && poll(&p, 1, (int)ms) != 0;
}

static void
pgsql_error(PGconn *conn, const char *what, struct buf *err)
{
	struct view text = view_trim(view_of(PQerrorMessage(conn)));

	text = view_head(text, view_find(text, '\n'));
	(void)buf_printf(err, "%s: %.*s", what, VIEW_ARGS(view_head(text,
	    200)));
}

/* Does a URI say which database? */
static bool
pgsql_uri_dbname(const char *uri)
{
	PQconninfoOption *list = PQconninfoParse(uri, NULL), *o;
	bool found = false;

	for (o = list; o != NULL && o->keyword != NULL; o++)
		if (strcmp(o->keyword, "dbname") == 0 && o->val != NULL)
			found = true;
	PQconninfoFree(list);
	return found;
}

static PGconn *
pgsql_start(const struct pgsql *own, const struct sql_host *host)
{
	const char *names[10], *values[10];
	char port[8] = "", *path = NULL, *slash;
	PGconn *conn;
	size_t n = 0;

	if (host->path != NULL) {
		path = mem_strdup(host->path);
		/* The socket itself may be named, too. */
		slash = strstr(path, "/.s.PGSQL.");
		if (slash != NULL) {
			(void)snprintf(port, sizeof(port), "%s", slash + 10);
			*slash = '\0';
		}
	}
	if (host->port != 0)
		(void)snprintf(port, sizeof(port), "%u", host->port);
#define PGSQL_SET(name, value) \
	(names[n] = (name), values[n] = (value), n++)
	/* What stands in a URI wins, it comes later. */
	PGSQL_SET("user", own->user);
	PGSQL_SET("password", own->password);
	PGSQL_SET("client_encoding", own->encoding);
	if (host->path == NULL && strstr(host->host, "://") != NULL) {
		PGSQL_SET("dbname", host->host);
		if (!pgsql_uri_dbname(host->host))
			PGSQL_SET("dbname", own->dbname);
	} else {
		PGSQL_SET("host", path != NULL ? path : host->host);
		PGSQL_SET("port", port[0] != '\0' ? port : NULL);
		PGSQL_SET("dbname", own->dbname);
	}
	PGSQL_SET("application_name", "postern");
	/* Kerberos would load its plugins, which the jail does not allow. */
	PGSQL_SET("gssencmode", "disable");
	names[n] = values[n] = NULL;
	conn = PQconnectStartParams(names, values, 1);
	free(path);
	return conn;
}

static void *
pgsql_connect(void *h, const struct sql_host *host, struct buf *err)
{
	const struct pgsql *own = h;
	struct mono until = { clock_mono().us + own->timeout_ms * 1000 };
	PostgresPollingStatusType state = PGRES_POLLING_WRITING;
	PGconn *conn = pgsql_start(own, host);
	struct pgsql_db *db;

	while (conn != NULL && PQstatus(conn) != CONNECTION_BAD &&
	    state != PGRES_POLLING_OK && state != PGRES_POLLING_FAILED) {
		if (!pgsql_wait(conn, state == PGRES_POLLING_READING ?
		    POLLIN : POLLOUT, until)) {
			(void)buf_puts(err, "connect: timed out");
			PQfinish(conn);
			return NULL;
		}
		state = PQconnectPoll(conn);
	}
	if (conn == NULL || PQstatus(conn) != CONNECTION_OK ||
	    PQsetnonblocking(conn, 1) != 0) {
		pgsql_error(conn, "connect", err);
		PQfinish(conn);
		return NULL;
	}
	db = mem_alloc(sizeof(*db));
	db->conn = conn;
	db->timeout_ms = own->timeout_ms;
	return db;
}

static void
pgsql_disconnect(void *h)
{
	struct pgsql_db *db = h;

	PQfinish(db->conn);
	free(db);
}

static bool
pgsql_quote(struct view text, struct buf *out, void *h)
{
	struct pgsql_db *db = h;
	char *to = buf_room(out, 2 * text.n + 1);
	int wrong = 0;

	if (to == NULL)
		return false;
	out->n += PQescapeStringConn(db->conn, to, text.p, text.n, &wrong);
	return wrong == 0;
}

/* The next result of a statement; *ret NULL: there is no more. */
static bool
pgsql_result(struct pgsql_db *db, struct mono until, PGresult **ret,
    struct buf *err)
{
	while (PQflush(db->conn) == 1 || PQisBusy(db->conn) == 1) {
		if (!pgsql_wait(db->conn, PQflush(db->conn) == 1 ?
		    POLLIN | POLLOUT : POLLIN, until)) {
			(void)buf_puts(err, "query: timed out");
			return false;
		}
		if (PQconsumeInput(db->conn) != 1) {
			pgsql_error(db->conn, "query", err);
			return false;
		}
	}
	*ret = PQgetResult(db->conn);
	return true;
}

/* The rows of one result; false: no more are wanted. */
static bool
pgsql_rows(const PGresult *r, struct sql_result *to)
{
	int row, col;

	for (row = 0; row < PQntuples(r); row++) {
		for (col = 0; col < PQnfields(r); col++) {
			if (!PQgetisnull(r, row, col) && !sql_field(to,
			    view_make(PQgetvalue(r, row, col),
			    (size_t)PQgetlength(r, row, col))))
				return false;
		}
	}
	return true;
}

static enum sql_outcome
pgsql_take(struct pgsql_db *db, PGresult *r, struct sql_result *to,
    struct buf *err)
{
	ExecStatusType status = PQresultStatus(r);

	if (status == PGRES_SINGLE_TUPLE || status == PGRES_TUPLES_OK)
		return pgsql_rows(r, to) ? SQL_DONE : SQL_LOST;
	if (status == PGRES_FATAL_ERROR) {
		pgsql_error(db->conn, "query", err);
		return PQstatus(db->conn) == CONNECTION_OK ? SQL_REFUSED :
		    SQL_LOST;
	}
	(void)buf_puts(err, "query: the statement has no rows to return");
	return status == PGRES_COMMAND_OK || status == PGRES_EMPTY_QUERY ?
	    SQL_REFUSED : SQL_LOST;
}

/*
 * Parameters are not used, but the form of a call that could have some: the
 * server refuses a second statement in it, whatever a key might do.  Rows
 * come one by one, so that a table without end takes no memory.
 */
static enum sql_outcome
pgsql_run(void *h, const char *statement, struct sql_result *to,
    struct buf *err)
{
	struct pgsql_db *db = h;
	struct mono until = { clock_mono().us + db->timeout_ms * 1000 };
	enum sql_outcome outcome = SQL_DONE, taken;
	PGresult *r;

	if (PQsendQueryParams(db->conn, statement, 0, NULL, NULL, NULL, NULL,
	    0) != 1 || PQsetSingleRowMode(db->conn) != 1) {
		pgsql_error(db->conn, "query", err);
		return SQL_LOST;
	}
	for (;;) {
		if (!pgsql_result(db, until, &r, err))
			return SQL_LOST;
		if (r == NULL)
			return outcome;
		taken = pgsql_take(db, r, to, err);
		PQclear(r);
		if (taken == SQL_LOST)
			return SQL_LOST;
		if (taken == SQL_REFUSED)
			outcome = SQL_REFUSED;
	}
}

static const struct sql_driver driver = {
	.has_hosts = true, .open = pgsql_open, .free = pgsql_free,
	.connect = pgsql_connect, .quote = pgsql_quote, .run = pgsql_run,
	.disconnect = pgsql_disconnect,
};

static bool
pgsql_table_open(const struct engine_conf *c, void **ret, struct buf *err)
{
	char *query = sql_old_query(c);
	bool ok = sql_open(&driver, c, query, ret, err);

	free(query);
	return ok;
}

const struct lookup_engine engine = {
	.type = "pgsql", .open = pgsql_table_open, .query = sql_query,
	.close = sql_close,
	/* Names of servers, sockets, certificates. */
	.sees_files = true,
};
