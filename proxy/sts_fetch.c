#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/http.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/tls_library.h"
#include "proxy/sts_fetch.h"
#include "rules/sts_policy.h"

#define PATH		"/.well-known/mta-sts.txt"
#define HEADERS_MAX	16384
#define ATTEMPT_MS	10000	/* for an address when there are others */
#define WHY_MAX		300u

struct sts_fetch {
	char *host;
	struct netaddr addr[STS_FETCH_ADDRESSES];
	size_t n, next;
	struct evhttp_connection *conn;
	SSL *ssl;		/* of conn; to ask what was wrong */
	bool shaken;		/* hands: TLS is there */
	struct event timer;
	struct loop_work end;
	char *path, *type;	/* NULL: a policy is fetched */
	struct buf body;
	enum sts_fetched what;
	struct buf text, why;
	sts_fetch_done *done;
	void *arg;
};

static SSL_CTX *context;
static uint16_t port;
static bool anywhere;

void
sts_fetch_load(const struct conf *cf)
{
	const char *file = cf->smtp_tls_sts_CAfile;

	tls_library_load(cf);
	context = SSL_CTX_new(TLS_client_method());
	if (context == NULL ||
	    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1)
		fatal("TLS cannot be used");
	if (SSL_CTX_load_verify_file(context, file) != 1)
		fatal("smtp_tls_sts_CAfile: %s: %s", file,
		    ERR_reason_error_string(ERR_peek_last_error()));
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	port = (uint16_t)cf->smtp_tls_sts_port;
	anywhere = cf->smtp_tls_sts_private_networks;
	/* libevent's own words on what a server does */
	event_set_log_callback(NULL);
}

/*
 * The name of a host comes from mail, and its address from whoever owns that
 * name: he must not choose what inside is connected to.
 */
bool
sts_fetch_may(const struct netaddr *addr)
{
	static const char *const inside[] = {
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8",
		"169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3",
		"::/96", "64:ff9b:1::/48", "fc00::/7", "fe80::/10",
		"fec0::/10", "ff00::/8",
	};
	struct netaddr block;
	unsigned bits;
	size_t i;

	for (i = 0; !anywhere && i < sizeof inside / sizeof inside[0]; i++) {
		ensure(netaddr_parse_block(view_of(inside[i]), &block, &bits));
		if (netaddr_in_block(addr, &block, bits))
			return false;
	}
	return addr->family != 0;
}

bool
sts_fetch_plain(const char *content_type)
{
	struct view v = view_of(content_type);

	return view_is_nocase(view_trim(view_head(v, view_find(v, ';'))),
	    "text/plain");
}

static void
fetch_disconnect(struct sts_fetch *f)
{
	event_del(&f->timer);
	if (f->ssl != NULL)
		SSL_set_app_data(f->ssl, NULL);
	if (f->conn != NULL)
		evhttp_connection_free(f->conn);
	f->conn = NULL;
	SSL_free(f->ssl);
	f->ssl = NULL;
	ERR_clear_error();
}

static void
fetch_free(struct sts_fetch *f)
{
	fetch_disconnect(f);
	loop_forget(&f->end);
	buf_free(&f->text);
	buf_free(&f->why);
	buf_free(&f->body);
	free(f->path);
	free(f->type);
	free(f->host);
	free(f);
}

/* -- one attempt ----------------------------------------------------------- */

/* The connection cannot be freed in its own callback. */
static void
fetch_ends(struct sts_fetch *f, enum sts_fetched what)
{
	f->what = what;
	loop_soon(&f->end);
}

static const char *
fetch_address(const struct sts_fetch *f, char text[NETADDR_TEXT])
{
	return netaddr_text(&f->addr[f->next - 1], text);
}

/* No response at all. */
static void
fetch_nothing(struct sts_fetch *f)
{
	char text[NETADDR_TEXT];
	long rc = SSL_get_verify_result(f->ssl);

	buf_clear(&f->why);
	if (rc != X509_V_OK) {
		(void)buf_printf(&f->why, "%s[%s]: certificate: %s", f->host,
		    fetch_address(f, text), X509_verify_cert_error_string(rc));
		fetch_ends(f, FETCHED_CERTIFICATE);
		return;
	}
	(void)buf_printf(&f->why, "%s[%s]: %s", f->host,
	    fetch_address(f, text), f->shaken ? "no proper response" :
	    "no TLS connection");
	fetch_ends(f, FETCHED_NOTHING);
}

