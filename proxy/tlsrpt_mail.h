/*
 * Mail of the tlsrpt role: handed to qmgr as other writers do, from the null
 * sender, with proto "tlsrpt", by which relays know that it is not to be
 * counted.  It is filtered, and shown to non_smtpd_milters, as mail of pickup
 * is, so that it can be signed.
 */
#ifndef PROXY_TLSRPT_MAIL_H
#define PROXY_TLSRPT_MAIL_H

#include "lib/buf.h"
#include "lib/role.h"

struct tlsrpt_mail;

/* why: the reply.  Never called before tlsrpt_mail_send() returns, nor after
 * tlsrpt_mail_cancel(). */
typedef void tlsrpt_mail_done(bool ok, const char *why, void *arg);

/* Text and addresses are copied. */
struct tlsrpt_mail *tlsrpt_mail_send(struct view text, const struct view *to,
    size_t n_to, tlsrpt_mail_done *done, void *arg);
/* NULL is allowed. */
void tlsrpt_mail_cancel(struct tlsrpt_mail **m);

/* A qmgr. */
void tlsrpt_mail_peer(const struct role_peer *peer, int fd);

#endif
