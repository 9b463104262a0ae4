/*
 * SMTP by STARTTLS, as a load and as the server behind (contrib/tlsbench):
 *
 *	tlsload send PORT THREADS MESSAGES BYTES PER-SESSION FRESH|RESUMED
 *	tlsload greet PORT THREADS SESSIONS FRESH|RESUMED
 *	tlsload idle PORT SESSIONS
 *	tlsload library THREADS HANDSHAKES CERTIFICATE KEY FRESH|RESUMED
 *	tlsload sink PORT CERTIFICATE KEY COUNTER
 *
 * send: each thread has one session at a time, and sends so many messages in
 * it.  greet: EHLO, STARTTLS, EHLO, QUIT.  FRESH: each with a full handshake;
 * RESUMED: all but a thread's first with its last ticket.  idle: opens the
 * sessions, says "ready" and keeps them until its standard input ends.
 * library: handshakes in memory, without a socket, and prints the CPU time in
 * microseconds that OpenSSL needs for the server's side of one.  sink: takes
 * all mail; the number of messages stands in the file COUNTER as eight bytes.
 * All on 127.0.0.1, and certificates are not looked at.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX	200
#define LINE_SIZE	2048

/* A connection, at first without TLS. */
struct peer {
	int fd;
	SSL *ssl;
	char in[16384];
	size_t at, n;
};

static struct {
	struct sockaddr_in to;
	SSL_CTX *ctx;
	atomic_long left;
	int per_session;
	bool resume;
	char *text;
	size_t text_n;
	_Atomic uint64_t *count;
	SSL_CTX *server;
	atomic_long ns;		/* CPU time of the server's side */
} load;

__attribute__((noreturn, format(printf, 1, 2)))
static void
fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("tlsload: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	ERR_print_errors_fp(stderr);
	exit(1);
}

/* -- bytes ----------------------------------------------------------------- */

static bool
peer_put(struct peer *p, const char *text, size_t n)
{
	size_t sent;

	if (p->ssl != NULL)
		return SSL_write_ex(p->ssl, text, n, &sent) == 1;
	return send(p->fd, text, n, MSG_NOSIGNAL) == (ssize_t)n;
}

/* One line without its end; false: there is no more. */
static bool
peer_line(struct peer *p, char *line)
{
	size_t n = 0;
	int got;

	for (;;) {
		if (p->at == p->n) {
			got = p->ssl != NULL ? SSL_read(p->ssl, p->in,
			    sizeof p->in) :
			    (int)recv(p->fd, p->in, sizeof p->in, 0);
			if (got <= 0)
				return false;
			p->at = 0;
			p->n = (size_t)got;
		}
		line[n] = p->in[p->at++];
		if (line[n] == '\n')
			break;
		if (n + 1 < LINE_SIZE)
			n++;
	}
	if (n > 0 && line[n - 1] == '\r')
		n--;
	line[n] = '\0';
	return true;
}

/* Sends a command, if any, and reads the reply: it must be of this kind. */
static void
peer_expect(struct peer *p, const char *command, char kind)
{
	char line[LINE_SIZE] = "";

	if (command != NULL && !peer_put(p, command, strlen(command)))
		fail("cannot send %s", command);
	do
		if (!peer_line(p, line))
			fail("no reply to %s", command != NULL ? command :
			    "the connection");
	while (line[3] == '-');
	if (line[0] != kind)
		fail("%s: %s", command != NULL ? command : "", line);
}

static void
peer_close(struct peer *p)
{
	if (p->ssl != NULL) {
		(void)SSL_shutdown(p->ssl);
		SSL_free(p->ssl);
		ERR_clear_error();
	}
	close(p->fd);
}

/* -- the client ------------------------------------------------------------ */

static void
client_open(struct peer *p, SSL_SESSION *session)
{
	int on = 1;

	*p = (struct peer){ .fd = socket(AF_INET, SOCK_STREAM, 0) };
	if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&load.to,
	    sizeof load.to) != 0)
		fail("cannot connect");
	setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	peer_expect(p, NULL, '2');
	peer_expect(p, "EHLO client.example\r\n", '2');
	peer_expect(p, "STARTTLS\r\n", '2');
	p->ssl = SSL_new(load.ctx);
	if (p->ssl == NULL || SSL_set_fd(p->ssl, p->fd) != 1)
		fail("no memory");
	if (session != NULL)
		SSL_set_session(p->ssl, session);
	if (SSL_connect(p->ssl) != 1)
		fail("no handshake");
	peer_expect(p, "EHLO client.example\r\n", '2');
}

static void
client_message(struct peer *p)
{
	peer_expect(p, "MAIL FROM:<sender@client.example>\r\n", '2');
	peer_expect(p, "RCPT TO:<user@example.com>\r\n", '2');
	peer_expect(p, "DATA\r\n", '3');
	if (!peer_put(p, load.text, load.text_n))
		fail("cannot send a text");
	peer_expect(p, NULL, '2');
}

