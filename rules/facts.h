/*
 * Facts from outside: what an evaluation of restrictions asked for and was
 * told - records of the DNS, a table behind another role, a policy service,
 * whether an address can be delivered.  A fact has a name (kind, type, key)
 * and an answer (status, records); the evaluation looks it up by its name, and
 * if it is not there, the name is what it needs.
 *
 * A store has shelves by how long a fact is of use: for this evaluation, for
 * the transaction, for the session.  An empty store takes no memory.  What a
 * peer can make it hold is bounded; a full shelf is emptied, because all can
 * be asked again.
 */
#ifndef RULES_FACTS_H
#define RULES_FACTS_H

#include "lib/buf.h"
#include "lib/cursor.h"

enum fact_kind {
	FACT_NONE = 0,
	FACT_DNS,		/* type: enum fact_dns; key: a name */
	FACT_TABLE,		/* no fact of a store: rules/table_remote.h */
	FACT_SERVICE,		/* key: its endpoint; goes with a request */
	FACT_ADDRESS,		/* key: an address to be verified */
	FACT_PAUSE,		/* type: how many there were before;
				 * key: milliseconds */
	FACT_KINDS
};

/* RFC 1035 section 3.2.2, RFC 3596.  HOST is A and AAAA in one. */
enum fact_dns { FACT_A = 1, FACT_NS = 2, FACT_MX = 15, FACT_TXT = 16,
	FACT_HOST = 0xffff };

enum fact_status {
	FACT_UNKNOWN = 0,	/* not in the store */
	FACT_FOUND,		/* with at least one record */
	FACT_NO_DATA,		/* the name is there, not this type */
	FACT_NO_NAME,
	FACT_TEMPORARY,		/* no answer now */
	FACT_BOGUS,		/* an answer that must not be believed */
	FACT_STATUSES
};

enum fact_shelf { SHELF_EVALUATION = 0, SHELF_TRANSACTION, SHELF_SESSION,
	SHELVES };

#define FACT_KEY_MAX	1100u
#define FACT_RECORDS_MAX	100u
#define FACT_BYTES_MAX	16384u	/* of one answer */
#define FACT_REQUEST_MAX	16384u	/* to a policy service */
#define SHELF_FACTS_MAX	200u
#define SHELF_BYTES_MAX	131072u

struct fact_name {
	enum fact_kind kind;
	uint16_t type;
	struct view key;	/* case counts; names of hosts in lower case */
};

/*
 * Records as views: A 4 bytes; HOST 4 or 16 bytes; MX u16 preference (low
 * byte first) and name; NS a name; TXT text; a table or a service one value.
 * A null MX (RFC 7505) is one record with an empty name.
 */
struct fact {
	enum fact_status status;
	uint32_t n;
	struct view record[FACT_RECORDS_MAX];
};

struct facts {
	struct fact_entry *shelf[SHELVES];
	uint16_t count[SHELVES];
	uint32_t bytes[SHELVES];
};

/* False: not in the store.  The views live until the shelf is emptied. */
bool facts_find(const struct facts *f, const struct fact_name *name,
    struct fact *ret) __attribute__((warn_unused_result));
/*
 * Store an answer as facts_put_answer() wrote it.  False, and nothing is
 * stored: it is no such answer, or over a limit.
 */
bool facts_add(struct facts *f, enum fact_shelf shelf,
    const struct fact_name *name, struct view answer)
    __attribute__((warn_unused_result));
void facts_clear(struct facts *f, enum fact_shelf shelf);
void facts_free(struct facts *f);

/* u8 status, u32 n, n x view.  False: b is full. */
bool facts_put_answer(struct buf *b, enum fact_status status,
    const struct view *records, uint32_t n);
/* A record of an MX answer. */
bool fact_mx(struct view record, uint16_t *ret_preference,
    struct view *ret_name);

#endif
