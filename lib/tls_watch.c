#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/role.h"
#include "lib/tls_watch.h"

#define ASKED_MAX	64u	/* traces that wait for their file */
#define OPEN_MAX	256u	/* traces at all */
#define ROW		16u	/* bytes in a line of a dump */

#define LEVEL_1	TLS_TELL_SUMMARY
#define LEVEL_2	(LEVEL_1 | TLS_TELL_PEER | TLS_TELL_STEPS)
#define LEVEL_3	(LEVEL_2 | TLS_TELL_HANDSHAKE)
#define LEVEL_4	(LEVEL_3 | TLS_TELL_BYTES)

bool
tls_tell_parse(struct view words, uint32_t *ret, struct view *ret_bad)
{
	static const struct {
		const char *name;
		uint32_t tell;
	} levels[] = {
		{ "0", 0 }, { "none", 0 }, { "1", LEVEL_1 },
		{ "routine", LEVEL_1 }, { "2", LEVEL_2 },
		{ "debug", LEVEL_2 }, { "3", LEVEL_3 },
		{ "ssl-expert", LEVEL_3 }, { "4", LEVEL_4 },
		{ "ssl-developer", LEVEL_4 }, { "5", LEVEL_4 },
		{ "6", LEVEL_4 }, { "7", LEVEL_4 }, { "8", LEVEL_4 },
		{ "9", LEVEL_4 }, { "summary", TLS_TELL_SUMMARY },
		{ "untrusted", TLS_TELL_PEER }, { "peercert", TLS_TELL_PEER },
		{ "certmatch", TLS_TELL_PEER }, { "dane", 0 },
		{ "verbose", TLS_TELL_PEER }, { "cache", 0 },
		{ "ssl-debug", TLS_TELL_STEPS },
		{ "ssl-handshake-packet-dump", TLS_TELL_HANDSHAKE },
		{ "ssl-session-packet-dump",
		    TLS_TELL_HANDSHAKE | TLS_TELL_BYTES },
		{ "trace", TLS_TELL_TRACE },
	};
	const size_t n = sizeof levels / sizeof levels[0];
	uint32_t tell = 0;
	struct view word;
	size_t i;

	while ((word = conf_word(&words)).n > 0) {
		for (i = 0; i < n; i++)
			if (view_is_nocase(word, levels[i].name))
				break;
		if (i == n) {
			*ret_bad = word;
			return false;
		}
		tell |= levels[i].tell;
	}
	*ret = tell;
	return true;
}

/* -- traces ---------------------------------------------------------------- */

struct trace {
	struct trace *next;	/* of those that are asked for */
	uint32_t tag;
	int fd;			/* -1: not yet */
	size_t left;		/* bytes that it may still have */
	bool ended;		/* its session has */
	struct buf text;	/* not yet written */
	char *name;		/* of the peer */
	const char *parameter;
};

static struct {
	struct trace *first;
	uint32_t tag, asked, open;
	struct mono refused_until;
} traces;

static void
trace_free(struct trace *t)
{
	if (t->fd >= 0)
		(void)close(t->fd);
	traces.open--;
	buf_free(&t->text);
	free(t->name);
	free(t);
}

static void
trace_write(struct trace *t)
{
	ssize_t n;

	while (t->fd >= 0 && t->text.n > 0) {
		n = write(t->fd, t->text.p, t->text.n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			log_warn("TLS trace for %s: %s", t->name,
			    n < 0 ? strerror(errno) : "not written");
			t->left = 0;
			buf_clear(&t->text);
			return;
		}
		buf_consume(&t->text, (size_t)n);
	}
}

static void
trace_add(struct trace *t, struct view text)
{
	if (t->left == 0)
		return;
	if (text.n < t->left) {
		t->left -= text.n;
		(void)buf_putv(&t->text, text);
	} else {
		(void)buf_putv(&t->text, view_head(text, t->left));
		(void)buf_printf(&t->text, "\n(the trace ends here, by %s)\n",
		    t->parameter);
		t->left = 0;
	}
	trace_write(t);
}

