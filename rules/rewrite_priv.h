/*
 * Inside the rewriter: shared by rewrite*.c, used by nobody else.
 */
#ifndef RULES_REWRITE_PRIV_H
#define RULES_REWRITE_PRIV_H

#include "lib/address.h"
#include "lib/conf_choice.h"
#include "rules/addr_find.h"
#include "rules/mailbox.h"
#include "rules/rewrite.h"

#define REWRITE_VALUE_MAX	(1u << 20)	/* of a table's result */
#define REWRITE_RESULTS_MAX	10000u		/* addresses in one */

struct rewrite_map {
	const char *name;	/* of its parameter */
	struct table_list tables;
	unsigned classes;
	bool propagate;		/* an unmatched extension */
};

/* How incomplete addresses are completed. */
struct rewrite_complete {
	const char *origin, *domain;
	bool append_origin, append_domain, bang, percent;
};

struct rewrite {
	struct classes *classes;
	struct addr_keys keys;
	struct rewrite_complete local, remote;
	struct rewrite_map sender, recipient, canonical, alias, sender_bcc,
	    recipient_bcc, generic;
	const char *masquerade;		/* words */
	struct addr_list *masquerade_exceptions;
	unsigned masquerade_classes;
	const char *always_bcc, *empty_recipient;
	int64_t expansion_limit, recursion_limit, length_limit;
	bool dequoted, keep_original;

	rewrite_trace *trace;
	void *trace_arg;
	char problem[256];

	/* Scratch.  results: n addresses one behind the other in text. */
	struct buf value, where, address, other, spare, client;
	struct mailbox_scan scan, values;
	struct {
		struct buf text;
		size_t *end;
		size_t n, room;
	} results;
};

/* rewrite_address.c: one address */
struct rewrite_complete rewrite_complete_of(const struct conf *cf);
/*
 * addr completed, into out (cleared first).  A quoted local part has no
 * routing in it.  False: it would be too long; out is addr.
 */
bool rewrite_complete(const struct rewrite_complete *c, struct view addr,
    bool has_domain, bool quoted, struct buf *out);
/* In the local way, with its last '@' as what separates the domain. */
void rewrite_complete_local(const struct rewrite *r, struct view addr,
    struct buf *out);
/*
 * What a map gives for addr: r->results.  TABLE_FAILED also when the result
 * has no address in it, or too many.
 */
enum table_answer rewrite_map_find(struct rewrite *r,
    const struct rewrite_map *m, struct view addr);
struct view rewrite_result(const struct rewrite *r, size_t i);
/* The canonical tables and masquerading for this class; addr is changed. */
enum rewrite_answer rewrite_canonical(struct rewrite *r,
    enum rewrite_class class, struct buf *addr);
void rewrite_report_step(struct rewrite *r, const char *what,
    struct view before, struct view after);
void rewrite_set_problem(struct rewrite *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
