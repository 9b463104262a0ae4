/*
 * An SMTP server that takes logins by SCRAM with channel binding only, as Cyrus
 * SASL judges them, with what OpenSSL says at the server's end of the connection:
 * no mail server of Debian 12 is known to have the bindings of RFC 9266 and
 * RFC 5929 section 4.  One connection after the other.
 *
 *     scramd PORT PEM SASLDB REALM BINDING [wrong]
 *
 * BINDING: tls-exporter (TLSv1.3) or tls-server-end-point (TLSv1.2); wrong:
 * what it is compared with is another connection's.
 */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sasl/sasl.h>
#include <sasl/saslutil.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_SIZE	8192u
#define EXPORTER	"EXPORTER-Channel-Binding"

static const char *sasldb, *realm, *binding;
static bool wrong;

struct peer {
	int fd;
	SSL *ssl;	/* NULL: not yet */
	sasl_conn_t *sasl;
	unsigned char bound[EVP_MAX_MD_SIZE];
	sasl_channel_binding_t cb;
};

static void
must(bool ok, const char *what)
{
	if (!ok) {
		(void)fprintf(stderr, "scramd: %s\n", what);
		exit(1);
	}
}

static int
on_option(void *context, const char *plugin, const char *name,
    const char **value, unsigned *n)
{
	(void)context;
	(void)plugin;
	*value = strcmp(name, "pwcheck_method") == 0 ? "auxprop" :
	    strcmp(name, "auxprop_plugin") == 0 ? "sasldb" :
	    strcmp(name, "sasldb_path") == 0 ? sasldb : NULL;
	if (n != NULL)
		*n = *value != NULL ? (unsigned)strlen(*value) : 0;
	return *value != NULL ? SASL_OK : SASL_FAIL;
}

static void
say(struct peer *p, const char *text)
{
	char line[LINE_SIZE];
	int n = snprintf(line, sizeof line, "%s\r\n", text);

	if (p->ssl != NULL)
		(void)SSL_write(p->ssl, line, n);
	else
		(void)!write(p->fd, line, (size_t)n);
}

static bool
hear(struct peer *p, char line[LINE_SIZE])
{
	size_t n = 0;

	while (n + 1 < LINE_SIZE && (p->ssl != NULL ?
	    SSL_read(p->ssl, line + n, 1) : (int)read(p->fd, line + n,
	    1)) == 1) {
		if (line[n++] == '\n') {
			line[n - (n > 1 && line[n - 2] == '\r' ? 2 : 1)] =
			    '\0';
			return true;
		}
	}
	return false;
}

static bool
bind_channel(struct peer *p)
{
	unsigned n = 0;

	if (strcmp(binding, "tls-exporter") == 0) {
		n = 32;
		must(SSL_export_keying_material(p->ssl, p->bound, n, EXPORTER,
		    strlen(EXPORTER), NULL, 0, 0) == 1, "no exporter");
	} else {
		must(X509_digest(SSL_get_certificate(p->ssl), EVP_sha256(),
		    p->bound, &n) == 1, "no digest");
	}
	if (wrong)
		p->bound[0] ^= 1;
	p->cb = (sasl_channel_binding_t){ .name = binding, .critical = 1,
		.len = n, .data = p->bound };
	return sasl_setprop(p->sasl, SASL_CHANNEL_BINDING, &p->cb) == SASL_OK;
}

static bool
secure(struct peer *p, SSL_CTX *ctx)
{
	say(p, "220 go");
	p->ssl = SSL_new(ctx);
	return p->ssl != NULL && SSL_set_fd(p->ssl, p->fd) == 1 &&
	    SSL_accept(p->ssl) == 1 && bind_channel(p);
}

