/*
 * The conversation of a session: what is said (relay_command.c), and what
 * the replies mean (relay_smtp.c).
 */
#ifndef PROXY_RELAY_SMTP_H
#define PROXY_RELAY_SMTP_H

#include "proxy/relay_delivery.h"
#include "proxy/relay_session.h"

enum session_loss { LOSS_CLOSED = 1, LOSS_TIMEOUT, LOSS_PROTOCOL, LOSS_LOCAL };
void smtp_lost(struct session *s, enum session_loss loss);
/* It has said EHLO, or HELO, and TLS was seen to: mail may follow. */
void smtp_ready(struct session *s);
/* A transaction for s->delivery. */
void smtp_begin(struct session *s);
/* After the reply at hand others are due, for commands were sent ahead. */
bool smtp_more_due(const struct session *s);
/* The socket takes bytes again. */
void smtp_writable(struct session *s);
/* The session lets go of its delivery and becomes what is said. */
void smtp_finish(struct session *s, enum relay_state to);
/* What it becomes after the reply at hand: that, unless it was 421. */
enum relay_state smtp_unless_closing(const struct session *s,
    enum relay_state to);
/* The server refuses the message, or one recipient, by its reply. */
void smtp_refused(struct session *s, enum delivery_whom whom, uint32_t which);
/* The reply to the whole text, or one of those of LMTP. */
void smtp_dot_reply(struct session *s);

/* On entering a state: */
void smtp_hello(struct session *s);
/* Is there something (more) to forward?  And say it. */
bool smtp_xforward_due(const struct session *s);
void smtp_xforward(struct session *s);
void smtp_mail(struct session *s);
void smtp_rcpt(struct session *s);
void smtp_data(struct session *s);
void smtp_text(struct session *s);
/*
 * The next piece of the text, RELAY_PIECE or more unless it is the last
 * (text_done), at out.  False: it cannot be read, and the session has ended.
 */
bool smtp_encode(struct session *s, char *out, size_t *ret_n)
    __attribute__((warn_unused_result));
void smtp_rset(struct session *s);
void smtp_quit(struct session *s);

/* Commands may be sent ahead. */
bool smtp_pipelining(const struct session *s);

#endif
