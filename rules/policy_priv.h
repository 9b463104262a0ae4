/*
 * Inside the policy: shared by the reader of restrictions
 * (restriction_list.c), their evaluation (policy_eval.c) and the restrictions
 * themselves (restriction_*.c).  Nobody else includes this.
 */
#ifndef RULES_POLICY_PRIV_H
#define RULES_POLICY_PRIV_H

#include "rules/access.h"
#include "rules/addr_find.h"
#include "rules/policy.h"
#include "rules/route.h"

#define VALUE_MAX	4096u	/* of an access table */
#define FOUND_MAX	(1u << 20)	/* of other tables, as alias lists */
#define DEPTH_MAX	50u	/* lists within lists */
#define HIT_ARGUMENT_MAX	300u	/* bytes shown in its name */
#define WORDS_MAX	50u	/* restrictions in an access table's result */

enum argument { ARG_NONE = 0, ARG_TABLE, ARG_DOMAIN, ARG_SERVICE,
	ARG_SECONDS };

enum subject { SUBJECT_NONE = 0, SUBJECT_CLIENT, SUBJECT_REVERSE, SUBJECT_HELO,
	SUBJECT_SENDER, SUBJECT_RECIPIENT, SUBJECT_ETRN, SUBJECT_DATA,
	SUBJECT_EOD, SUBJECT_CCERT, SUBJECT_LOGIN, SUBJECTS };
enum { DNSXL_REJECT = 1, DNSXL_PERMIT };
enum { LOGIN_AUTHENTICATED = 1, LOGIN_UNAUTHENTICATED = 2, LOGIN_BOTH = 3,
	LOGIN_KNOWN = 4 };

enum step { STEP_NEXT = 1, STEP_PERMIT, STEP_REFUSE, STEP_NEED };

struct eval;
struct restriction;

struct restriction_kind {
	const char *word;
	enum argument argument;
	enum step (*fn)(struct eval *e, const struct restriction *r);
	int variant;
};

struct restriction {
	const struct restriction_kind *kind;
	const struct table *table;		/* ARG_TABLE */
	const struct restriction_class *class;	/* a class's name */
	struct view arg;			/* as written */
	const struct policy_service *service;	/* ARG_SERVICE */
	int64_t ms;				/* ARG_SECONDS */
};

/* check_policy_service, or "{ endpoint, name = value, ... }" */
struct policy_service {
	struct policy_service *next;
	char *spec;		/* as written: the same words are one service */
	char *endpoint, *default_action, *context;
	int64_t timeout;	/* ms */
};

struct restriction_list {
	const char *name;	/* the parameter; NULL: a class */
	struct restriction *list;
	size_t n;
};

struct restriction_class {
	char *name;
	struct restriction_list list;
	bool open, read;	/* while reading: cycles */
	struct restriction_class *next;
};

/* A table that some restriction names, opened once. */
struct policy_table {
	char *spec;
	struct table *table;
	bool access;		/* its results were checked */
	struct policy_table *next;
};

struct policy {
	const struct conf *cf;
	struct restriction_list client, helo, mail, relay, rcpt, data, eod,
	    etrn;
	struct restriction_class *class_list;
	struct policy_table *tables;
	struct policy_service *services;
	struct addr_list *mynetworks, *backup_networks;
	struct addr_list *log_permits;	/* smtpd_log_access_permit_actions */
	struct classes *classes;
	struct addr_keys keys;
	struct access_style style;
	struct netaddr *own;	/* inet_interfaces: n_bound; then */
	size_t n_own, n_bound;	/* ... proxy_interfaces: n_own in all */
	/* Who is listed: by class. */
	struct table_list local_rcpts, mailbox_rcpts, relay_rcpts, aliases,
	    canonical, sender_canonical, rcpt_canonical;
	struct table_list logins, rbl_replies, clientcerts;
	struct table_list reject_filters, reject_footers;
	bool inside;		/* of another mail server */
	bool delay, unlisted_rcpt, unlisted_sender, need_class;
	/* unknown_*_tempfail_action: defer now, or if permitted */
	bool helo_put_off, address_put_off, verify_rcpt_put_off,
	    verify_sender_put_off;
	bool verify_catchall_put_off;	/* its yes is as no answer */
	/* Where mail would go, if that can be error: or retry: at all; else
	 * NULL.  The last rule that it looked at. */
	struct router *router;
	struct buf route_where;
};

/* One evaluation. */
struct eval {
	const struct policy *p;
	const struct policy_facts *f;
	struct policy_result *r;
	enum policy_stage stage;
	/* What the list is about: "<name>: CLASS rejected". */
	struct view name;
	enum subject subject;
	enum subject bare;		/* of a table without check_... */
	unsigned depth, warn;
	struct view where;		/* of the rule at work */
	struct view list;		/* parameter, class or table result */
	const struct restriction *at;	/* at work, of that list */
	enum address_class class;	/* of the recipient; NONE: not asked */
	bool listed_rcpt, listed_sender;	/* were checked */
	bool put_off_permit, put_off_reject;
	bool discard;
	/* soft_mode: a rule would have decided; the list at work, the refusal
	 * that was put off, are about who may relay; nothing is softened. */
	bool softened, guard, put_off_guarded, hard;
	unsigned pauses, steps;
	struct buf *value;
	/* Last, and set only when the flags above are: they are large. */
	struct policy_reply on_permit, on_reject;
};

extern const struct restriction_kind restriction_kinds[];
extern const size_t restriction_kinds_count;
extern const struct restriction_kind restriction_bare, restriction_class_kind;
enum step general_bare(struct eval *e, const struct restriction *r);
enum step general_class(struct eval *e, const struct restriction *r);
#define RESTRICTION(word, argument, function, variant)			\
	enum step function(struct eval *e, const struct restriction *r);
