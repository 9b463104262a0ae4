/*
 * The auth roles: auth-TYPE talks to authentication servers of one type for
 * all smtpds, so that passwords and what tells whether they are right pass
 * through one process that does nothing else.
 *
 * auth_main.c has the channels to the smtpds and the conversations that go on;
 * a backend has the servers.  A conversation waits either for the server
 * (AUTH_WAITS_SERVER), then auth_say() comes, or for the client; it ends with
 * any answer but a challenge, or with auth_backend_stop().
 *
 * Limits: AUTH_MAX conversations; what a text may be, lib/sasl.h.  Memory that
 * had a password in it is overwritten when it is given up.
 */
#ifndef PROXY_AUTH_H
#define PROXY_AUTH_H

#include <sys/queue.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/conf.h"
#include "lib/msg.h"
#include "lib/role.h"
#include "lib/sasl.h"

#define AUTH_MAX	4096u	/* a power of two */

struct auth_begin {
	struct view mechanism, service, realm;
	bool tls;
	struct view tls_name;
	struct view client_addr, server_addr;
	uint16_t client_port, server_port;
	bool has_response;
	struct view response;	/* BASE64 */
};

struct auth_server {
	char *name;		/* as in auth_servers */
	bool told;		/* whether it is there is known */
	uint32_t n;		/* 0: it is not */
	struct {
		char name[SASL_MECHANISM_MAX + 1];
		uint32_t properties;
	} mechanisms[SASL_MECHANISMS_MAX];
	void *backend;
};

enum auth_waits { AUTH_WAITS_SERVER = 1, AUTH_WAITS_CLIENT };

struct auth_peer;
struct auth_talk {
	uint32_t id;		/* not 0; auth_talk_find() */
	struct auth_server *server;
	enum auth_waits waits;
	struct mono since;	/* it waits so */
	void *backend;
	struct auth_peer *peer;
	uint32_t conversation;	/* number of the smtpd's */
	struct auth_talk *next;	/* of that hash */
	TAILQ_ENTRY(auth_talk) link;	/* those that wait for servers */
};

/* -- auth_main.c -------- */

/* The server has answered; after all but a challenge t is gone.  text: a
 * challenge in BASE64, or for the log; login: see MSG_AUTH_SAYS. */
void auth_say(struct auth_talk *t, enum auth_says says, struct view text,
    struct view login);
struct auth_talk *auth_talk_find(uint32_t id);
/* What the server offers has changed, or become known. */
void auth_offer(struct auth_server *s);
/* All conversations with s end like that; n: how many. */
unsigned auth_fail_all(struct auth_server *s, const char *why);
/* The conversation that has waited longest for s. */
struct auth_talk *auth_oldest(const struct auth_server *s);

/* -- a backend -------- */

extern const struct role_def auth_backend_role;	/* kind, jail, start */
/* Before the jail.  False after an error was reported. */
bool auth_backend_open(struct auth_server *s, const struct conf *cf);
void auth_backend_begin(struct auth_talk *t, const struct auth_begin *a);
void auth_backend_go_on(struct auth_talk *t, struct view response);
/* t ends without an answer of the server. */
void auth_backend_stop(struct auth_talk *t);

#endif
