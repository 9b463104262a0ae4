/*
 * sqlite: tables.  The file is opened to read, and every statement but a
 * SELECT is refused by an authorizer, so that not even a query of its owner
 * changes the database or opens another one.
 */
#include <stdlib.h>

#include <sqlite3.h>

#include "lib/clock.h"
#include "lib/mem.h"
#include "proxy/engine_sql.h"

struct sqlite {
	char *path;
	int64_t timeout_ms;
};

struct sqlite_db {
	sqlite3 *db;
	int64_t timeout_ms;
	struct mono until;	/* of the statement that runs */
};

static void *
sqlite_open(const struct engine_conf *c, int64_t timeout_ms)
{
	struct sqlite *own = mem_alloc(sizeof(*own));
	const char *path = engine_conf_str(c, "dbpath", NULL);

	if (path == NULL || path[0] != '/')
		engine_conf_wrong(c, "dbpath: must be the whole path of the "
		    "database");
	own->path = mem_strdup(path != NULL ? path : "");
	own->timeout_ms = timeout_ms;
	return own;
}

static void
sqlite_free(void *h)
{
	struct sqlite *own = h;

	free(own->path);
	free(own);
}

static int
sqlite_authorize(void *arg, int action, const char *a, const char *b,
    const char *database, const char *trigger)
{
	(void)arg, (void)a, (void)database, (void)trigger;
	switch (action) {
	case SQLITE_SELECT:
	case SQLITE_READ:
	case SQLITE_RECURSIVE:
		return SQLITE_OK;
	case SQLITE_FUNCTION:
		return sqlite3_stricmp(b, "load_extension") == 0 ?
		    SQLITE_DENY : SQLITE_OK;
	default:
		return SQLITE_DENY;
	}
}

static int
sqlite_progress(void *arg)
{
	const struct sqlite_db *db = arg;

	return clock_mono().us > db->until.us;
}

static void
sqlite_disconnect(void *h)
{
	struct sqlite_db *db = h;

	(void)sqlite3_close_v2(db->db);
	free(db);
}

static void *
sqlite_connect(void *h, const struct sql_host *host, struct buf *err)
{
	const struct sqlite *own = h;
	struct sqlite_db *db = mem_alloc(sizeof(*db));

	(void)host;
	db->timeout_ms = own->timeout_ms;
	if (sqlite3_open_v2(own->path, &db->db, SQLITE_OPEN_READONLY |
	    SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
		(void)buf_printf(err, "open %s: %.200s", own->path,
		    db->db != NULL ? sqlite3_errmsg(db->db) : "no memory");
		sqlite_disconnect(db);
		return NULL;
	}
	(void)sqlite3_busy_timeout(db->db, (int)db->timeout_ms);
	(void)sqlite3_limit(db->db, SQLITE_LIMIT_LENGTH, 1 << 20);
	(void)sqlite3_db_config(db->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	(void)sqlite3_db_config(db->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0,
	    NULL);
	(void)sqlite3_set_authorizer(db->db, sqlite_authorize, NULL);
	sqlite3_progress_handler(db->db, 10000, sqlite_progress, db);
	return db;
}

/* The key has no NUL; the quote is the only byte that ends a string. */
static bool
sqlite_quote(struct view text, struct buf *out, void *db)
{
	size_t i;

	(void)db;
	for (i = 0; i < text.n; i++) {
		if (text.p[i] == '\'' && !buf_putc(out, '\''))
			return false;
		if (!buf_putc(out, text.p[i]))
			return false;
	}
	return true;
}

static enum sql_outcome
sqlite_failed(const struct sqlite_db *db, int rc, struct buf *err)
{
	(void)buf_printf(err, "%.200s", rc == SQLITE_INTERRUPT ?
	    "the query took too long" : sqlite3_errmsg(db->db));
	/* Other errors are of the statement, or pass (busy). */
	return rc == SQLITE_IOERR || rc == SQLITE_CORRUPT ||
	    rc == SQLITE_NOTADB || rc == SQLITE_CANTOPEN ? SQL_LOST :
	    SQL_REFUSED;
}

/* One row; false: no more are wanted. */
static bool
sqlite_row(sqlite3_stmt *st, struct sql_result *to)
{
	int i, n = sqlite3_column_count(st);
	const void *p;

	for (i = 0; i < n; i++) {
		p = sqlite3_column_text(st, i);
		if (p != NULL && !sql_field(to, view_make(p,
		    (size_t)sqlite3_column_bytes(st, i))))
			return false;
	}
	return true;
}

static enum sql_outcome
sqlite_run(void *h, const char *statement, struct sql_result *to,
    struct buf *err)
{
	struct sqlite_db *db = h;
	enum sql_outcome outcome = SQL_DONE;
	sqlite3_stmt *st = NULL;
	const char *tail = "";
	int rc, moved = 0;

	/* Another file was put in its place: open that. */
	if (sqlite3_file_control(db->db, NULL, SQLITE_FCNTL_HAS_MOVED,
	    &moved) == SQLITE_OK && moved) {
		(void)buf_puts(err, "the database was replaced");
		return SQL_LOST;
	}
	db->until.us = clock_mono().us + db->timeout_ms * 1000;
	rc = sqlite3_prepare_v2(db->db, statement, -1, &st, &tail);
	if (rc == SQLITE_OK && (st == NULL ||
	    view_trim(view_of(tail)).n > 0)) {
		(void)buf_puts(err, "query: must be one statement");
		outcome = SQL_REFUSED;
	} else if (rc == SQLITE_OK) {
		while ((rc = sqlite3_step(st)) == SQLITE_ROW)
			if (!sqlite_row(st, to))
				break;
	}
	if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW)
		outcome = sqlite_failed(db, rc, err);
	(void)sqlite3_finalize(st);
	return outcome;
}

static const struct sql_driver driver = {
	.open = sqlite_open, .free = sqlite_free,
	.connect = sqlite_connect, .quote = sqlite_quote, .run = sqlite_run,
	.disconnect = sqlite_disconnect,
};

static bool
sqlite_table_open(const struct engine_conf *c, void **ret, struct buf *err)
{
	char *query = sql_old_query(c);
	bool ok = sql_open(&driver, c, query, ret, err);

	free(query);
	return ok;
}

const struct lookup_engine engine = {
	.type = "sqlite", .open = sqlite_table_open, .query = sql_query,
	.close = sql_close,
	/* Journals, and a database that was put in place of the old one. */
	.sees_files = true,
};
