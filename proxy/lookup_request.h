/*
 * A question that another role asked of lookup: it leads to questions to the
 * DNS, and is answered when none of those is open any more or its time is
 * over.  Each kind of request has this struct as its first member.
 */
#ifndef PROXY_LOOKUP_REQUEST_H
#define PROXY_LOOKUP_REQUEST_H

#include <sys/queue.h>

#include "lib/chan.h"
#include "lib/loop.h"
#include "proxy/lookup_dns.h"
#include "rules/facts.h"

struct lookup_request;
TAILQ_HEAD(lookup_questions, lookup_question);

struct lookup_kind {
	int64_t timeout;	/* ms for all of it */
	/* Of this kind open at once; beyond: "try again".  Clients who make
	 * smtpd ask for names cannot stop the relay from finding its way. */
	size_t max;
	size_t open;		/* how many there are */
	size_t size;		/* of the kind's own struct */
	/* One answer; which is what was given to request_ask(). */
	void (*answered)(struct lookup_request *r, enum dns_type type,
	    uint32_t which, const struct dns_answer *a);
	/* Send the answer; late: there are open questions. */
	void (*finish)(struct lookup_request *r, bool late);
	/* Instead, when nobody wants it any more; may be NULL. */
	void (*dropped)(struct lookup_request *r);
};

struct lookup_request {
	uint32_t magic;
	struct lookup_kind *kind;
	struct chan *chan;
	uint32_t tag;
	struct event timer;
	struct lookup_questions open;
	TAILQ_ENTRY(lookup_request) link;
};

/* NULL: too many are open. */
struct lookup_request *request_new(struct lookup_kind *kind,
    struct chan *chan, uint32_t tag);
/* If it cannot be asked, answered() hears at once that it failed. */
void request_ask(struct lookup_request *r, const char *name,
    enum dns_type type, uint32_t which);
void request_ask_of(struct lookup_request *r, const char *name,
    enum dns_type type, enum dns_source source, uint32_t which);
/* Its first questions were asked: if none is open, finish. */
void request_begun(struct lookup_request *r);
/* The asking role is gone. */
void request_forget_all(const struct chan *chan);
/* Open requests of all kinds. */
size_t request_count(void);

/* The kinds: messages NAME, ROUTE, FACT and DANE of lib/msg.def. */
void lookup_name(struct chan *chan, uint32_t tag, struct view address);
void lookup_route(struct chan *chan, uint32_t tag, uint32_t flags,
    struct view domain);
void lookup_fact(struct chan *chan, uint32_t tag, enum fact_dns type,
    struct view name);
void lookup_dane(struct chan *chan, uint32_t tag, struct view domain,
    struct view host, uint16_t port);
/* An answer without records. */
void lookup_fact_send(struct chan *chan, uint32_t tag,
    enum fact_status status, const struct view *records, uint32_t n);
/* Which of DNS_A and DNS_AAAA may be asked for (inet_protocols). */
void lookup_route_families(bool ipv4, bool ipv6);
void lookup_fact_families(bool ipv4, bool ipv6);

#endif