/* NULL: not now. */
static struct trace *
trace_new(const struct tls_watched *how)
{
	struct chan *master = role_control();
	struct trace *t;
	struct buf *b;

	if (master == NULL || how->limit == 0 ||
	    traces.asked >= ASKED_MAX || traces.open >= OPEN_MAX ||
	    mono_since(loop_now(), traces.refused_until) > 0)
		return NULL;
	t = mem_alloc(sizeof *t);
	t->fd = -1;
	t->left = how->limit;
	t->parameter = how->parameter;
	t->name = mem_strdup(how->name);
	/* And the line that says that it ends. */
	buf_init(&t->text, how->limit + 200);
	t->tag = ++traces.tag;
	t->next = traces.first;
	traces.first = t;
	traces.asked++;
	traces.open++;
	b = chan_begin(master, MSG_TLS_TRACE);
	(void)put_u32(b, t->tag);
	(void)put_view(b, how->addr->family != 0 ?
	    netaddr_bytes(how->addr) : view_of(""));
	chan_end(master);
	return t;
}

static void
trace_end(struct trace *t)
{
	t->ended = true;
	if (t->fd >= 0 || t->tag == 0)
		trace_free(t);
}

/* The one that was asked for with this tag, from the list; NULL: none. */
static struct trace *
trace_asked(uint32_t tag)
{
	struct trace **p, *t;

	for (p = &traces.first; (t = *p) != NULL; p = &t->next)
		if (t->tag == tag) {
			*p = t->next;
			traces.asked--;
			return t;
		}
	return NULL;
}

void
tls_watch_answer(struct chan *c, struct chan_in *m)
{
	uint32_t tag = cursor_u32(&m->body), ms = 0;
	struct view file = view_of("");
	struct trace *t;

	if (m->type == MSG_TLS_TRACE_FILE)
		file = cursor_view(&m->body);
	else
		ms = cursor_u32(&m->body);
	if (!chan_check(c, m) || (t = trace_asked(tag)) == NULL)
		return;
	if (m->type == MSG_TLS_TRACE_FILE) {
		log_info("TLS protocol trace for %s saved to %s", t->name,
		    log_safe(file));
		t->fd = m->fd[0];
		m->fd[0] = -1;
		trace_write(t);
	} else {
		log_info("no TLS trace for %s, nor for others within %u s",
		    t->name, (ms + 999) / 1000);
		traces.refused_until.us = loop_now().us + (int64_t)ms * 1000;
		t->tag = 0;
		t->left = 0;
		buf_free(&t->text);
	}
	if (t->ended)
		trace_free(t);
}

/* -- dumps ----------------------------------------------------------------- */

static void
dump(const char *name, const char *what, struct view bytes)
{
	const unsigned char *p = (const unsigned char *)bytes.p;
	size_t at, i, n;
	char hex[3 * ROW + 1], text[ROW + 1];

	log_info("%s: %s %zu bytes", name, what, bytes.n);
	for (at = 0; at < bytes.n; at += ROW) {
		n = bytes.n - at < ROW ? bytes.n - at : ROW;
		for (i = 0; i < n; i++) {
			(void)snprintf(hex + 3 * i, 4, "%02x ", p[at + i]);
			text[i] = p[at + i] > ' ' && p[at + i] < 0x7f ?
			    (char)p[at + i] : '.';
		}
		hex[3 * n - 1] = text[n] = '\0';
		log_info("%s: %04zx %-47s |%s|", name, at, hex, text);
	}
}

/* -- a session ------------------------------------------------------------- */

struct tls_watch {
	SSL *ssl;
	BIO *bio;
	uint32_t tell;
	char *name;
	size_t dump_left;
	struct trace *trace;	/* NULL: none */
};

static int
watch_index(void)
{
	static int number = -1;

	if (number < 0)
		number = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	ensure(number >= 0);
	return number;
}

static long
on_bytes(BIO *bio, int operation, const char *p, size_t size, int argi,
    long argl, int rc, size_t *done)
{
	struct tls_watch *w = (struct tls_watch *)BIO_get_callback_arg(bio);
	bool came = operation == (BIO_CB_READ | BIO_CB_RETURN);
	size_t n = done != NULL ? *done : 0;

	(void)size;
	(void)argi;
	(void)argl;
	if (rc <= 0 || n == 0 || w->dump_left == 0 ||
	    (!came && operation != (BIO_CB_WRITE | BIO_CB_RETURN)))
		return rc;
	if ((w->tell & TLS_TELL_BYTES) == 0 && SSL_is_init_finished(w->ssl))
		return rc;
	n = n < w->dump_left ? n : w->dump_left;
	w->dump_left -= n;
	dump(w->name, came ? "read" : "write", view_make(p, n));
	if (w->dump_left == 0)
		log_info("%s: no more bytes are shown", w->name);
	return rc;
}