__attribute__((format(printf, 2, 3)))
static void
fetch_refuse(struct sts_fetch *f, const char *fmt, ...)
{
	char text[NETADDR_TEXT];
	va_list ap;

	buf_clear(&f->why);
	(void)buf_printf(&f->why, "%s[%s]: ", f->host,
	    fetch_address(f, text));
	va_start(ap, fmt);
	(void)buf_vprintf(&f->why, fmt, ap);
	va_end(ap);
	fetch_ends(f, FETCHED_NOTHING);
}

static void
fetch_on_response(struct evhttp_request *req, void *arg)
{
	struct sts_fetch *f = arg;
	struct evkeyvalq *headers;
	struct evbuffer *body;
	const char *type, *encoding;
	size_t n;
	char *to;

	if (f->end.queued)
		return;		/* the error was told already */
	if (req == NULL || evhttp_request_get_response_code(req) == 0) {
		fetch_nothing(f);
		return;
	}
	if (f->path != NULL &&
	    evhttp_request_get_response_code(req) / 100 == 2) {
		fetch_ends(f, FETCHED_TEXT);
		return;
	}
	if (evhttp_request_get_response_code(req) != 200) {
		fetch_refuse(f, "HTTP status %d",
		    evhttp_request_get_response_code(req));
		return;
	}
	headers = evhttp_request_get_input_headers(req);
	type = evhttp_find_header(headers, "Content-Type");
	encoding = evhttp_find_header(headers, "Content-Encoding");
	if (type == NULL || !sts_fetch_plain(type)) {
		fetch_refuse(f, "not text/plain but %.60s",
		    type != NULL ? log_safe(view_of(type)) : "nothing");
		return;
	}
	if (encoding != NULL &&
	    !view_is_nocase(view_of(encoding), "identity")) {
		fetch_refuse(f, "it is encoded, which was not asked for");
		return;
	}
	body = evhttp_request_get_input_buffer(req);
	n = evbuffer_get_length(body);
	to = n > 0 ? buf_room(&f->text, n) : NULL;
	if (n > 0 && to == NULL) {
		fetch_refuse(f, "over %u bytes", STS_TEXT_MAX);
		return;
	}
	if (n > 0 && evbuffer_remove(body, to, n) != (int)n)
		panic("a response is shorter than it is");
	f->text.n = n;
	fetch_ends(f, FETCHED_TEXT);
}

static void
fetch_on_error(enum evhttp_request_error error, void *arg)
{
	struct sts_fetch *f = arg;

	switch (error) {
	case EVREQ_HTTP_DATA_TOO_LONG:
		fetch_refuse(f, "over %u bytes", STS_TEXT_MAX);
		break;
	case EVREQ_HTTP_INVALID_HEADER:
		fetch_refuse(f, "no proper HTTP");
		break;
	case EVREQ_HTTP_TIMEOUT:
	case EVREQ_HTTP_EOF:
	case EVREQ_HTTP_BUFFER_ERROR:
	case EVREQ_HTTP_REQUEST_CANCEL:
		fetch_nothing(f);
		break;
	}
}

static void
fetch_on_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	fetch_refuse(arg, "not in time");
}

static void
fetch_add(struct evhttp_request *req, const char *name, const char *value)
{
	if (evhttp_add_header(evhttp_request_get_output_headers(req), name,
	    value) != 0)
		fatal("no memory for a request");
}

/* libevent clears the state before it tells of an error. */
static void
fetch_on_state(const SSL *ssl, int where, int ret)
{
	struct sts_fetch *f = SSL_get_app_data(ssl);

	(void)ret;
	if (f != NULL && (where & SSL_CB_HANDSHAKE_DONE) != 0)
		f->shaken = true;
}

