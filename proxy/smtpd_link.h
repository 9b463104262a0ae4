/*
 * The smtpd role's channels to lookup and qmgr.  A new channel takes over from
 * the ones before it; those are kept until what runs over them is answered.
 */
#ifndef PROXY_SMTPD_LINK_H
#define PROXY_SMTPD_LINK_H

#include "lib/role.h"
#include "proxy/smtpd.h"

/* Where made texts for facts lie. */
struct policy_text {
	char id[QUEUE_ID_TEXT];
	char instance[80];
};

void names_init(struct server *sv);
void names_peer(const struct role_peer *peer, int fd);
void queue_init(struct server *sv);
void queue_peer(const struct role_peer *peer, int fd);
void milters_init(struct server *sv);
void milters_peer(const struct role_peer *peer, int fd);
void auths_init(struct server *sv);
void auths_peer(const struct role_peer *peer, int fd);
/* Give back what is not needed: before the role ends. */
void queue_end(void);

#endif
