#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <sasl/sasl.h>

#include "proxy/engine_ldap.h"

/* No message of a server may be larger. */
#define LDAP_MESSAGE_MAX	((ber_len_t)16 << 20)
#define LDAP_RETRY_US		60000000	/* with other servers */
#define LDAP_ONLY_RETRY_US	1000000

struct timeval
ldap_conn_timeout(const struct ldap_conf *conf)
{
	return (struct timeval){ conf->timeout_ms / 1000,
	    conf->timeout_ms % 1000 * 1000 };
}

bool
ldap_conn_broken(int rc)
{
	switch (rc) {
	case LDAP_SERVER_DOWN:
	case LDAP_CONNECT_ERROR:
	case LDAP_TIMEOUT:
	case LDAP_BUSY:
	case LDAP_UNAVAILABLE:
	case LDAP_LOCAL_ERROR:
	case LDAP_DECODING_ERROR:
	case LDAP_ENCODING_ERROR:
	case LDAP_PROTOCOL_ERROR:
	case LDAP_OPERATIONS_ERROR:
	case LDAP_OTHER:
		return true;
	default:
		return false;
	}
}

static void
ldap_conn_error(LDAP *ld, const char *what, int rc, struct buf *err)
{
	char *text = NULL;

	(void)ldap_get_option(ld, LDAP_OPT_DIAGNOSTIC_MESSAGE, &text);
	(void)buf_printf(err, "%s: %s", what, ldap_err2string(rc));
	if (text != NULL && *text != '\0')
		(void)buf_printf(err, " (%.150s)", text);
	ldap_memfree(text);
}

static void
ldap_set_text(LDAP *ld, int option, const char *text)
{
	if (text != NULL)
		(void)ldap_set_option(ld, option, text);
}

/* TLS parameters of a handle, and a context made of them. */
static int
ldap_conn_tls(LDAP *ld, const struct ldap_tls *tls)
{
	int require = tls->verify ? LDAP_OPT_X_TLS_DEMAND :
	    LDAP_OPT_X_TLS_NEVER, client = 0;

	ldap_set_text(ld, LDAP_OPT_X_TLS_CACERTFILE, tls->ca_file);
	ldap_set_text(ld, LDAP_OPT_X_TLS_CACERTDIR, tls->ca_dir);
	ldap_set_text(ld, LDAP_OPT_X_TLS_CERTFILE, tls->cert);
	ldap_set_text(ld, LDAP_OPT_X_TLS_KEYFILE, tls->key);
	ldap_set_text(ld, LDAP_OPT_X_TLS_CIPHER_SUITE, tls->ciphers);
	(void)ldap_set_option(ld, LDAP_OPT_X_TLS_REQUIRE_CERT, &require);
	return ldap_set_option(ld, LDAP_OPT_X_TLS_NEWCTX, &client);
}

/*
 * Keys and certificates are read once, with the rights of the one who starts,
 * and all connections share them.  The first handle makes the library load
 * its SASL mechanisms, too.
 */
int
ldap_conn_tls_load(struct ldap_tls *tls)
{
	LDAP *ld = NULL;
	int rc = ldap_initialize(&ld, NULL);

	if (rc != LDAP_SUCCESS)
		return rc;
	rc = ldap_conn_tls(ld, tls);
	if (rc == LDAP_SUCCESS)
		rc = ldap_get_option(ld, LDAP_OPT_X_TLS_CTX, &tls->context);
	(void)ldap_unbind_ext(ld, NULL, NULL);
	return rc;
}

/* A handle takes a share of the context; one that goes gives it back. */
void
ldap_conn_tls_free(struct ldap_tls *tls)
{
	LDAP *ld = NULL;

	if (tls->context == NULL || ldap_initialize(&ld, NULL) !=
	    LDAP_SUCCESS)
		return;
	(void)ldap_set_option(ld, LDAP_OPT_X_TLS_CTX, tls->context);
	(void)ldap_unbind_ext(ld, NULL, NULL);
}

/* What a SASL mechanism asks for. */
static int
ldap_conn_interact(LDAP *ld, unsigned flags, void *arg, void *list)
{
	const struct ldap_conf *conf = arg;
	sasl_interact_t *ask;
	const char *text;

	(void)ld, (void)flags;
	for (ask = list; ask->id != SASL_CB_LIST_END; ask++) {
		switch (ask->id) {
		case SASL_CB_GETREALM:
			text = conf->sasl_realm;
			break;
		case SASL_CB_AUTHNAME:
			text = conf->dn;
			break;
		case SASL_CB_USER:
			text = conf->sasl_authz;
			break;
		case SASL_CB_PASS:
			text = conf->password;
			break;
		default:
			text = NULL;
		}
		if (text == NULL)
			text = ask->defresult != NULL ? ask->defresult : "";
		ask->result = text;
		ask->len = (unsigned)strlen(text);
	}
	return LDAP_SUCCESS;
}

