/*
 * smtp-sink-demo: the mail server behind the gateway, for the demo.  Speaks
 * just enough SMTP to take a message, and prints one line about each:
 *
 *	smtp-sink-demo ADDRESS PORT
 *
 * The line: sender, recipients, subject, bytes; separated by tabs.  It keeps
 * nothing, and is meant for a gateway on the same machine only.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LINE_LIMIT	65536u

struct session {
	bool text;		/* between DATA and the dot */
	bool header;		/* still in the header of the message */
	size_t bytes;
	unsigned recipients;
	char sender[256];
	char recipient[256];	/* the first */
	char subject[256];
};

/* Peer data for the terminal: what does not print becomes '?'. */
static void
keep(char *to, size_t size, const char *from, size_t n)
{
	size_t i;

	for (i = 0; i < n && i + 1 < size; i++) {
		unsigned char c = (unsigned char)from[i];

		to[i] = c < 32 || c == 127 ? '?' : (char)c;
	}
	to[i] = '\0';
}

/* The address between < and > */
static void
keep_path(char *to, size_t size, const char *line)
{
	const char *a = strchr(line, '<');
	const char *z = a != NULL ? strchr(a, '>') : NULL;

	if (z != NULL)
		keep(to, size, a + 1, (size_t)(z - a - 1));
	else
		keep(to, size, "?", 1);
}

static void
transaction_reset(struct session *s)
{
	*s = (struct session){ 0 };
}

static void
message_done(struct session *s, struct bufferevent *bev)
{
	printf("from=<%s>\tto=<%s>", s->sender, s->recipient);
	if (s->recipients > 1)
		printf(" and %u more", s->recipients - 1);
	printf("\tsubject=%s\tsize=%zu\n", s->subject, s->bytes);
	fflush(stdout);
	transaction_reset(s);
	evbuffer_add_printf(bufferevent_get_output(bev), "250 2.0.0 Ok\r\n");
}

static void
text_line(struct session *s, struct bufferevent *bev, const char *line,
    size_t n)
{
	if (n == 1 && line[0] == '.') {
		message_done(s, bev);
		return;
	}
	if (n > 0 && line[0] == '.')
		line++, n--;
	s->bytes += n + 2;
	if (n == 0)
		s->header = false;
	if (s->header && strncasecmp(line, "subject:", 8) == 0) {
		const char *text = line + 8 + strspn(line + 8, " \t");

		keep(s->subject, sizeof(s->subject), text, strlen(text));
	}
}

/* false: the session is over */
static bool
command(struct session *s, struct bufferevent *bev, const char *line)
{
	const char *reply = "250 2.0.0 Ok";

	if (strncasecmp(line, "EHLO", 4) == 0) {
		reply = "250-inside.example.com\r\n250-PIPELINING\r\n"
		    "250-SIZE 100000000\r\n250-8BITMIME\r\n"
		    "250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES";
	} else if (strncasecmp(line, "MAIL FROM:", 10) == 0) {
		transaction_reset(s);
		keep_path(s->sender, sizeof(s->sender), line);
	} else if (strncasecmp(line, "RCPT TO:", 8) == 0) {
		if (s->recipients++ == 0)
			keep_path(s->recipient, sizeof(s->recipient), line);
	} else if (strncasecmp(line, "DATA", 4) == 0) {
		if (s->recipients > 0) {
			s->text = s->header = true;
			reply = "354 End data with <CR><LF>.<CR><LF>";
		} else {
			reply = "503 5.5.1 No recipients";
		}
	} else if (strncasecmp(line, "RSET", 4) == 0) {
		transaction_reset(s);
	} else if (strncasecmp(line, "QUIT", 4) == 0) {
		reply = "221 2.0.0 Bye";
	} else if (strncasecmp(line, "HELO", 4) != 0 &&
	    strncasecmp(line, "NOOP", 4) != 0) {
		reply = "500 5.5.2 Unknown command";
	}
	evbuffer_add_printf(bufferevent_get_output(bev), "%s\r\n", reply);
	return strncmp(reply, "221", 3) != 0;
}

static void
on_event(struct bufferevent *bev, short what, void *arg)
{
	(void)what;
	free(arg);
	bufferevent_free(bev);
}

/* The reply to QUIT is on its way: now the session may go. */
static void
on_sent(struct bufferevent *bev, void *arg)
{
	on_event(bev, 0, arg);
}

static void
on_read(struct bufferevent *bev, void *arg)
{
	struct session *s = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	char *line;
	size_t n;

	while ((line = evbuffer_readln(in, &n, EVBUFFER_EOL_CRLF)) != NULL) {
		bool on = true;

		if (s->text)
			text_line(s, bev, line, n);
		else
			on = command(s, bev, line);
		free(line);
		if (!on) {
			bufferevent_disable(bev, EV_READ);
			bufferevent_setcb(bev, NULL, on_sent, on_event, s);
			return;
		}
	}
	if (evbuffer_get_length(in) > LINE_LIMIT)
		on_event(bev, 0, s);
}

static void
on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa,
    int n, void *arg)
{
	struct bufferevent *bev = bufferevent_socket_new(
	    evconnlistener_get_base(l), fd, BEV_OPT_CLOSE_ON_FREE);
	struct session *s = calloc(1, sizeof(*s));

	(void)sa, (void)n, (void)arg;
	if (bev == NULL || s == NULL) {
		fputs("smtp-sink-demo: out of memory\n", stderr);
		exit(1);
	}
	bufferevent_setcb(bev, on_read, NULL, on_event, s);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
	evbuffer_add_printf(bufferevent_get_output(bev),
	    "220 inside.example.com ESMTP sink\r\n");
}

/* 0: not a port */
static uint16_t
port_of(const char *text)
{
	unsigned port = 0;

	for (; *text >= '0' && *text <= '9' && port < 65536; text++)
		port = port * 10 + (unsigned)(*text - '0');
	return *text == '\0' && port < 65536 ? (uint16_t)port : 0;
}

int
main(int argc, char **argv)
{
	struct event_base *base = event_base_new();
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct evconnlistener *l;

	if (argc != 3 || inet_pton(AF_INET, argv[1], &sin.sin_addr) != 1 ||
	    port_of(argv[2]) == 0) {
		fputs("usage: smtp-sink-demo ADDRESS PORT\n", stderr);
		return 2;
	}
	sin.sin_port = htons(port_of(argv[2]));
	sigaction(SIGPIPE, &ignore, NULL);
	l = evconnlistener_new_bind(base, on_accept, NULL,
	    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE | LEV_OPT_CLOSE_ON_EXEC,
	    128, (struct sockaddr *)&sin, sizeof(sin));
	if (l == NULL) {
		fprintf(stderr, "smtp-sink-demo: %s:%s: %s\n", argv[1],
		    argv[2], strerror(errno));
		return 1;
	}
	event_base_dispatch(base);
	return 0;
}