static SSL *
fetch_tls(struct sts_fetch *f)
{
	char *host = f->host;
	SSL *ssl = SSL_new(context);

	if (ssl == NULL)
		fatal("no memory for TLS");
	f->shaken = false;
	SSL_set_app_data(ssl, f);
	SSL_set_info_callback(ssl, fetch_on_state);
	/* Only what RFC 6125 has: no name in the subject. */
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
	    X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	if (SSL_set1_host(ssl, host) != 1 ||
	    SSL_set_tlsext_host_name(ssl, host) != 1)
		fatal("no memory for TLS");
	return ssl;
}

static void
fetch_attempt(struct sts_fetch *f)
{
	const struct netaddr *a = &f->addr[f->next++];
	char text[NETADDR_TEXT];
	struct bufferevent *io;
	struct evhttp_request *req;

	f->ssl = fetch_tls(f);
	io = bufferevent_openssl_socket_new(loop_base(), -1, f->ssl,
	    BUFFEREVENT_SSL_CONNECTING, BEV_OPT_CLOSE_ON_FREE |
	    BEV_OPT_DEFER_CALLBACKS);
	if (io == NULL || SSL_up_ref(f->ssl) != 1)
		fatal("no memory for a connection");
	f->conn = evhttp_connection_base_bufferevent_new(loop_base(), NULL,
	    io, netaddr_text(a, text), port);
	req = evhttp_request_new(fetch_on_response, f);
	if (f->conn == NULL || req == NULL)
		fatal("no memory for a connection");
	evhttp_connection_set_family(f->conn, a->family);
	evhttp_connection_set_max_headers_size(f->conn, HEADERS_MAX);
	evhttp_connection_set_max_body_size(f->conn, STS_TEXT_MAX);
	evhttp_request_set_error_cb(req, fetch_on_error);
	fetch_add(req, "Host", f->host);
	if (f->path == NULL) {
		fetch_add(req, "Accept", "text/plain");
	} else {
		fetch_add(req, "Content-Type", f->type);
		if (evbuffer_add(evhttp_request_get_output_buffer(req),
		    f->body.p, f->body.n) != 0)
			fatal("no memory for a request");
	}
	fetch_add(req, "Connection", "close");
	if (f->next < f->n)
		event_add(&f->timer, loop_timeout(ATTEMPT_MS));
	/* On failure the request is gone. */
	if (evhttp_make_request(f->conn, req, f->path == NULL ?
	    EVHTTP_REQ_GET : EVHTTP_REQ_POST, f->path == NULL ? PATH :
	    f->path) != 0 && !f->end.queued)
		fetch_nothing(f);
}

static void
fetch_ended(void *arg)
{
	struct sts_fetch *f = arg;

	fetch_disconnect(f);
	if (f->what != FETCHED_TEXT && f->next < f->n) {
		fetch_attempt(f);
		return;
	}
	f->done(f->what, buf_view(&f->text), buf_cstr(&f->why), f->arg);
	fetch_free(f);
}

struct sts_fetch *
sts_fetch_begin(const char *host, const struct netaddr *addr, size_t n,
    const struct sts_post *post, sts_fetch_done *done, void *arg)
{
	struct sts_fetch *f = mem_alloc(sizeof *f);

	ensure(n > 0);
	f->host = mem_strdup(host);
	f->n = n < STS_FETCH_ADDRESSES ? n : STS_FETCH_ADDRESSES;
	memcpy(f->addr, addr, f->n * sizeof *addr);
	f->end = (struct loop_work){ .fn = fetch_ended, .arg = f };
	buf_init(&f->text, STS_TEXT_MAX);
	buf_init(&f->why, WHY_MAX);
	buf_init(&f->body, post != NULL ? post->body.n : 0);
	if (post != NULL) {
		f->path = mem_strdup(post->path);
		f->type = mem_strdup(post->type);
		(void)buf_putv(&f->body, post->body);
	}
	f->done = done;
	f->arg = arg;
	evtimer_assign(&f->timer, loop_base(), fetch_on_time, f);
	fetch_attempt(f);
	return f;
}

void
sts_fetch_cancel(struct sts_fetch **f)
{
	if (*f != NULL)
		fetch_free(*f);
	*f = NULL;
}
