/*
 * Restrictions (smtpd_relay_restrictions, smtpd_recipient_restrictions) as a
 * pure function: facts about a client and a recipient go in, a decision comes
 * out, or the name of a fact that is still needed.  The caller finds it,
 * stores it among the facts and asks again; nothing here waits, calls back,
 * or remembers a question.
 *
 * A policy is opened before the jail and never changes.
 */
#ifndef RULES_POLICY_H
#define RULES_POLICY_H

#include "lib/conf.h"
#include "lib/netaddr.h"
#include "rules/class.h"

struct policy;

enum policy_fact {
	FACT_NONE = 0,
	FACT_CLIENT_NAME	/* verified name of the client, or "unknown" */
};

struct policy_facts {
	struct netaddr client;
	struct view client_name;	/* .p NULL: not known yet */
	struct view helo;		/* empty: none given */
	struct view sender;		/* internal form */
	struct view recipient;		/* internal form, with its domain */
	bool authenticated;
};

enum policy_outcome {
	POLICY_NONE = 0,
	POLICY_PERMIT,
	POLICY_REFUSE,		/* code, status, text */
	POLICY_NEED		/* fact */
};

#define POLICY_TEXT_MAX		1400u
#define POLICY_WARNED_MAX	4u

/* A refusal: "554 5.7.1 <user@example.com>: Relay access denied". */
struct policy_reply {
	uint16_t code;
	char status[8];
	char text[POLICY_TEXT_MAX];
};

struct policy_result {
	enum policy_outcome outcome;
	enum policy_fact need;
	struct policy_reply reply;
	/* What warn_if_reject would have refused. */
	unsigned n_warned;
	struct policy_reply warned[POLICY_WARNED_MAX];
};

/*
 * own: the addresses of this machine, for user@[address].  NULL after at
 * least one error was reported: an unknown restriction, a list or table that
 * cannot be read, or restrictions that never refuse a stranger.
 */
struct policy *policy_open(const struct conf *cf, const struct netaddr *own,
    size_t n_own, table_report *report, void *arg);
void policy_free(struct policy **p);

/* The decision about one recipient.  *ret is filled completely. */
void policy_recipient(const struct policy *p, const struct policy_facts *f,
    struct policy_result *ret);

/* Is the client in mynetworks?  TABLE_FAILED: a table did not answer. */
enum table_answer policy_in_mynetworks(const struct policy *p,
    struct view client_name, const struct netaddr *client);

#endif