static void *
client_run(void *arg)
{
	SSL_SESSION *session = NULL;
	struct peer *p = malloc(sizeof *p);
	int i = 0;

	(void)arg;
	if (p == NULL)
		fail("no memory");
	while (atomic_fetch_sub(&load.left, 1) > 0) {
		if (i == 0)
			client_open(p, session);
		if (load.text != NULL)
			client_message(p);
		if (++i < load.per_session && atomic_load(&load.left) > 0)
			continue;
		i = 0;
		peer_expect(p, "QUIT\r\n", '2');
		if (load.resume) {
			if (session != NULL && !SSL_session_reused(p->ssl))
				fail("a ticket was not taken");
			SSL_SESSION_free(session);
			session = SSL_get1_session(p->ssl);
		}
		peer_close(p);
	}
	if (i > 0)
		peer_close(p);
	SSL_SESSION_free(session);
	free(p);
	return NULL;
}

static void
run_threads(int threads, void *(*run)(void *))
{
	pthread_t id[THREADS_MAX];
	int i;

	if (threads < 1 || threads > THREADS_MAX)
		fail("1 to %d threads", THREADS_MAX);
	for (i = 0; i < threads; i++)
		if (pthread_create(&id[i], NULL, run, NULL) != 0)
			fail("no thread");
	for (i = 0; i < threads; i++)
		pthread_join(id[i], NULL);
}

static void
client_text(size_t n)
{
	const char head[] = "Subject: load\r\n\r\n", end[] = ".\r\n";
	size_t i, at = sizeof head - 1;

	/* A whole number of lines, and a little more than asked for. */
	load.text = malloc(n + sizeof head + 72 + sizeof end);
	if (load.text == NULL)
		fail("no memory");
	memcpy(load.text, head, at);
	while (at < n) {
		for (i = 0; i < 70; i++)
			load.text[at++] = 'x';
		load.text[at++] = '\r';
		load.text[at++] = '\n';
	}
	memcpy(load.text + at, end, sizeof end - 1);
	load.text_n = at + sizeof end - 1;
}

static void
client_idle(int n)
{
	struct peer *p = malloc(sizeof *p);
	struct rlimit most;
	char byte;

	getrlimit(RLIMIT_NOFILE, &most);
	most.rlim_cur = most.rlim_max;
	setrlimit(RLIMIT_NOFILE, &most);
	if (p == NULL)
		fail("no memory");
	while (n-- > 0)
		client_open(p, NULL);
	puts("ready");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	free(p);
}

/* -- the library alone ----------------------------------------------------- */

static long
thread_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

/* Both ends until they are through, and the ticket, if any, has been read. */
static void
pair_talk(SSL *client, SSL *server)
{
	char byte[1] = "x";
	long begin;
	int i, ours = 0, theirs = 0;

	for (i = 0; i < 10 && (ours != 1 || theirs != 1); i++) {
		if (theirs != 1)
			theirs = SSL_connect(client);
		begin = thread_ns();
		if (ours != 1)
			ours = SSL_accept(server);
		load.ns += thread_ns() - begin;
	}
	if (ours != 1 || theirs != 1 || SSL_write(server, byte, 1) != 1 ||
	    SSL_read(client, byte, 1) != 1)
		fail("no handshake in memory");
}

static SSL_SESSION *
pair_run(SSL_SESSION *session)
{
	SSL *client = SSL_new(load.ctx), *server = SSL_new(load.server);
	BIO *one, *other;

	if (client == NULL || server == NULL ||
	    BIO_new_bio_pair(&one, 32768, &other, 32768) != 1)
		fail("no memory");
	SSL_set_bio(client, one, one);
	SSL_set_bio(server, other, other);
	if (session != NULL)
		SSL_set_session(client, session);
	pair_talk(client, server);
	if (session != NULL && !SSL_session_reused(client))
		fail("a ticket was not taken");
	SSL_SESSION_free(session);
	session = load.resume ? SSL_get1_session(client) : NULL;
	(void)SSL_shutdown(client);
	SSL_free(client);
	SSL_free(server);
	ERR_clear_error();
	return session;
}

static void *
library_run(void *arg)
{
	SSL_SESSION *session = NULL;

	(void)arg;
	while (atomic_fetch_sub(&load.left, 1) > 0)
		session = pair_run(session);
	SSL_SESSION_free(session);
	return NULL;
}

static SSL_CTX *
server_context(const char *certificate, const char *key)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (ctx == NULL || SSL_CTX_use_certificate_chain_file(ctx,
	    certificate) != 1 || SSL_CTX_use_PrivateKey_file(ctx, key,
	    SSL_FILETYPE_PEM) != 1)
		fail("certificate");
	return ctx;
}