static const char *
judge(struct peer *p, char *words, char line[LINE_SIZE])
{
	static char in[LINE_SIZE], out[2 * LINE_SIZE];
	char *name = strsep(&words, " "), *first = words, mechanism[32];
	const char *said;
	unsigned n = 0, m;
	int rc;

	(void)snprintf(mechanism, sizeof mechanism, "%s", name);
	if (strstr(mechanism, "-PLUS") == NULL || first == NULL ||
	    sasl_decode64(first, (unsigned)strlen(first), in, sizeof in,
	    &n) != SASL_OK)
		return "504 5.5.4 not that";
	rc = sasl_server_start(p->sasl, mechanism, in, n, &said, &m);
	while (rc == SASL_CONTINUE) {
		memcpy(out, "334 ", 4);
		if (sasl_encode64(said, m, out + 4, sizeof out - 4, NULL) !=
		    SASL_OK)
			return "454 4.3.0 too long";
		say(p, out);
		if (!hear(p, line))
			return NULL;
		if (sasl_decode64(line, (unsigned)strlen(line), in,
		    sizeof in, &n) != SASL_OK)
			return "501 5.5.2 what?";
		rc = sasl_server_step(p->sasl, in, n, &said, &m);
	}
	(void)fprintf(stderr, "%s %s: %s\n", mechanism, binding,
	    sasl_errdetail(p->sasl));
	return rc == SASL_OK ? "235 2.7.0 welcome" : rc == SASL_BADPROT ?
	    "501 5.5.4 no" : "535 5.7.8 no";
}

static const char *
reply(struct peer *p, char line[LINE_SIZE], SSL_CTX *ctx)
{
	if (strncmp(line, "EHLO", 4) == 0)
		return p->ssl == NULL ? "250-inside\r\n250 STARTTLS" :
		    "250-inside\r\n250 AUTH SCRAM-SHA-256-PLUS "
		    "SCRAM-SHA-256 SCRAM-SHA-1-PLUS";
	if (strcmp(line, "STARTTLS") == 0)
		return secure(p, ctx) ? "" : NULL;
	if (strncmp(line, "AUTH ", 5) == 0)
		return judge(p, line + 5, line);
	if (strcmp(line, "DATA") == 0) {
		say(p, "354 go on");
		while (hear(p, line))
			if (strcmp(line, ".") == 0)
				return "250 2.0.0 Ok";
		return NULL;
	}
	return strcmp(line, "QUIT") == 0 ? NULL : "250 2.0.0 Ok";
}

static void
serve(int fd, SSL_CTX *ctx)
{
	struct peer p = { .fd = fd };
	char line[LINE_SIZE];
	const char *text;

	must(sasl_server_new("smtp", realm, realm, NULL, NULL, NULL, 0,
	    &p.sasl) == SASL_OK, "sasl_server_new");
	say(&p, "220 inside ESMTP");
	while (hear(&p, line) && (text = reply(&p, line, ctx)) != NULL)
		if (text[0] != '\0')
			say(&p, text);
	sasl_dispose(&p.sasl);
	SSL_free(p.ssl);
	(void)close(fd);
}

int
main(int argc, char **argv)
{
	static const sasl_callback_t callbacks[] = {
		{ SASL_CB_GETOPT, (int (*)(void))(void (*)(void))on_option,
		    NULL },
		{ SASL_CB_LIST_END, NULL, NULL } };
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	struct sockaddr_in a = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1, version;

	must(argc >= 6, "usage: scramd PORT PEM SASLDB REALM BINDING [wrong]");
	sasldb = argv[3];
	realm = argv[4];
	binding = argv[5];
	wrong = argc > 6;
	version = strcmp(binding, "tls-exporter") == 0 ? TLS1_3_VERSION :
	    TLS1_2_VERSION;
	must(ctx != NULL && SSL_CTX_use_certificate_chain_file(ctx,
	    argv[2]) == 1 && SSL_CTX_use_PrivateKey_file(ctx, argv[2],
	    SSL_FILETYPE_PEM) == 1 && SSL_CTX_set_min_proto_version(ctx,
	    version) == 1 && SSL_CTX_set_max_proto_version(ctx, version) == 1,
	    "no TLS");
	must(sasl_server_init(callbacks, "scramd") == SASL_OK, "no SASL");
	a.sin_port = htons((uint16_t)atoi(argv[1]));
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
	    bind(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
	    listen(fd, 16) == 0, "cannot listen");
	for (;;) {
		int peer = accept(fd, NULL, NULL);

		if (peer >= 0)
			serve(peer, ctx);
	}
}
