/*
 * What is told of a TLS session: lines in the log, by level, and a trace, which
 * is a file with each message of TLS in words, as SSL_trace() of OpenSSL has
 * them.  Of what is sent inside TLS neither has a byte (the dumps are of what
 * is on the wire), and neither has a key.
 *
 * A role cannot make files.  It asks master, which counts the traces of all
 * processes and hands over a descriptor; what happens until then is kept.  A
 * watch may end before that: its trace is written when the file comes.
 */
#ifndef LIB_TLS_WATCH_H
#define LIB_TLS_WATCH_H

#include <openssl/types.h>

#include "lib/chan.h"
#include "lib/netaddr.h"

/* smtpd_tls_loglevel and its like */
enum tls_tell {
	TLS_TELL_SUMMARY = 1 << 0,	/* a line for the session */
	TLS_TELL_PEER = 1 << 1,		/* the peer's certificate */
	TLS_TELL_STEPS = 1 << 2,	/* of the handshake */
	TLS_TELL_HANDSHAKE = 1 << 3,	/* its bytes */
	TLS_TELL_BYTES = 1 << 4,	/* all bytes */
	TLS_TELL_TRACE = 1 << 5
};
/* "1", "2,trace", or the names that Postfix has; bits of enum tls_tell.
 * False: *ret_bad is not known. */
bool tls_tell_parse(struct view words, uint32_t *ret, struct view *ret_bad);

struct tls_watch;
struct tls_watched {
	uint32_t tell;
	const char *name;	/* of the peer, for the log; copied */
	const struct netaddr *addr;
	size_t limit;		/* bytes of a trace, and of a dump */
	const char *parameter;	/* that says so; not copied */
};
/* Of an SSL that has its BIO and no callback for what it does; NULL: there is
 * nothing to tell that comes before the end of the handshake. */
struct tls_watch *tls_watch_new(SSL *ssl, const struct tls_watched *how);
/* Before SSL_free(). */
void tls_watch_end(struct tls_watch **w);
/* From the SSL's message callback, with its arguments; w may be NULL. */
void tls_watch_message(struct tls_watch *w, int ours, int version, int type,
    const void *p, size_t n, SSL *ssl);

/* MSG_TLS_TRACE_FILE and MSG_TLS_TRACE_NONE, from master. */
void tls_watch_answer(struct chan *c, struct chan_in *m);

#endif
