/*
 * The envelope of a message: what SMTP said about it, apart from its text.
 * Its encoded form is written once by the receiving role, kept verbatim in
 * qmgr's memory and in the queue file, and passed on to filter, relay and
 * bounce; each of them decodes and checks it anew.
 *
 * Decoding makes views into the encoded bytes; only the recipient array is
 * allocated (in the arena given).
 */
#ifndef LIB_ENVELOPE_H
#define LIB_ENVELOPE_H

#include "lib/cursor.h"
#include "lib/mem.h"
#include "lib/netaddr.h"

/* The number behind a queue id.  Text form: 11 hexadecimal digits. */
struct queue_id { uint64_t n; };
#define QUEUE_ID_TEXT	12
const char *queue_id_text(struct queue_id id, char buf[QUEUE_ID_TEXT]);
bool queue_id_parse(struct view text, struct queue_id *ret);

#define ENVELOPE_RCPTS_MAX	10000u

enum envelope_flag {
	ENVELOPE_8BIT = 1 << 0,		/* BODY=8BITMIME */
	ENVELOPE_SMTPUTF8 = 1 << 1,
	ENVELOPE_NO_FILTER = 1 << 2,	/* internal origin: not filtered */
	ENVELOPE_LOCAL = 1 << 3,	/* from a user of this host, or a client
					 * of local_header_rewrite_clients: its
					 * header is completed */
	ENVELOPE_REQUIRETLS = 1 << 4,	/* RFC 8689: see rules/requiretls.h */
	ENVELOPE_TLS_OPTIONAL = 1 << 5,	/* "TLS-Required: no" in its header */
	/* receive_override_options; other bits are for others */
	ENVELOPE_NO_MAPPING = 1 << 8,	/* only completed addresses, no BCC */
	ENVELOPE_NO_CHECKS = 1 << 9,	/* no header and body checks */
	ENVELOPE_NO_MILTERS = 1 << 10,
};

struct recipient {
	struct view addr;		/* internal form */
	struct view orig;		/* what the client said, if another */
	struct view orcpt;		/* "rfc822;..."; see lib/dsn.h */
	uint8_t notify;			/* enum dsn_notify; 0: not given */
};

/* RFC 3461 section 4.1; NEVER stands alone. */
enum dsn_notify { NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4,
	NOTIFY_DELAY = 8 };

struct envelope {
	uint32_t flags;
	struct view sender;		/* internal form; empty: <> */
	struct view client_name;	/* "unknown" if not verified */
	struct view client_addr;	/* numeric text */
	uint16_t client_port;
	struct view helo;
	struct view proto;		/* "SMTP", "ESMTP" */
	struct view login;		/* SASL; empty: none */
	struct view envid;		/* decoded; see lib/dsn.h */
	struct view full_name;		/* with ENVELOPE_LOCAL only */
	uint8_t ret;			/* RFC 3461: 0, 'F' or 'H' */
	uint32_t nrcpts;
	struct recipient *rcpts;
	/* Its id at another mail server; not encoded.  Empty: ours. */
	struct view name;
};

/* What a message is called in the log. */
#define MESSAGE_NAME	64
const char *envelope_name(const struct envelope *e, struct queue_id id,
    char buf[MESSAGE_NAME]);
/* Printable ASCII without blanks, at most MESSAGE_NAME - 1 bytes, not empty:
 * good for that. */
bool envelope_name_good(struct view name);

/* false: b is full */
bool envelope_put(struct buf *b, const struct envelope *e);
/* One encoded envelope (put_view'ed by the sender).  Refuses what is not
 * exact, has no recipient or more than ENVELOPE_RCPTS_MAX, addresses over
 * ADDRESS_MAX, or what no client could have said about notifications. */
bool envelope_get(struct view encoded, struct arena *a, struct envelope *ret)
    __attribute__((warn_unused_result));

#endif
