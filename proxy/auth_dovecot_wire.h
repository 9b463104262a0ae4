/*
 * Lines of Dovecot's authentication protocol, version 1: words with TABs
 * between them, a LF at the end.
 *
 *	server: VERSION 1 minor, SPID pid, CUID n, COOKIE text,
 *	    MECH name property..., DONE
 *	client: VERSION 1 1, CPID pid
 *	client: AUTH id mechanism name=value... resp=base64
 *	    CONT id base64, CANCEL id
 *	server: OK id name=value..., CONT id base64, FAIL id name=value...
 *
 * Nothing of what the server says is trusted to be well formed.
 */
#ifndef PROXY_AUTH_DOVECOT_WIRE_H
#define PROXY_AUTH_DOVECOT_WIRE_H

#include "lib/buf.h"
#include "lib/sasl.h"
#include "proxy/auth.h"

#define DOVECOT_LINE_MAX	16384u
#define DOVECOT_VALUE_MAX	1024u	/* of user= and reason= */

enum dovecot_word {
	DOVECOT_BAD = 0,	/* not a line of this protocol */
	DOVECOT_OTHER,		/* of no interest, or of a later version */
	DOVECOT_VERSION, DOVECOT_MECH, DOVECOT_DONE,
	DOVECOT_OK, DOVECOT_CONT, DOVECOT_FAIL
};

struct dovecot_line {
	enum dovecot_word word;
	uint32_t major, minor;		/* VERSION */
	struct view mechanism;		/* MECH */
	uint32_t properties;		/* enum sasl_property */
	uint32_t id;			/* OK, CONT, FAIL */
	struct view challenge;		/* CONT: BASE64 */
	bool temporary;			/* FAIL: it could not tell */
	size_t login_n, reason_n;	/* OK, FAIL; 0: none was given */
	char login[DOVECOT_VALUE_MAX], reason[DOVECOT_VALUE_MAX];
};

/* A line, without its end.  ret has views into it. */
void dovecot_read(struct view line, struct dovecot_line *ret);
/* The AUTH line of a request; false: it is too long. */
bool dovecot_put_begin(struct buf *b, uint32_t id, const struct auth_begin *a);

#endif
