/*
 * TLS of one session, as a layer between its socket and smtpd_io.c: nothing
 * else in smtpd knows whether bytes are encrypted.
 *
 * A handshake takes place while the session waits for WAIT_TLS.  It has a
 * time in which it must be over, a maximum for what the client may claim, and
 * is done in steps, each of one read, that take turns with other sessions.
 * Nothing that came before the handshake is read after it, and the other way
 * round: bytes go from the socket to TLS or to SMTP, by who reads them.
 */
#ifndef PROXY_SMTPD_TLS_H
#define PROXY_SMTPD_TLS_H

#include <openssl/types.h>
#include <sys/types.h>

#include "lib/tls_info.h"
#include "proxy/smtpd.h"
#include "proxy/smtpd_tls_context.h"

/* The first bytes of a client: enough to tell a ClientHello and its length
 * (RFC 8446 sections 5.1 and 4). */
#define TLS_HEAD_SIZE	9u
#define TLS_HELLO_MAX	16384u
enum tls_head { TLS_HEAD_MORE = 0, TLS_HEAD_GOOD, TLS_HEAD_OTHER,
	TLS_HEAD_TOO_LONG };
enum tls_head tls_head_check(const uint8_t *p, size_t n);

/* -- smtpd_tls.c: bytes -------- */

/* TLS is in force for the session. */
bool tls_active(const struct session *s);
/* NULL: no TLS, or not yet. */
const struct tls_info *tls_session_info(const struct session *s);
/* The name that the client asked for; empty: none. */
struct view tls_session_name(const struct session *s);

/* As recv() and send(): -1 with errno, EAGAIN: later. */
ssize_t tls_recv(struct session *s, void *to, size_t n);
ssize_t tls_send(struct session *s, const void *p, size_t n);
/* tls_recv() can go on only when the socket takes something. */
bool tls_wants_write(const struct session *s);
/* There is input that the socket does not tell of. */
bool tls_pending(const struct session *s);
/* Has the client sent data that was not asked for? */
bool tls_spoke(const struct session *s);
/* Tell the client that nothing follows. */
void tls_bye(struct session *s);
void tls_free(struct session *s);

/* Make TLS for s, whose replies are all sent; tls_step() then does what can be
 * done now. */
enum tls_step { TLS_STEP_READ = 0, TLS_STEP_WRITE, TLS_STEP_DONE,
	TLS_STEP_FAILED };
void tls_begin(struct session *s);
enum tls_step tls_step(struct session *s);
/* Why it failed, for the log. */
const char *tls_failure(const struct session *s);

/* -- smtpd_handshake.c -------- */

/* Wait for a handshake to be done; then session_secured() comes, or the end
 * of s. */
void handshake_wait(struct session *s);
/* The replies before it are sent: begin. */
void handshake_start(struct session *s);
/* The socket is ready. */
void handshake_event(struct session *s);
/* It failed, or took too long. */
void handshake_failed(struct session *s, const char *why);
void handshake_forget(struct session *s);

/* -- smtpd_starttls.c -------- */

bool starttls_check(struct session *s, struct view args);
void starttls_proceed(struct session *s, struct view args);
/* It has begun too many handshakes. */
void starttls_refuse(struct session *s);
/* TLS from the first byte on: begins the handshake.  False: this service is
 * none of those. */
bool starttls_wrap(struct session *s);
/* What the policy may know of TLS; views into s. */
void tls_facts(const struct session *s, struct policy_facts *f);
/* Is STARTTLS offered to s? */
bool starttls_offered(const struct session *s);
/* REQUIRETLS may be said: within TLS alone (RFC 8689 section 4.1). */
bool requiretls_offered(const struct session *s);
/* The handshake is done. */
void session_secured(struct session *s);

#endif
