/*
 * DNS lists (RFC 5782): "domain" or "domain=filter", where the filter is an
 * IPv4 address whose parts may be numbers, [n;n..n] or nothing else:
 * 127.0.0.[2..4;9].
 */
#include <stdio.h>

#include "lib/address.h"
#include "lib/log.h"
#include "rules/policy_priv.h"

#define REASON_MAX	400u	/* bytes of TXT records */

/* -- filters --------------------------------------------------------------- */

static bool
filter_number(struct view *rest, unsigned *ret)
{
	unsigned n = 0;
	size_t i;

	for (i = 0; i < rest->n && i < 4 &&
	    isdigit((unsigned char)rest->p[i]); i++)
		n = n * 10 + (unsigned)(rest->p[i] - '0');
	if (i == 0 || n > 255)
		return false;
	*rest = view_from(*rest, i);
	*ret = n;
	return true;
}

static bool
filter_skip(struct view *rest, const char *text)
{
	if (!view_starts_nocase(*rest, text))
		return false;
	*rest = view_from(*rest, strlen(text));
	return true;
}

/* One part of an address: is byte in it?  False: bad syntax. */
static bool
filter_part(struct view *rest, unsigned byte, bool *match)
{
	unsigned low, high;
	bool in = false;

	if (!filter_skip(rest, "[")) {
		if (!filter_number(rest, &low))
			return false;
		*match = *match && low == byte;
		return true;
	}
	do {
		if (!filter_number(rest, &low))
			return false;
		high = low;
		if (filter_skip(rest, "..") && !filter_number(rest, &high))
			return false;
		if (high < low)
			return false;
		in = in || (byte >= low && byte <= high);
	} while (filter_skip(rest, ";"));
	*match = *match && in;
	return filter_skip(rest, "]");
}

static bool
filter_match(struct view filter, const unsigned char addr[4], bool *ret)
{
	bool match = true;
	int i;

	for (i = 0; i < 4; i++)
		if ((i > 0 && !filter_skip(&filter, ".")) ||
		    !filter_part(&filter, addr[i], &match))
			return false;
	*ret = match;
	return filter.n == 0;
}

bool
dnsxl_valid(struct view domain, const char **ret_why)
{
	static const unsigned char none[4];
	struct view name = view_head(domain, view_find(domain, '='));
	char lower[ADDRESS_DOMAIN_MAX + 1];
	bool match;

	if (!dns_name(name, lower, sizeof lower)) {
		*ret_why = "not a domain name";
		return false;
	}
	if (name.n < domain.n && !filter_match(view_from(domain, name.n + 1),
	    none, &match)) {
		*ret_why = "bad filter behind \"=\"";
		return false;
	}
	return true;
}

/* -- questions ------------------------------------------------------------- */

enum dnsxl { DNSXL_NOT_LISTED = 1, DNSXL_LISTED, DNSXL_UNCLEAR, DNSXL_STEP };

struct dnsxl_query {
	struct eval *e;
	struct view list;		/* as in the restriction */
	enum fact_shelf shelf;
	char name[2 * ADDRESS_DOMAIN_MAX + 80];
};

static enum dnsxl
dnsxl_ask(const struct dnsxl_query *q, enum step *ret_step)
{
	struct view filter = view_from(q->list, view_find(q->list, '=') + 1);
	struct fact fact;
	bool match;
	uint32_t i;

	if (!eval_dns(q->e, FACT_A, view_of(q->name), q->shelf, &fact,
	    ret_step))
		return DNSXL_STEP;
	if (fact.status == FACT_TEMPORARY || fact.status == FACT_BOGUS) {
		log_warn("%s: RBL lookup error", q->name);
		return DNSXL_UNCLEAR;
	}
	if (fact.status != FACT_FOUND)
		return DNSXL_NOT_LISTED;
	if (filter.n == 0)
		return DNSXL_LISTED;
	for (i = 0; i < fact.n; i++)
		if (filter_match(filter,
		    (const unsigned char *)fact.record[i].p, &match) && match)
			return DNSXL_LISTED;
	return DNSXL_NOT_LISTED;
}

static struct view
dnsxl_domain(struct view list)
{
	return view_head(list, view_find(list, '='));
}

/* "2.0.0.127.zone", or nibbles for IPv6. */
static void
dnsxl_address_name(struct dnsxl_query *q, const struct netaddr *a)
{
	static const char hex[] = "0123456789abcdef";
	char *p = q->name;
	int i;

	if (a->family == AF_INET) {
		(void)snprintf(q->name, sizeof q->name, "%u.%u.%u.%u.%.*s",
		    a->b[3], a->b[2], a->b[1], a->b[0],
		    VIEW_ARGS(dnsxl_domain(q->list)));
		return;
	}
	for (i = 15; i >= 0; i--) {
		*p++ = hex[a->b[i] & 15];
		*p++ = '.';
		*p++ = hex[a->b[i] >> 4];
		*p++ = '.';
	}
	(void)snprintf(p, sizeof q->name - (size_t)(p - q->name), "%.*s",
	    VIEW_ARGS(dnsxl_domain(q->list)));
}