static int
ldap_conn_bind_simple(LDAP *ld, const struct ldap_conf *conf)
{
	struct berval password = { 0, NULL };
	struct timeval wait = ldap_conn_timeout(conf);
	LDAPMessage *res = NULL;
	int id, rc, result;

	if (conf->password != NULL) {
		password.bv_val = conf->password;
		password.bv_len = strlen(conf->password);
	}
	rc = ldap_sasl_bind(ld, conf->dn != NULL ? conf->dn : "",
	    LDAP_SASL_SIMPLE, &password, NULL, NULL, &id);
	if (rc != LDAP_SUCCESS)
		return rc;
	switch (ldap_result(ld, id, LDAP_MSG_ALL, &wait, &res)) {
	case -1:
		(void)ldap_get_option(ld, LDAP_OPT_RESULT_CODE, &rc);
		return rc != LDAP_SUCCESS ? rc : LDAP_SERVER_DOWN;
	case 0:
		return LDAP_TIMEOUT;
	default:
		break;
	}
	rc = ldap_parse_result(ld, res, &result, NULL, NULL, NULL, NULL, 1);
	return rc != LDAP_SUCCESS ? rc : result;
}

static int
ldap_conn_bind(LDAP *ld, const struct ldap_conf *conf)
{
	union { const struct ldap_conf *in; void *out; } arg = { conf };

	switch (conf->bind) {
	case LDAP_BIND_SASL:
		return ldap_sasl_interactive_bind_s(ld, NULL,
		    conf->sasl_mechs, NULL, NULL, LDAP_SASL_QUIET,
		    ldap_conn_interact, arg.out);
	case LDAP_BIND_SIMPLE:
		return ldap_conn_bind_simple(ld, conf);
	case LDAP_BIND_NONE:
	default:
		/* Version 2 has no life before a bind. */
		return conf->version == 2 ? ldap_conn_bind_simple(ld, conf) :
		    LDAP_SUCCESS;
	}
}

/* Another server that was referred to wants to know who we are, too. */
static int
ldap_conn_rebind(LDAP *ld, LDAP_CONST char *url, ber_tag_t request,
    ber_int_t id, void *arg)
{
	(void)url, (void)request, (void)id;
	return ldap_conn_bind(ld, arg);
}

struct mono
ldap_conn_begin(struct ldap_conn *conn)
{
	conn->until.us = clock_mono().us + conn->conf->timeout_ms * 1000;
	return conn->until;
}

/*
 * The library waits for the rest of a message that has begun to come, and
 * turns round and round in a TLS handshake that does not go on, without a
 * limit in time.  So a layer of ours, between the socket and TLS, waits.
 */
#define LDAP_LEVEL_WAIT	(LBER_SBIOD_LEVEL_PROVIDER + 5)

static bool
ldap_wait(Sockbuf_IO_Desc *layer, short events)
{
	const struct ldap_conn *conn = layer->sbiod_pvt;
	struct pollfd p = { .fd = -1, .events = events };
	int64_t ms = (conn->until.us - clock_mono().us) / 1000;

	(void)ber_sockbuf_ctrl(layer->sbiod_sb, LBER_SB_OPT_GET_FD, &p.fd);
	if (ms > 0 && poll(&p, 1, (int)ms) > 0)
		return true;
	errno = ETIMEDOUT;
	return false;
}

static ber_slen_t
ldap_wait_read(Sockbuf_IO_Desc *layer, void *to, ber_len_t n)
{
	return ldap_wait(layer, POLLIN) ?
	    LBER_SBIOD_READ_NEXT(layer, to, n) : -1;
}

static ber_slen_t
ldap_wait_write(Sockbuf_IO_Desc *layer, void *from, ber_len_t n)
{
	return ldap_wait(layer, POLLOUT) ?
	    LBER_SBIOD_WRITE_NEXT(layer, from, n) : -1;
}

static int
ldap_wait_setup(Sockbuf_IO_Desc *layer, void *arg)
{
	layer->sbiod_pvt = arg;
	return 0;
}

static int
ldap_wait_ctrl(Sockbuf_IO_Desc *layer, int what, void *arg)
{
	return LBER_SBIOD_CTRL_NEXT(layer, what, arg);
}

static int
ldap_wait_nothing(Sockbuf_IO_Desc *layer)
{
	(void)layer;
	return 0;
}

static Sockbuf_IO ldap_wait_layer = {
	.sbi_setup = ldap_wait_setup, .sbi_remove = ldap_wait_nothing,
	.sbi_ctrl = ldap_wait_ctrl, .sbi_read = ldap_wait_read,
	.sbi_write = ldap_wait_write, .sbi_close = ldap_wait_nothing
};

/* A message is limited in size, too. */
static int
ldap_conn_made(LDAP *ld, Sockbuf *sb, LDAPURLDesc *server,
    struct sockaddr *addr, struct ldap_conncb *cb)
{
	const struct ldap_conn *conn = cb->lc_arg;
	struct timeval wait = ldap_conn_timeout(conn->conf);
	ber_len_t max = LDAP_MESSAGE_MAX;
	int fd = -1;