static void
on_step(const SSL *ssl, int where, int rc)
{
	const struct tls_watch *w = SSL_get_ex_data(ssl, watch_index());
	const char *who = SSL_is_server(ssl) ? "SSL_accept" : "SSL_connect";

	if ((where & SSL_CB_ALERT) != 0)
		log_info("%s: SSL3 alert %s: %s: %s", w->name,
		    (where & SSL_CB_READ) != 0 ? "read" : "write",
		    SSL_alert_type_string_long(rc),
		    SSL_alert_desc_string_long(rc));
	else if ((where & SSL_CB_LOOP) != 0)
		log_info("%s: %s: %s", w->name, who,
		    SSL_state_string_long(ssl));
	else if ((where & SSL_CB_EXIT) != 0 && rc == 0)
		log_info("%s: %s: failed in %s", w->name, who,
		    SSL_state_string_long(ssl));
}

struct tls_watch *
tls_watch_new(SSL *ssl, const struct tls_watched *how)
{
	struct tls_watch *w;
	struct trace *trace = (how->tell & TLS_TELL_TRACE) != 0 ?
	    trace_new(how) : NULL;

	if (trace == NULL && (how->tell & (TLS_TELL_STEPS |
	    TLS_TELL_HANDSHAKE | TLS_TELL_BYTES)) == 0)
		return NULL;
	w = mem_alloc(sizeof *w);
	*w = (struct tls_watch){ .ssl = ssl, .tell = how->tell,
		.name = mem_strdup(how->name), .dump_left = how->limit,
		.trace = trace };
	if ((how->tell & TLS_TELL_STEPS) != 0) {
		if (SSL_set_ex_data(ssl, watch_index(), w) != 1)
			fatal("no memory for TLS");
		SSL_set_info_callback(ssl, on_step);
	}
	if ((how->tell & (TLS_TELL_HANDSHAKE | TLS_TELL_BYTES)) != 0) {
		w->bio = SSL_get_rbio(ssl);
		BIO_set_callback_arg(w->bio, (char *)w);
		BIO_set_callback_ex(w->bio, on_bytes);
	}
	return w;
}

void
tls_watch_end(struct tls_watch **wp)
{
	struct tls_watch *w = *wp;

	if (w == NULL)
		return;
	*wp = NULL;
	SSL_set_info_callback(w->ssl, NULL);
	if (w->bio != NULL)
		BIO_set_callback_ex(w->bio, NULL);
	if (w->trace != NULL)
		trace_end(w->trace);
	free(w->name);
	free(w);
}

/* What SSL_trace() is shown: no data of SMTP, whatever a later library might
 * hand over. */
static bool
watch_shows(int type)
{
	return type == SSL3_RT_HEADER || type == SSL3_RT_INNER_CONTENT_TYPE ||
	    type == SSL3_RT_CHANGE_CIPHER_SPEC || type == SSL3_RT_ALERT ||
	    type == SSL3_RT_HANDSHAKE;
}

void
tls_watch_message(struct tls_watch *w, int ours, int version, int type,
    const void *p, size_t n, SSL *ssl)
{
#ifndef OPENSSL_NO_SSL_TRACE
	BIO *out;
	char *text;
	long size;

	if (w == NULL || w->trace == NULL || w->trace->left == 0 ||
	    !watch_shows(type))
		return;
	out = BIO_new(BIO_s_mem());
	if (out == NULL)
		fatal("no memory for TLS");
	SSL_trace(ours, version, type, p, n, ssl, out);
	size = BIO_get_mem_data(out, &text);
	if (size > 0)
		trace_add(w->trace, view_make(text, (size_t)size));
	BIO_free(out);
#else
	(void)w;
	(void)ours;
	(void)version;
	(void)type;
	(void)p;
	(void)n;
	(void)ssl;
#endif
}
