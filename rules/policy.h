/*
 * Restrictions (smtpd_client_restrictions, ... smtpd_end_of_data_restrictions)
 * as a pure function: facts about a client, its session and a message go in, a
 * decision comes out, or the name of a fact that is still needed.  The caller
 * finds it, stores it (rules/facts.h) and asks again; nothing here waits,
 * calls back, or remembers a question.
 *
 * A policy is opened before the jail and never changes.
 */
#ifndef RULES_POLICY_H
#define RULES_POLICY_H

#include "lib/conf.h"
#include "lib/msg.h"
#include "lib/netaddr.h"
#include "rules/class.h"
#include "rules/facts.h"

struct policy;

enum policy_stage {
	STAGE_NONE = 0,
	STAGE_CLIENT,		/* before the greeting */
	STAGE_HELO, STAGE_MAIL,
	STAGE_RCPT,		/* and VRFY */
	STAGE_DATA,
	STAGE_EOD,		/* the text is complete */
	STAGE_ETRN,
	STAGES
};

#define POLICY_TEXT_MAX		512u
#define POLICY_NOTES_MAX	32u
#define POLICY_HITS_MAX		64u
#define POLICY_LIST_MAX		16u	/* BCC, PREPEND: of one message */
#define POLICY_ASKS_MAX		100u	/* facts for one evaluation */

/* A refusal: "554 5.7.1 <user@example.com>: Relay access denied". */
struct policy_reply {
	uint16_t code;
	char status[12];
	char text[POLICY_TEXT_MAX];
};

/* What a stage leaves for those after it, with smtpd_delay_reject = no: a
 * "no" that was put off (defer_if_permit).  NULL: none. */
struct policy_carry {
	struct policy_reply *client, *helo, *mail;
};
void policy_carry_free(struct policy_carry *c);

struct policy_facts {
	struct netaddr client, server;
	struct view client_name;	/* verified, or "unknown" */
	struct view reverse_name;	/* not verified, or "unknown" */
	enum name_status name_status;
	bool has_helo, has_sender, has_recipient;
	struct view helo;
	struct view sender;		/* internal form */
	struct view recipient;		/* internal form, with its domain */
	struct view etrn;
	struct view verb;		/* for a policy service: "EHLO" */
	struct view protocol;		/* "ESMTP" */
	struct view queue_id, instance;
	uint32_t recipients;		/* accepted so far */
	uint64_t size;			/* of the text, or declared */
	bool utf8;			/* the transaction is SMTPUTF8 */
	bool pipelined;			/* the client did not wait */
	bool discarding;		/* DISCARD was said before */
	/* Empty: no TLS, no login */
	struct view tls_protocol, tls_cipher, tls_subject, tls_issuer;
	struct view tls_fingerprint, tls_pubkey_fingerprint, tls_sni;
	uint32_t tls_bits;
	bool tls_trusted;
	struct view login, login_method, login_sender;
	const struct facts *known;
	unsigned asked;			/* for this evaluation, till now */
	const struct policy_carry *carry;	/* may be NULL */
};

enum policy_outcome {
	POLICY_NONE = 0,
	POLICY_PERMIT,
	POLICY_REFUSE,		/* reply */
	POLICY_NEED		/* need */
};

/* A line for the log: "warn", "hold", "reject_warning", ... */
struct policy_note {
	const char *action;
	struct view text;
	struct view where;	/* "file:line", or empty */
};

/*
 * A rule that fired: a row of a table, "file:line" and its hash
 * (rules/table_row.h), or a restriction, "smtpd_relay_restrictions: reject_...".
 */
struct policy_hit {
	struct view where;
	uint64_t hash;
	bool trial;		/* it warns, or would have refused */
};

struct policy_result {
	enum policy_outcome outcome;
	struct fact_name need;
	enum fact_shelf shelf;		/* where to put it */
	/* FACT_SERVICE: whom to ask (the key may be more than that), what to
	 * send, and how long an answer may take. */
	struct view endpoint, request;
	int64_t request_ms;
	struct policy_reply reply;
	bool reply_policy;		/* not a fault of ours */
	struct view where;		/* the rule that refused */
	uint32_t softened;		/* soft_mode: notes of that */
	uint32_t n_notes;
	struct policy_note notes[POLICY_NOTES_MAX];
	/* Further ones are not listed. */
	uint32_t n_hits;
	struct policy_hit hits[POLICY_HITS_MAX];
	/* For the message, when permitted. */
	bool hold, discard;
	struct view hold_text, hold_where, redirect, filter;
	uint32_t n_bcc, n_prepend;
	struct view bcc[POLICY_LIST_MAX], prepend[POLICY_LIST_MAX];
	/* What this stage leaves; NULL text: nothing. */
	bool deferred;
	struct policy_reply deferral;
	/* Where the views above point, until the next use. */
	struct arena *arena;
};
struct policy_result *policy_result_new(void);
void policy_result_free(struct policy_result **r);

/*
 * own: the addresses of this machine, for user@[address].  NULL after at
 * least one error was reported: an unknown restriction, a list or table that
 * cannot be read, or restrictions that never refuse a stranger.
 */
struct policy *policy_open(const struct conf *cf, const struct netaddr *own,
    size_t n_own, table_report *report, void *arg);
void policy_free(struct policy **p);

/*
 * For `postern check`: what can be opened and is hardly meant.  False after an
 * error: every client may send mail to everybody.
 */
bool policy_lint(const struct policy *p, table_report *report, void *arg);

/*
 * Call each for every restriction without a table and every class of
 * restrictions, by the name it has as a struct policy_hit; trial: behind
 * warn_if_reject.
 */
void policy_each_rule(const struct policy *p,
    void (*each)(struct view where, bool trial, void *arg), void *arg);
/* The same for the tables that they look into; trial: none of them is looked
 * into without warn_if_reject. */
void policy_each_table(const struct policy *p,
    void (*each)(const char *spec, bool trial, void *arg), void *arg);

/* Would policy_evaluate() do anything at this stage?  With
 * smtpd_delay_reject, client, HELO and MAIL are looked at with RCPT. */
bool policy_has(const struct policy *p, enum policy_stage stage);
/* The decision.  *ret is filled completely. */
void policy_evaluate(const struct policy *p, enum policy_stage stage,
    const struct policy_facts *f, struct policy_result *ret);

/* Is the client in mynetworks?  TABLE_FAILED: a table did not answer. */
enum table_answer policy_in_mynetworks(const struct policy *p,
    struct view client_name, const struct netaddr *client);

/* smtpd_reject_filter_maps and smtpd_reject_footer_maps, for all replies. */
const struct table_list *policy_reject_filters(const struct policy *p);
const struct table_list *policy_reject_footers(const struct policy *p);
/* "4xx text" or "5xx text": what a refusal may become. */
bool policy_is_refusal(struct view line);

/*
 * A text with $name and ${name} of the session (smtpd_reject_footer): appended
 * to out; a "\n" written as two characters is a line break.  False: an unknown
 * name, or out is full.
 */
bool policy_expand(const struct policy *p, const struct policy_facts *f,
    struct view text, struct buf *out);

/* What a policy service answered: the value of action=.  False: the reply is
 * not one (Postfix's SMTPD_POLICY_README). */
bool policy_service_reply(struct view text, struct view *ret_action);

#endif