#include "rules/restriction.def"
#undef RESTRICTION

/* -- reading (restriction_list.c) -------- */

struct restriction_reader {
	struct policy *p;
	const char *what;	/* the parameter, for messages */
	table_report *report;
	void *arg;
	unsigned depth;
};
bool restriction_read(struct restriction_reader *rd, const char *text,
    struct restriction_list *ret);
/* A service of these words; NULL after a report. */
const struct policy_service *service_open(struct restriction_reader *rd,
    struct view spec);
void services_free(struct policy *p);
void restriction_list_free(struct restriction_list *l);
bool restriction_classes(struct restriction_reader *rd);
bool restriction_protects(const struct restriction_list *l);
/* "LIST: reject_rbl_client zen.example" */
void restriction_name(const struct restriction *r, struct view list,
    struct buf *out);
/* The words of an access table's result; at most max.  False: *ret_why. */
bool restriction_words(const struct policy *p, struct view text,
    struct restriction *list, size_t max, size_t *ret_n,
    const char **ret_why);
const struct restriction_class *restriction_class_find(
    const struct policy *p, struct view name);

/* -- evaluation (policy_eval.c) -------- */

/* "Sender address" */
const char *subject_text(enum subject s);
/* The value of a subject; .p NULL: there is none. */
struct view subject_value(const struct eval *e, enum subject s);
/* How long a fact about it is of use. */
enum fact_shelf subject_shelf(enum subject s);

enum step eval_list(struct eval *e, const struct restriction *list, size_t n);
/* A refusal; with warn_if_reject it is noted, and the answer is NEXT. */
enum step eval_refuse(struct eval *e, unsigned code, const char *status,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* "<name>: CLASS rejected: text" */
enum step eval_reject(struct eval *e, unsigned code, const char *status,
    struct view name, enum subject s, const char *text);
/* soft_mode: may what a rule says now be no more than said? */
bool eval_soft(struct eval *e);
/* It is, with "soft: would" in front, if it is the first one. */
void eval_would(struct eval *e, const char *action, struct view text);
/* Not for warn_if_reject: a lookup that failed, a mistake of ours. */
enum step eval_lookup_failed(struct eval *e, struct view about);
enum step eval_config_failed(struct eval *e);
/* A refusal that counts if everything else permits, or refuses. */
void eval_put_off_reject(struct eval *e, unsigned code, const char *status,
    struct view name, enum subject s, const char *text);
/* put_off: the same for permit, unless warn_if_reject; else refuse now. */
enum step eval_put_off_permit(struct eval *e, bool put_off, unsigned code,
    const char *status, struct view name, enum subject s, const char *text);
void eval_note(struct eval *e, const char *action, struct view text);
/* "name[address]" */
struct view eval_client_text(struct eval *e);
/* smtpd_log_access_permit_actions: log it if that names the action.  from: ""
 * or " from TABLE". */
void eval_permit_note(struct eval *e, struct view action, enum subject s,
    struct view name, const char *from);
/* The restriction permits; what tables say is noted by eval_permit_note(). */
void eval_permitted(struct eval *e, const struct restriction *r);
/* The row e->where fired; it may turn out to be a trial. */
void eval_hit(struct eval *e, uint64_t hash);
/* The rule at work refuses; trial: it only warns. */
void eval_decided(struct eval *e, bool trial);
/* In the arena of the result. */
struct view eval_text(struct eval *e, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
struct view eval_copy(struct eval *e, struct view v);
/* True: *ret is the answer; false: *ret_step is what to return. */
bool eval_fact(struct eval *e, const struct fact_name *name,
    enum fact_shelf shelf, struct fact *ret, enum step *ret_step);
bool eval_dns(struct eval *e, enum fact_dns type, struct view name,
    enum fact_shelf shelf, struct fact *ret, enum step *ret_step);
/* The address as the envelope will have it; empty: the null sender. */
struct view eval_address(struct eval *e, struct view addr);
bool eval_is_unknown(struct view name);

/* -- shared by restrictions -------- */

/* Mail for this recipient is ours to take: PERMIT, NEXT or REFUSE. */
enum step destination_ours(struct eval *e);
/* The same without facts or failures. */
bool destination_known_ours(struct eval *e);
bool destination_routed(const struct eval *e);
/* x.1.n in a status must fit what is refused. */
const char *status_for_subject(struct view status, enum subject s,
    char ret[12]);
/* What a table (or a service) said.  what: for messages. */
enum step access_result(struct eval *e, struct view value, const char *what,
    struct view name, enum subject s);
/* Look up keys of a kind; found: access_result(). */
enum step access_lookup(struct eval *e, const struct table *t,
    enum access_key kind, struct view key, struct view name, enum subject s,
    bool *ret_found);
/* smtpd_reject_filter_maps make refusals of refusals. */
bool policy_check_rejects(struct restriction_reader *rd);
bool access_check_table(struct policy *p, const struct table *t,
    table_report *report, void *arg);
/* policy_expand(), with names that come first; ended by one without name. */
struct expand_name {
	const char *name;
	struct view value;
};
bool expand_text(const struct policy *p, const struct policy_facts *f,
    const struct expand_name *more, struct view text, struct buf *out);
/* "5.7.1"? */
bool expand_is_status(struct view word);
bool dnsxl_valid(struct view domain, const char **ret_why);
/* name=, fully in lower case; false: no name that the DNS knows. */
bool dns_name(struct view name, char *ret, size_t size);
enum step address_unlisted_of(struct eval *e, enum subject s);

#endif
