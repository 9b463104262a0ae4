/*
 * ldap: tables, in three parts: the parameters (engine_ldap_conf.c), one
 * connection (engine_ldap_conn.c), and the search with what follows from it,
 * members of groups and the like (engine_ldap.c).
 *
 * Text in a directory is UTF-8: a key that is not, or holds a NUL, is in no
 * directory and not asked for.
 */
#ifndef PROXY_ENGINE_LDAP_H
#define PROXY_ENGINE_LDAP_H

#include <sys/time.h>

#include <ldap.h>

#include "lib/clock.h"
#include "proxy/engine_format.h"

#define LDAP_SERVERS_MAX	32u
#define LDAP_ATTRS_MAX		64u

enum ldap_bind { LDAP_BIND_NONE = 1, LDAP_BIND_SIMPLE, LDAP_BIND_SASL };

/* What an attribute is for. */
enum ldap_attr_kind {
	LDAP_ATTR_NONE = 0,
	LDAP_ATTR_RESULT,	/* result_attribute */
	LDAP_ATTR_LEAF,		/* leaf_result_attribute */
	LDAP_ATTR_TERMINAL,	/* terminal_result_attribute */
	LDAP_ATTR_SPECIAL	/* special_result_attribute: DNs and URLs */
};

struct ldap_tls {
	char *ca_file, *ca_dir, *cert, *key, *ciphers;	/* NULL: not set */
	bool verify;
	bool start;		/* start_tls */
	void *context;		/* the library's, with all of these; NULL */
};

struct ldap_conf {
	char *servers[LDAP_SERVERS_MAX];	/* URLs */
	size_t n_servers;
	int64_t timeout_ms;
	int version, dereference, debug;
	bool chase;
	enum ldap_bind bind;
	char *dn, *password;
	char *sasl_mechs, *sasl_realm, *sasl_authz, *sasl_secprops;
	struct ldap_tls tls;
	char *base;		/* template */
	int scope;
	char *attrs[LDAP_ATTRS_MAX + 1];	/* ends with NULL */
	enum ldap_attr_kind kinds[LDAP_ATTRS_MAX];
	unsigned recursion_limit, expansion_limit, size_limit;
};

/* Reads the parameters, and loads what they and the library need: keys and
 * certificates, mechanisms.  Mistakes are noted in c. */
void ldap_conf_read(struct ldap_conf *conf, const struct engine_conf *c);
void ldap_conf_free(struct ldap_conf *conf);
/* By the name of an attribute as a server spells it. */
enum ldap_attr_kind ldap_conf_kind(const struct ldap_conf *conf,
    struct view name);

/*
 * A connection to one of the servers, in the order they are written.  One
 * that failed is passed over for a minute, but if it is the only one, for a
 * second.
 */
struct ldap_conn {
	const struct ldap_conf *conf;
	LDAP *ld;		/* NULL: none */
	struct ldap_conncb made;	/* called for each of its sockets */
	size_t server;		/* of ld */
	struct mono until;	/* its sockets are waited for */
	struct mono down_until[LDAP_SERVERS_MAX];
};

/* False: no server can be used; err says why. */
bool ldap_conn_open(struct ldap_conn *conn, struct buf *err);
/* From now on, what is done with it may take one timeout; it ends then, even
 * in the middle of a TLS handshake or a message. */
struct mono ldap_conn_begin(struct ldap_conn *conn);
void ldap_conn_close(struct ldap_conn *conn);
/* Something is wrong with the server of the connection: close it and try
 * others first. */
void ldap_conn_down(struct ldap_conn *conn);
/* Is this error the server's or the connection's, not the search's? */
bool ldap_conn_broken(int rc);
/* Load what the TLS parameters name; LDAP_SUCCESS or an error. */
int ldap_conn_tls_load(struct ldap_tls *tls);
void ldap_conn_tls_free(struct ldap_tls *tls);
struct timeval ldap_conn_timeout(const struct ldap_conf *conf);

#endif
