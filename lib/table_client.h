/*
 * Questions to the roles behind which tables are that need a connection
 * (lookup-ldap, lookup-tcp, ...).  A role that asks gives its channels to
 * them to table_client_peer(); a question is answered by one call of done,
 * after the time limit at the latest, never before table_client_ask() has
 * returned.  What goes wrong is TABLE_REPLY_FAILED.
 */
#ifndef LIB_TABLE_CLIENT_H
#define LIB_TABLE_CLIENT_H

#include "lib/role.h"

#define TABLE_NAME_MAX	1024u
#define TABLE_KEY_MAX	1024u

struct table_question;
/* The value is void after the call. */
typedef void table_done(enum table_reply reply, struct view value, void *arg);

/* A channel to a role of kind ROLE_TABLE; service says which type. */
void table_client_peer(const struct role_peer *peer, int fd);
/* Who asks: for the channels; and the time limit of a question. */
void table_client_init(enum role_kind self, int64_t ms);
struct table_question *table_client_ask(uint32_t service, struct view table,
    struct view key, table_done *done, void *arg);
/* done is not called any more. */
void table_client_cancel(struct table_question **q);

#endif