/* False: what cannot be in such a list: no name, a number. */
static bool
dnsxl_host_name(struct dnsxl_query *q, struct view what)
{
	struct view domain = view_find(what, '@') < what.n ?
	    address_domain(what) : what, last;
	char lower[ADDRESS_DOMAIN_MAX + 1];
	size_t i;

	if (!dns_name(domain, lower, sizeof lower))
		return false;
	last = view_of(strrchr(lower, '.') != NULL ?
	    strrchr(lower, '.') + 1 : lower);
	for (i = 0; i < last.n && isdigit((unsigned char)last.p[i]); i++)
		;
	if (i == last.n)
		return false;
	(void)snprintf(q->name, sizeof q->name, "%s.%.*s", lower,
	    VIEW_ARGS(dnsxl_domain(q->list)));
	return true;
}

/* -- replies --------------------------------------------------------------- */

struct dnsxl_text {
	struct eval *e;
	struct view domain, reason, what;
	enum subject subject;
};

/* rbl_reply_maps, by the whole word and by the domain.  NULL .p: none. */
static bool
dnsxl_template(struct eval *e, struct view list, struct view *ret,
    enum step *ret_step)
{
	const struct view keys[2] = { list, dnsxl_domain(list) };
	const struct table *t;
	unsigned line;
	int i;

	*ret = view_of(e->p->cf->default_rbl_reply);
	for (i = 0; i < 2 && e->p->rbl_replies.n > 0; i++) {
		switch (table_list_find(&e->p->rbl_replies, keys[i], e->value,
		    &t, &line)) {
		case TABLE_FOUND:
			*ret = eval_copy(e, view_head(buf_view(e->value),
			    VALUE_MAX));
			return true;
		case TABLE_FAILED:
			*ret_step = eval_config_failed(e);
			return false;
		case TABLE_NOT_FOUND:
			break;
		}
	}
	return true;
}

/* Its own names first, then those of the session. */
static bool
dnsxl_expand(const struct dnsxl_text *t, struct view template,
    struct buf *out)
{
	char code[12];
	int n = snprintf(code, sizeof code, "%d",
	    (int)t->e->p->cf->maps_rbl_reject_code);
	const struct expand_name names[] = {
		{ "rbl_code", view_make(code, (size_t)n) },
		{ "rbl_domain", t->domain },
		{ "rbl_reason", t->reason },
		{ "rbl_txt", t->reason },
		{ "rbl_what", t->what },
		{ "rbl_class", view_of(subject_text(t->subject)) },
		{ NULL, { NULL, 0 } },
	};

	return expand_text(t->e->p, t->e->f, names, template, out);
}

static enum step
dnsxl_reply(const struct dnsxl_text *t, struct view list)
{
	struct eval *e = t->e;
	struct view template, text, word;
	char status[12], fixed[12];
	struct buf out;
	unsigned code;
	enum step s;

	if (!dnsxl_template(e, list, &template, &s))
		return s;
	buf_init(&out, 2 * POLICY_TEXT_MAX);
	if (!dnsxl_expand(t, template, &out)) {
		log_warn("bad rbl reply template for domain %.*s",
		    VIEW_ARGS(list));
		buf_clear(&out);
		(void)dnsxl_expand(t, view_of(e->p->cf->default_rbl_reply),
		    &out);
	}
	text = eval_copy(e, buf_view(&out));
	buf_free(&out);
	if (text.n < 4 || (text.p[0] != '4' && text.p[0] != '5') ||
	    !isdigit((unsigned char)text.p[1]) ||
	    !isdigit((unsigned char)text.p[2]) || text.p[3] != ' ') {
		log_warn("rbl response code configuration error: %s",
		    log_safe(text));
		return eval_refuse(e, 450, "4.7.1", "Service unavailable");
	}
	code = (unsigned)((text.p[0] - '0') * 100 + (text.p[1] - '0') * 10 +
	    (text.p[2] - '0'));
	text = view_trim(view_from(text, 4));
	word = view_head(text, view_find(text, ' '));
	(void)snprintf(status, sizeof status, "4.7.1");
	if (expand_is_status(word)) {
		(void)snprintf(status, sizeof status, "%.*s",
		    VIEW_ARGS(word));
		text = view_trim(view_from(text, word.n));
	}
	return eval_refuse(e, code, status_for_subject(view_of(status),
	    t->subject, fixed), "%.*s", VIEW_ARGS(text.n > 0 ? text :
	    view_of("Service unavailable")));
}

