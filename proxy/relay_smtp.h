/*
 * The conversation of a session: what is said (relay_command.c), and what
 * the replies mean (relay_smtp.c).
 */
#ifndef PROXY_RELAY_SMTP_H
#define PROXY_RELAY_SMTP_H

#include "proxy/relay_session.h"

enum session_loss { LOSS_CLOSED = 1, LOSS_TIMEOUT, LOSS_PROTOCOL, LOSS_LOCAL };
void smtp_lost(struct session *s, enum session_loss loss);
/* It has said EHLO, or HELO, and TLS was seen to: mail may follow. */
void smtp_ready(struct session *s);
/* A transaction for s->delivery. */
void smtp_begin(struct session *s);
/* After the reply at hand, others are due: commands were sent ahead. */
bool smtp_more_due(const struct session *s);
/* The socket takes bytes again. */
void smtp_writable(struct session *s);
/* The session lets go of its delivery and becomes what is said. */
void smtp_finish(struct session *s, enum relay_state to);

/* On entering a state: */
void smtp_hello(struct session *s);
/* Is there something (more) to forward?  And say it. */
bool smtp_xforward_due(const struct session *s);
void smtp_xforward(struct session *s);
void smtp_mail(struct session *s);
void smtp_rcpt(struct session *s);
void smtp_data(struct session *s);
void smtp_text(struct session *s);
void smtp_rset(struct session *s);
void smtp_quit(struct session *s);

/* Commands may be sent ahead. */
bool smtp_pipelining(const struct session *s);

#endif
