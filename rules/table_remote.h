/*
 * Tables behind a connection - ldap: mysql: pgsql: sqlite: redis: memcache:
 * socketmap: tcp: - as seen from an evaluation, which has no sockets.  It
 * looks into what is known already, the answers of its struct table_known;
 * what is missing there is remembered as what is needed, and the table says
 * "failed" for the moment:
 *
 *	do {
 *		table_known_begin(k);
 *		... evaluate ...
 *	} while (table_known_end(k, &need) && ask(&need) gives
 *	    table_known_add(k, reply, value));
 *
 * A result of an evaluation that needs something is void.  An answer is kept
 * as long as k: one message, one command; there is no other cache.
 *
 * One that looks at many addresses gathers what it needs for several, up to
 * TABLE_NEEDS_MAX, and rules/table_ask.h asks for it all at the same time:
 * a thousand recipients are not a thousand evaluations, one after the other.
 */
#ifndef RULES_TABLE_REMOTE_H
#define RULES_TABLE_REMOTE_H

#include "lib/msg.h"
#include "rules/table.h"

#define TABLE_NEEDS_MAX	32u

struct table_known;

struct table_need {
	uint32_t service;	/* the type's number */
	struct view table;	/* "ldap:/etc/postern/users.cf" */
	struct view key;
};

struct table_known *table_known_new(void);
/* More than the first thing that is needed is remembered. */
struct table_known *table_known_gather(void);
void table_known_free(struct table_known **k);
/* The evaluations from now on are made with k; NULL: with nothing, and then
 * nothing is needed. */
void table_known_begin(struct table_known *k);
/* Not any more.  True: something is needed; the views live until the next
 * table_known_begin() or table_known_free(). */
bool table_known_end(struct table_known *k, struct table_need *ret);
/* Is something needed already?  Then "failed" is no news to the log. */
bool table_known_needs(void);
/* "Failed" is for want of an answer only, and what else is needed can be
 * remembered: go on with the next address. */
bool table_known_goes_on(void);
/* Nothing more can be remembered: what the evaluation goes on to find is not
 * of use. */
bool table_known_full(void);
/* The answer to what was needed. */
void table_known_add(struct table_known *k, enum table_reply reply,
    struct view value);
/* What else was, after table_known_end(): *ret is the need with that number,
 * from 0; false behind the last.  Each is to be answered. */
bool table_known_need(const struct table_known *k, size_t number,
    struct table_need *ret);
void table_known_answer(struct table_known *k, size_t number,
    enum table_reply reply, struct view value);
/* How many such tables this process has opened: with none, there is nothing
 * to begin or end. */
size_t table_remote_opened(void);

/* Ask at once instead, for commands that have nothing else to do. */
typedef void table_ask_now(const struct table_need *need,
    enum table_reply *ret, struct buf *value, void *arg);
void table_remote_ask_with(table_ask_now *ask, void *arg);

/* The number of a type, from 1; 0: there is no such type. */
uint32_t table_remote_service(struct view type);
/* The type with this number; NULL behind the last. */
const char *table_remote_type(uint32_t service);
/* The .cf file of a table, "" if it has none. */
struct view table_remote_file(struct view table);
/*
 * Call each for the tables of these types that a parameter's value names,
 * wherever they stand in it, without "proxy:".
 */
void table_remote_names(struct view value,
    void (*each)(uint32_t service, struct view table, void *arg), void *arg);

#endif