	(void)ld, (void)server, (void)addr;
	(void)ber_sockbuf_ctrl(sb, LBER_SB_OPT_SET_MAX_INCOMING, &max);
	/* More than fits the socket is written at a time. */
	if (ber_sockbuf_ctrl(sb, LBER_SB_OPT_GET_FD, &fd) == 1 && fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait,
		    sizeof(wait));
	return ber_sockbuf_add_io(sb, &ldap_wait_layer, LDAP_LEVEL_WAIT,
	    cb->lc_arg) == 0 ? LDAP_SUCCESS : LDAP_LOCAL_ERROR;
}

static void
ldap_conn_gone(LDAP *ld, Sockbuf *sb, struct ldap_conncb *cb)
{
	(void)ld, (void)sb, (void)cb;
}

static int
ldap_conn_options(LDAP *ld, struct ldap_conn *conn)
{
	const struct ldap_conf *conf = conn->conf;
	struct timeval wait = ldap_conn_timeout(conf);
	int size = (int)conf->size_limit, require = conf->tls.verify ?
	    LDAP_OPT_X_TLS_DEMAND : LDAP_OPT_X_TLS_NEVER;
	union { const struct ldap_conf *in; void *out; } arg = { conf };

	(void)ldap_set_option(ld, LDAP_OPT_PROTOCOL_VERSION, &conf->version);
	(void)ldap_set_option(ld, LDAP_OPT_NETWORK_TIMEOUT, &wait);
	(void)ldap_set_option(ld, LDAP_OPT_TIMEOUT, &wait);
	(void)ldap_set_option(ld, LDAP_OPT_DEREF, &conf->dereference);
	(void)ldap_set_option(ld, LDAP_OPT_SIZELIMIT, &size);
	(void)ldap_set_option(ld, LDAP_OPT_REFERRALS, conf->chase ?
	    LDAP_OPT_ON : LDAP_OPT_OFF);
	if (conf->debug != 0)
		(void)ldap_set_option(NULL, LDAP_OPT_DEBUG_LEVEL,
		    &conf->debug);
	if (conf->bind == LDAP_BIND_SASL)
		ldap_set_text(ld, LDAP_OPT_X_SASL_SECPROPS,
		    conf->sasl_secprops);
	conn->made.lc_add = ldap_conn_made;
	conn->made.lc_del = ldap_conn_gone;
	conn->made.lc_arg = conn;
	(void)ldap_set_option(ld, LDAP_OPT_CONNECT_CB, &conn->made);
	if (conf->chase)
		(void)ldap_set_rebind_proc(ld, ldap_conn_rebind, arg.out);
	(void)ldap_set_option(ld, LDAP_OPT_X_TLS_REQUIRE_CERT, &require);
	return ldap_set_option(ld, LDAP_OPT_X_TLS_CTX, conf->tls.context);
}

static bool
ldap_conn_try(struct ldap_conn *conn, size_t server, struct buf *err)
{
	const struct ldap_conf *conf = conn->conf;
	const char *what = "connect";
	LDAP *ld = NULL;
	int rc;

	(void)buf_printf(err, "%s%s: ", err->n > 0 ? "; " : "",
	    conf->servers[server]);
	rc = ldap_initialize(&ld, conf->servers[server]);
	if (rc != LDAP_SUCCESS) {
		(void)buf_puts(err, ldap_err2string(rc));
		return false;
	}
	(void)ldap_conn_begin(conn);
	rc = ldap_conn_options(ld, conn);
	if (rc != LDAP_SUCCESS) {
		what = "TLS";
	} else if (conf->tls.start) {
		what = "start_tls";
		rc = ldap_start_tls_s(ld, NULL, NULL);
	}
	if (rc == LDAP_SUCCESS) {
		what = "bind";
		rc = ldap_conn_bind(ld, conf);
	}
	if (rc != LDAP_SUCCESS) {
		ldap_conn_error(ld, what, rc, err);
		(void)ldap_unbind_ext(ld, NULL, NULL);
		return false;
	}
	conn->ld = ld;
	conn->server = server;
	return true;
}

static void
ldap_conn_mark(struct ldap_conn *conn, size_t server)
{
	conn->down_until[server].us = clock_mono().us +
	    (conn->conf->n_servers > 1 ? LDAP_RETRY_US : LDAP_ONLY_RETRY_US);
}

bool
ldap_conn_open(struct ldap_conn *conn, struct buf *err)
{
	struct mono now = clock_mono();
	size_t i, noted;

	if (conn->ld != NULL)
		return true;
	for (i = 0; i < conn->conf->n_servers; i++) {
		if (conn->down_until[i].us > now.us)
			continue;
		noted = err->n;
		if (ldap_conn_try(conn, i, err)) {
			err->n = noted;
			return true;
		}
		ldap_conn_mark(conn, i);
	}
	if (err->n == 0)
		(void)buf_puts(err, "no server answered lately");
	return false;
}

void
ldap_conn_close(struct ldap_conn *conn)
{
	if (conn->ld != NULL)
		(void)ldap_unbind_ext(conn->ld, NULL, NULL);
	conn->ld = NULL;
}

void
ldap_conn_down(struct ldap_conn *conn)
{
	ldap_conn_close(conn);
	ldap_conn_mark(conn, conn->server);
}
