/*
 * mysql: tables, with MariaDB's client library, for servers of both kinds.
 */
#include <stdlib.h>

#include <mysql.h>

#include "lib/mem.h"
#include "proxy/engine_sql.h"

/* mysql/client_plugin.h has the number, but cannot be included alone. */
#define MYSQL_PLUGIN_AUTH	2

struct mysql_own {
	char *user, *password, *dbname, *charset;	/* NULL: not set */
	char *option_file, *option_group;
	char *cert, *key, *ca_file, *ca_path, *ciphers;
	bool verify;
	bool rows_required;
	unsigned timeout;		/* seconds */
};

struct mysql_db {
	MYSQL *conn;
	bool rows_required;
};

/*
 * How a server checks a password is often a plugin of the library, a shared
 * object, and after the jail none can be loaded.  Those that keep the password
 * from the server's eyes are loaded here; one that is not installed is not
 * missed before a server asks for it.
 */
static void
mysql_load_plugins(void)
{
	static const char *const names[] = { "caching_sha2_password",
	    "sha256_password", "client_ed25519" };
	MYSQL *conn = mysql_init(NULL);
	size_t i;

	if (conn == NULL)
		return;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void)mysql_load_plugin(conn, names[i],
		    MYSQL_PLUGIN_AUTH, 0);
	mysql_close(conn);
}

static void *
mysql_open(const struct engine_conf *c, int64_t timeout_ms)
{
	struct mysql_own *own = mem_alloc(sizeof(*own));

	(void)mysql_library_init(0, NULL, NULL);
	own->user = engine_conf_copy(c, "user", NULL);
	own->password = engine_conf_copy(c, "password", NULL);
	own->dbname = engine_conf_copy(c, "dbname", NULL);
	own->charset = engine_conf_copy(c, "charset", "utf8mb4");
	own->option_file = engine_conf_copy(c, "option_file", NULL);
	own->option_group = engine_conf_copy(c, "option_group", "client");
	own->cert = engine_conf_copy(c, "tls_cert_file", NULL);
	own->key = engine_conf_copy(c, "tls_key_file", NULL);
	own->ca_file = engine_conf_copy(c, "tls_CAfile", NULL);
	own->ca_path = engine_conf_copy(c, "tls_CApath", NULL);
	own->ciphers = engine_conf_copy(c, "tls_ciphers", NULL);
	own->verify = engine_conf_bool(c, "tls_verify_cert", false);
	own->rows_required = engine_conf_bool(c, "require_result_set", true);
	own->timeout = (unsigned)((timeout_ms + 999) / 1000);
	if (own->verify && own->ca_file == NULL && own->ca_path == NULL)
		engine_conf_wrong(c, "tls_verify_cert: needs tls_CAfile or "
		    "tls_CApath");
	mysql_load_plugins();
	return own;
}

static void
mysql_own_free(void *h)
{
	struct mysql_own *own = h;

	free(own->user);
	if (own->password != NULL)
		explicit_bzero(own->password, strlen(own->password));
	free(own->password);
	free(own->dbname);
	free(own->charset);
	free(own->option_file);
	free(own->option_group);
	free(own->cert);
	free(own->key);
	free(own->ca_file);
	free(own->ca_path);
	free(own->ciphers);
	free(own);
}

static void
mysql_set_options(MYSQL *conn, const struct mysql_own *own)
{
	unsigned no = 0;
	my_bool yes = 1;

	(void)mysql_optionsv(conn, MYSQL_OPT_CONNECT_TIMEOUT, &own->timeout);
	(void)mysql_optionsv(conn, MYSQL_OPT_READ_TIMEOUT, &own->timeout);
	(void)mysql_optionsv(conn, MYSQL_OPT_WRITE_TIMEOUT, &own->timeout);
	if (own->option_file != NULL)
		(void)mysql_optionsv(conn, MYSQL_READ_DEFAULT_FILE,
		    own->option_file);
	/* Without a file the group would mean those of the system. */
	if (own->option_file != NULL && own->option_group != NULL)
		(void)mysql_optionsv(conn, MYSQL_READ_DEFAULT_GROUP,
		    own->option_group);
	if (own->charset != NULL)
		(void)mysql_optionsv(conn, MYSQL_SET_CHARSET_NAME,
		    own->charset);
	/* A server may not ask for files, nor for the password itself. */
	(void)mysql_optionsv(conn, MYSQL_OPT_LOCAL_INFILE, &no);
	(void)mysql_optionsv(conn, MARIADB_OPT_RESTRICTED_AUTH,
	    "mysql_native_password,caching_sha2_password,sha256_password,"
	    "client_ed25519,unix_socket,auth_socket");
	if (own->cert != NULL || own->key != NULL || own->ca_file != NULL ||
	    own->ca_path != NULL || own->ciphers != NULL)
		(void)mysql_ssl_set(conn, own->key, own->cert, own->ca_file,
		    own->ca_path, own->ciphers);
	if (own->verify)
		(void)mysql_optionsv(conn, MYSQL_OPT_SSL_VERIFY_SERVER_CERT,
		    &yes);
}