/* What the list's owner says about it: TXT records, joined. */
static enum step
dnsxl_refuse(const struct dnsxl_query *q, struct view what, enum subject s)
{
	struct dnsxl_text t = { .e = q->e, .what = what, .subject = s,
		.domain = dnsxl_domain(q->list) };
	struct fact txt;
	struct buf reason;
	enum step step;
	uint32_t i;

	if (!eval_dns(q->e, FACT_TXT, view_of(q->name), q->shelf, &txt,
	    &step))
		return step;
	buf_init(&reason, REASON_MAX);
	for (i = 0; i < txt.n && reason.n < REASON_MAX; i++) {
		if (i > 0)
			(void)buf_puts(&reason, " / ");
		(void)buf_putv(&reason, view_head(txt.record[i],
		    REASON_MAX - reason.n));
	}
	t.reason = view_of(log_safe(buf_view(&reason)));
	step = dnsxl_reply(&t, q->list);
	buf_free(&reason);
	return step;
}

/* -- restrictions ---------------------------------------------------------- */

/* A recipient that is not ours is nothing a list may permit. */
static bool
permit_is_safe(struct eval *e, enum step *ret_step)
{
	enum step s;

	if (e->stage != STAGE_RCPT || !e->f->has_recipient)
		return true;
	s = destination_ours(e);
	*ret_step = s == STEP_PERMIT ? STEP_NEXT : s;
	return s == STEP_PERMIT;
}

static enum step
dnsxl_permit(const struct dnsxl_query *q, struct view what, enum subject s)
{
	enum step step = STEP_NEXT;

	if (!permit_is_safe(q->e, &step))
		return step;
	switch (dnsxl_ask(q, &step)) {
	case DNSXL_STEP:
		return step;
	case DNSXL_LISTED:
		return STEP_PERMIT;
	case DNSXL_UNCLEAR:
		eval_put_off_reject(q->e, 450, "4.7.1", what, s,
		    "Service unavailable");
		break;
	case DNSXL_NOT_LISTED:
		break;
	}
	return STEP_NEXT;
}

static enum step
dnsxl_reject(const struct dnsxl_query *q, struct view what, enum subject s)
{
	enum step step = STEP_NEXT;

	switch (dnsxl_ask(q, &step)) {
	case DNSXL_STEP:
		return step;
	case DNSXL_LISTED:
		return dnsxl_refuse(q, what, s);
	case DNSXL_UNCLEAR:
	case DNSXL_NOT_LISTED:
		/* Not all mail can stop because a list is down. */
		break;
	}
	return STEP_NEXT;
}

enum step
dnsxl_client(struct eval *e, const struct restriction *r)
{
	struct dnsxl_query q = { .e = e, .list = r->arg,
		.shelf = SHELF_SESSION };
	char addr[NETADDR_TEXT];
	struct view what;

	dnsxl_address_name(&q, &e->f->client);
	what = view_of(netaddr_text(&e->f->client, addr));
	return r->kind->variant == DNSXL_REJECT ?
	    dnsxl_reject(&q, what, SUBJECT_CLIENT) :
	    dnsxl_permit(&q, what, SUBJECT_CLIENT);
}

static bool
dnsxl_name_begin(struct dnsxl_query *q, struct eval *e,
    const struct restriction *r, struct view *ret_what)
{
	enum subject s = (enum subject)r->kind->variant;

	*q = (struct dnsxl_query){ .e = e, .list = r->arg,
		.shelf = subject_shelf(s) };
	*ret_what = subject_value(e, s);
	if (ret_what->n == 0 || ((s == SUBJECT_CLIENT ||
	    s == SUBJECT_REVERSE) && eval_is_unknown(*ret_what)))
		return false;
	return dnsxl_host_name(q, *ret_what);
}

enum step
dnsxl_reject_name(struct eval *e, const struct restriction *r)
{
	struct dnsxl_query q;
	struct view what;

	if (!dnsxl_name_begin(&q, e, r, &what))
		return STEP_NEXT;
	return dnsxl_reject(&q, what, (enum subject)r->kind->variant);
}

enum step
dnsxl_permit_name(struct eval *e, const struct restriction *r)
{
	struct dnsxl_query q;
	struct view what;

	if (!dnsxl_name_begin(&q, e, r, &what))
		return STEP_NEXT;
	return dnsxl_permit(&q, what, (enum subject)r->kind->variant);
}
