/*
 * smtpd_proxy_filter: a filter outside that a message passes before its client
 * is answered; the filter's answer is the client's.  A setting of one smtpd
 * service, so master tells the queue manager what it is when it joins the two
 * (MSG_PEER): a smtpd has no say in it.
 */
#ifndef RULES_PROXY_FILTER_H
#define RULES_PROXY_FILTER_H

#include "lib/buf.h"
#include "lib/conf.h"
#include "rules/table.h"

#define PROXY_FILTER_MAX	1024u	/* bytes, encoded */
#define PROXY_FILTER_LIMIT	100u	/* conversations at once, if not told */
/* A conversation may take so many times what a step may.  With 100 s this is as
 * long as clients wait, RFC 5321 section 4.5.3.2.6. */
#define PROXY_FILTER_STEPS	6

struct proxy_filter {
	struct view hop;	/* "[host]:port"; empty: there is none */
	struct view ehlo;
	int64_t timeout;	/* ms, for each step */
	uint32_t limit;		/* conversations at once */
};

/* Is smtpd_proxy_filter empty, or "host:port" ("inet:host:port", ":port",
 * "port")?  False after a report. */
bool proxy_filter_check(const struct conf *cf, table_report *report,
    void *arg);
/* The settings of a service, nothing if it has no proxy filter.  maxproc: of
 * master.cf.  What cannot be used comes out as a hop that nothing listens to:
 * mail must not pass for that. */
void proxy_filter_put(struct buf *b, const struct conf *cf, int64_t maxproc);
/* Views into v.  False: not what was put. */
bool proxy_filter_get(struct view v, struct proxy_filter *ret)
    __attribute__((warn_unused_result));

#endif