static void *
mysql_connect_to(void *h, const struct sql_host *host, struct buf *err)
{
	const struct mysql_own *own = h;
	MYSQL *conn = mysql_init(NULL);
	struct mysql_db *db;

	if (conn == NULL) {
		(void)buf_puts(err, "connect: no memory");
		return NULL;
	}
	mysql_set_options(conn, own);
	if (mysql_real_connect(conn, host->host, own->user, own->password,
	    own->dbname, host->port, host->path, CLIENT_MULTI_RESULTS) ==
	    NULL) {
		(void)buf_printf(err, "connect: %.200s", mysql_error(conn));
		mysql_close(conn);
		return NULL;
	}
	db = mem_alloc(sizeof(*db));
	db->conn = conn;
	db->rows_required = own->rows_required;
	return db;
}

static void
mysql_disconnect(void *h)
{
	struct mysql_db *db = h;

	mysql_close(db->conn);
	free(db);
}

static bool
mysql_quote(struct view text, struct buf *out, void *h)
{
	struct mysql_db *db = h;
	char *to = buf_room(out, 2 * text.n + 1);

	/* In this mode of a server the library quotes for single quotes
	 * only; which ones the query has is not known here. */
	if (to == NULL || ((db->conn->server_status &
	    SERVER_STATUS_NO_BACKSLASH_ESCAPES) != 0 &&
	    view_find(text, '"') < text.n))
		return false;
	out->n += mysql_real_escape_string(db->conn, to, text.p, text.n);
	return true;
}

static enum sql_outcome
mysql_failed(MYSQL *conn, struct buf *err)
{
	unsigned no = mysql_errno(conn);

	(void)buf_printf(err, "query: %.200s", mysql_error(conn));
	/* 2000 to 2999 are the library's: connection and protocol; 1053,
	 * 1927, 1317: the server ends it. */
	return (no >= 2000 && no < 3000) || no == 1053 || no == 1927 ?
	    SQL_LOST : SQL_REFUSED;
}

/* The rows, one by one: a table without end takes no memory. */
static enum sql_outcome
mysql_rows(MYSQL *conn, MYSQL_RES *res, struct sql_result *to,
    struct buf *err)
{
	unsigned i, n = mysql_num_fields(res);
	unsigned long *lengths;
	MYSQL_ROW row;

	while ((row = mysql_fetch_row(res)) != NULL) {
		lengths = mysql_fetch_lengths(res);
		for (i = 0; i < n; i++)
			if (row[i] != NULL && !sql_field(to,
			    view_make(row[i], lengths[i])))
				return SQL_LOST;
	}
	return mysql_errno(conn) != 0 ? mysql_failed(conn, err) : SQL_DONE;
}

/*
 * A procedure may return rows, and then says how it ended, without any.  More
 * than one set of rows is a mistake: which would be meant?
 */
static enum sql_outcome
mysql_results(struct mysql_db *db, struct sql_result *to, struct buf *err)
{
	enum sql_outcome outcome;
	unsigned sets = 0;
	MYSQL_RES *res;
	int more;

	do {
		res = mysql_use_result(db->conn);
		if (res == NULL && mysql_errno(db->conn) != 0)
			return mysql_failed(db->conn, err);
		if (res != NULL && sets++ > 0) {
			/* The connection goes first: else the rest of the
			 * rows would be read. */
			mysql_free_result(res);
			(void)buf_puts(err, "query: more than one set of "
			    "rows");
			return SQL_LOST;
		}
		if (res != NULL) {
			outcome = mysql_rows(db->conn, res, to, err);
			if (outcome != SQL_DONE)
				(void)mariadb_cancel(db->conn);
			mysql_free_result(res);
			if (outcome != SQL_DONE)
				return SQL_LOST;
		}
		more = mysql_next_result(db->conn);
	} while (more == 0);
	if (more > 0)
		return mysql_failed(db->conn, err);
	if (sets == 0 && db->rows_required) {
		(void)buf_puts(err, "query: no set of rows came "
		    "(require_result_set)");
		return SQL_REFUSED;
	}
	return SQL_DONE;
}

static enum sql_outcome
mysql_run(void *h, const char *statement, struct sql_result *to,
    struct buf *err)
{
	struct mysql_db *db = h;

	if (mysql_real_query(db->conn, statement, strlen(statement)) != 0)
		return mysql_failed(db->conn, err);
	return mysql_results(db, to, err);
}

static const struct sql_driver driver = {
	.has_hosts = true, .double_quotes = true,
	.open = mysql_open, .free = mysql_own_free,
	.connect = mysql_connect_to, .quote = mysql_quote, .run = mysql_run,
	.disconnect = mysql_disconnect,
};

static bool
mysql_table_open(const struct engine_conf *c, void **ret, struct buf *err)
{
	char *query = sql_old_query(c);
	bool ok = sql_open(&driver, c, query, ret, err);

	free(query);
	return ok;
}

const struct lookup_engine engine = {
	.type = "mysql", .open = mysql_table_open, .query = sql_query,
	.close = sql_close,
	/* Names of servers, sockets, certificates, option_file. */
	.sees_files = true,
};