static void
library(int threads, int handshakes, char **argv)
{
	load.server = server_context(argv[0], argv[1]);
	SSL_CTX_set_session_cache_mode(load.server, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_num_tickets(load.server, 1);
	load.left = handshakes;
	run_threads(threads, library_run);
	printf("%.1f\n", (double)load.ns / 1000 / handshakes);
}

/* -- the server ------------------------------------------------------------ */

static bool
sink_text(struct peer *p, char *line)
{
	do
		if (!peer_line(p, line))
			return false;
	while (strcmp(line, ".") != 0);
	atomic_fetch_add(load.count, 1);
	return true;
}

static bool
sink_tls(struct peer *p)
{
	p->ssl = SSL_new(load.ctx);
	return p->ssl != NULL && SSL_set_fd(p->ssl, p->fd) == 1 &&
	    SSL_accept(p->ssl) == 1;
}

static bool
sink_put(struct peer *p, const char *text)
{
	return peer_put(p, text, strlen(text));
}

/* False: the session is over. */
static bool
sink_command(struct peer *p, char *line)
{
	if (strncasecmp(line, "EHLO", 4) == 0)
		return sink_put(p, p->ssl != NULL ?
		    "250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n" :
		    "250-sink.example\r\n250-PIPELINING\r\n250-STARTTLS\r\n"
		    "250 8BITMIME\r\n");
	if (strncasecmp(line, "STARTTLS", 8) == 0)
		return p->ssl == NULL && sink_put(p, "220 go ahead\r\n") &&
		    sink_tls(p);
	if (strncasecmp(line, "DATA", 4) == 0)
		return sink_put(p, "354 go ahead\r\n") && sink_text(p, line) &&
		    sink_put(p, "250 taken\r\n");
	if (strncasecmp(line, "QUIT", 4) == 0)
		return sink_put(p, "221 bye\r\n") && false;
	return sink_put(p, "250 ok\r\n");
}

static void *
sink_session(void *arg)
{
	struct peer *p = arg;
	char line[LINE_SIZE];
	bool on = sink_put(p, "220 sink.example ESMTP\r\n");

	while (on && peer_line(p, line))
		on = sink_command(p, line);
	peer_close(p);
	free(p);
	return NULL;
}

static void
sink_count(const char *file)
{
	int fd = open(file, O_RDWR | O_CREAT, 0644);
	void *at = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, sizeof *load.count) == 0)
		at = mmap(NULL, sizeof *load.count, PROT_READ | PROT_WRITE,
		    MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		fail("cannot open %s", file);
	load.count = at;
}

static void
sink(char **argv)
{
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	pthread_attr_t attr;
	pthread_t id;
	struct peer *p;

	load.ctx = server_context(argv[0], argv[1]);
	sink_count(argv[2]);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, (struct sockaddr *)&load.to, sizeof load.to) != 0 ||
	    listen(listener, 1000) != 0)
		fail("cannot listen");
	for (;;) {
		p = calloc(1, sizeof *p);
		if (p == NULL || (p->fd = accept(listener, NULL, NULL)) < 0)
			fail("cannot accept");
		setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		if (pthread_create(&id, &attr, sink_session, p) != 0)
			fail("no thread");
	}
}

static int
number(const char *text)
{
	int n = 0;
	const char *p;

	for (p = text; *p >= '0' && *p <= '9' && n < 10000000; p++)
		n = n * 10 + (*p - '0');
	if (p == text || *p != '\0')
		fail("%s: not a number", text);
	return n;
}

int
main(int argc, char **argv)
{
	if (argc < 4)
		fail("see the head of its source");
	signal(SIGPIPE, SIG_IGN);
	load.to.sin_family = AF_INET;
	load.to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	load.to.sin_port = htons((uint16_t)number(argv[2]));
	if (strcmp(argv[1], "sink") == 0 && argc == 6)
		sink(argv + 3);
	load.ctx = SSL_CTX_new(TLS_client_method());
	if (load.ctx == NULL)
		fail("no memory");
	load.per_session = 1;
	load.resume = strcmp(argv[argc - 1], "RESUMED") == 0;
	if (strcmp(argv[1], "library") == 0 && argc == 7) {
		library(number(argv[2]), number(argv[3]), argv + 4);
		return 0;
	}
	if (strcmp(argv[1], "idle") == 0 && argc == 4) {
		client_idle(number(argv[3]));
		return 0;
	}
	if (strcmp(argv[1], "greet") == 0 && argc == 6) {
		load.left = number(argv[4]);
	} else if (strcmp(argv[1], "send") == 0 && argc == 8) {
		load.left = number(argv[4]);
		client_text((size_t)number(argv[5]));
		load.per_session = number(argv[6]);
	} else {
		fail("see the head of its source");
	}
	run_threads(number(argv[3]), client_run);
	return 0;
}
