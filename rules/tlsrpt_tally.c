#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/netaddr.h"
#include "rules/tlsrpt_tally.h"

#define FORM	1u	/* of an encoded tally */

static const char *const type_names[TLSRPT_POLICY_TYPES] = {
	[TLSRPT_TLSA] = "tlsa",
	[TLSRPT_STS] = "sts",
	[TLSRPT_NO_POLICY] = "no-policy-found",
};

static const char *const result_names[TLSRPT_RESULTS] = {
	[TLSRPT_SUCCESS] = "success",
	[TLSRPT_STARTTLS_NOT_SUPPORTED] = "starttls-not-supported",
	[TLSRPT_CERTIFICATE_HOST_MISMATCH] = "certificate-host-mismatch",
	[TLSRPT_CERTIFICATE_EXPIRED] = "certificate-expired",
	[TLSRPT_CERTIFICATE_NOT_TRUSTED] = "certificate-not-trusted",
	[TLSRPT_VALIDATION_FAILURE] = "validation-failure",
	[TLSRPT_TLSA_INVALID] = "tlsa-invalid",
	[TLSRPT_DNSSEC_INVALID] = "dnssec-invalid",
	[TLSRPT_DANE_REQUIRED] = "dane-required",
	[TLSRPT_STS_POLICY_FETCH_ERROR] = "sts-policy-fetch-error",
	[TLSRPT_STS_POLICY_INVALID] = "sts-policy-invalid",
	[TLSRPT_STS_WEBPKI_INVALID] = "sts-webpki-invalid",
};

const char *
tlsrpt_policy_name(enum tlsrpt_policy_type t)
{
	return type_names[t];
}

const char *
tlsrpt_result_name(enum tlsrpt_result r)
{
	return result_names[r];
}

/* -- events ---------------------------------------------------------------- */

static bool
text_good(struct view v, size_t max, bool lines)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if ((v.p[i] < ' ' && !(lines && v.p[i] == '\n')) ||
		    v.p[i] > '~')
			return false;
	return v.n <= max;
}

static bool
texts_good(const struct view text[TLSRPT_TEXTS])
{
	struct netaddr a;
	size_t i;

	for (i = 0; i < TLSRPT_TEXTS; i++)
		if (!text_good(text[i], TLSRPT_TEXT_MAX, false))
			return false;
	return (text[TLSRPT_SENDING_IP].n == 0 ||
	    netaddr_parse(text[TLSRPT_SENDING_IP], &a)) &&
	    (text[TLSRPT_IP].n == 0 || netaddr_parse(text[TLSRPT_IP], &a));
}

static bool
domain_good(struct view domain)
{
	size_t i;

	for (i = 0; i < domain.n; i++)
		if (domain.p[i] >= 'A' && domain.p[i] <= 'Z')
			return false;
	return domain.n <= TLSRPT_DOMAIN_MAX &&
	    text_good(domain, TLSRPT_DOMAIN_MAX, false) &&
	    address_valid_hostname(domain);
}

static bool
event_good(const struct tlsrpt_event *e)
{
	return domain_good(e->domain) && e->type > 0 &&
	    e->type < TLSRPT_POLICY_TYPES && e->result > 0 &&
	    e->result < TLSRPT_RESULTS &&
	    text_good(e->lines, TLSRPT_LINES_MAX, true) &&
	    texts_good(e->text);
}

bool
tlsrpt_event_put(struct buf *b, const struct tlsrpt_event *e)
{
	size_t i;

	if (!event_good(e))
		return false;
	(void)put_view(b, e->domain);
	(void)put_u8(b, (uint8_t)e->type);
	(void)put_view(b, e->lines);
	(void)put_u8(b, (uint8_t)e->result);
	for (i = 0; i < TLSRPT_TEXTS; i++)
		(void)put_view(b, e->text[i]);
	return true;
}

bool
tlsrpt_event_get(struct cursor *c, struct tlsrpt_event *ret)
{
	size_t i;

	ret->domain = cursor_view(c);
	ret->type = (enum tlsrpt_policy_type)cursor_u8(c);
	ret->lines = cursor_view(c);
	ret->result = (enum tlsrpt_result)cursor_u8(c);
	for (i = 0; i < TLSRPT_TEXTS; i++)
		ret->text[i] = cursor_view(c);
	return cursor_done(c) && event_good(ret);
}

/* -- tallies --------------------------------------------------------------- */

struct tlsrpt_tally *
tlsrpt_tally_new(int64_t since)
{
	struct tlsrpt_tally *t = mem_alloc(sizeof *t);

	t->since = since;
	TAILQ_INIT(&t->policies);
	return t;
}

static void
policy_free(struct tlsrpt_policy *p)
{
	struct tlsrpt_failure *f;
	size_t i;

	while ((f = TAILQ_FIRST(&p->failures)) != NULL) {
		TAILQ_REMOVE(&p->failures, f, link);
		for (i = 0; i < TLSRPT_TEXTS; i++)
			free(f->text[i]);
		free(f);
	}
	free(p->lines);
	free(p);
}

void
tlsrpt_tally_free(struct tlsrpt_tally **tp)
{
	struct tlsrpt_tally *t = *tp;
	struct tlsrpt_policy *p;

	*tp = NULL;
	if (t == NULL)
		return;
	while ((p = TAILQ_FIRST(&t->policies)) != NULL) {
		TAILQ_REMOVE(&t->policies, p, link);
		policy_free(p);
	}
	free(t);
}

/* NULL: there are too many others. */
static struct tlsrpt_policy *
tally_policy(struct tlsrpt_tally *t, enum tlsrpt_policy_type type,
    struct view lines)
{
	struct tlsrpt_policy *p;

	TAILQ_FOREACH(p, &t->policies, link)
		if (p->type == type && view_is(lines, p->lines))
			return p;
	if (t->n_policies == TLSRPT_POLICIES_MAX)
		return NULL;
	p = mem_alloc(sizeof *p);
	p->type = type;
	p->lines = mem_copy(lines);
	TAILQ_INIT(&p->failures);
	TAILQ_INSERT_TAIL(&t->policies, p, link);
	t->n_policies++;
	return p;
}

static void
policy_failure(struct tlsrpt_policy *p, enum tlsrpt_result result,
    const struct view text[TLSRPT_TEXTS], uint64_t n)
{
	struct tlsrpt_failure *f;
	size_t i;

	TAILQ_FOREACH(f, &p->failures, link) {
		for (i = 0; i < TLSRPT_TEXTS; i++)
			if (!view_is(text[i], f->text[i]))
				break;
		if (f->result == result && i == TLSRPT_TEXTS) {
			f->n += n;
			return;
		}
	}
	if (p->n_failures == TLSRPT_FAILURES_MAX)
		return;
	f = mem_alloc(sizeof *f);
	f->result = result;
	for (i = 0; i < TLSRPT_TEXTS; i++)
		f->text[i] = mem_copy(text[i]);
	f->n = n;
	TAILQ_INSERT_TAIL(&p->failures, f, link);
	p->n_failures++;
}

void
tlsrpt_tally_add(struct tlsrpt_tally *t, const struct tlsrpt_event *e)
{
	struct tlsrpt_policy *p = tally_policy(t, e->type, e->lines);

	if (p == NULL)
		return;
	if (e->result == TLSRPT_SUCCESS) {
		p->succeeded++;
		return;
	}
	p->failed++;
	policy_failure(p, e->result, e->text, 1);
}

void
tlsrpt_tally_merge(struct tlsrpt_tally *t, const struct tlsrpt_tally *from)
{
	const struct tlsrpt_policy *theirs;
	const struct tlsrpt_failure *f;
	struct view text[TLSRPT_TEXTS];
	struct tlsrpt_policy *p;
	size_t i;

	TAILQ_FOREACH(theirs, &from->policies, link) {
		p = tally_policy(t, theirs->type, view_of(theirs->lines));
		if (p == NULL)
			continue;
		p->succeeded += theirs->succeeded;
		p->failed += theirs->failed;
		TAILQ_FOREACH(f, &theirs->failures, link) {
			for (i = 0; i < TLSRPT_TEXTS; i++)
				text[i] = view_of(f->text[i]);
			policy_failure(p, f->result, text, f->n);
		}
	}
}

void
tlsrpt_tally_sums(const struct tlsrpt_tally *t, uint64_t *ret_succeeded,
    uint64_t *ret_failed)
{
	const struct tlsrpt_policy *p;

	*ret_succeeded = *ret_failed = 0;
	TAILQ_FOREACH(p, &t->policies, link) {
		*ret_succeeded += p->succeeded;
		*ret_failed += p->failed;
	}
}

/* -- encoded --------------------------------------------------------------- */

/* u8 form, u64 since, u32 n, n x (u8 type, view lines, u64 succeeded,
 * u64 failed, u32 k, k x (u8 result, TLSRPT_TEXTS x view, u64 n)) */
void
tlsrpt_tally_put(struct buf *b, const struct tlsrpt_tally *t)
{
	const struct tlsrpt_policy *p;
	const struct tlsrpt_failure *f;
	size_t i;

	(void)put_u8(b, FORM);
	(void)put_u64(b, (uint64_t)t->since);
	(void)put_u32(b, t->n_policies);
	TAILQ_FOREACH(p, &t->policies, link) {
		(void)put_u8(b, (uint8_t)p->type);
		(void)put_view(b, view_of(p->lines));
		(void)put_u64(b, p->succeeded);
		(void)put_u64(b, p->failed);
		(void)put_u32(b, p->n_failures);
		TAILQ_FOREACH(f, &p->failures, link) {
			(void)put_u8(b, (uint8_t)f->result);
			for (i = 0; i < TLSRPT_TEXTS; i++)
				(void)put_view(b, view_of(f->text[i]));
			(void)put_u64(b, f->n);
		}
	}
}

static bool
failure_get(struct cursor *c, struct tlsrpt_policy *p)
{
	enum tlsrpt_result result = (enum tlsrpt_result)cursor_u8(c);
	struct view text[TLSRPT_TEXTS];
	uint64_t n;
	size_t i;

	for (i = 0; i < TLSRPT_TEXTS; i++)
		text[i] = cursor_view(c);
	n = cursor_u64(c);
	if (c->bad || result <= TLSRPT_SUCCESS || result >= TLSRPT_RESULTS ||
	    !texts_good(text))
		return false;
	policy_failure(p, result, text, n);
	return true;
}

static bool
policy_get(struct cursor *c, struct tlsrpt_tally *t)
{
	enum tlsrpt_policy_type type = (enum tlsrpt_policy_type)cursor_u8(c);
	struct view lines = cursor_view(c);
	struct tlsrpt_policy *p;
	uint64_t succeeded = cursor_u64(c), failed = cursor_u64(c);
	uint32_t k = cursor_u32(c);

	if (c->bad || type == 0 || type >= TLSRPT_POLICY_TYPES ||
	    !text_good(lines, TLSRPT_LINES_MAX, true) ||
	    k > TLSRPT_FAILURES_MAX)
		return false;
	p = tally_policy(t, type, lines);
	if (p == NULL)
		return false;
	p->succeeded += succeeded;
	p->failed += failed;
	for (; k > 0; k--)
		if (!failure_get(c, p))
			return false;
	return true;
}

struct tlsrpt_tally *
tlsrpt_tally_get(struct view v)
{
	struct cursor c = cursor_of(v);
	bool good = cursor_u8(&c) == FORM;
	struct tlsrpt_tally *t = tlsrpt_tally_new((int64_t)cursor_u64(&c));
	uint32_t n = cursor_u32(&c);

	good = good && n <= TLSRPT_POLICIES_MAX && t->since >= 0 &&
	    t->since < INT64_C(253402300800);	/* the year 10000 */
	for (; good && n > 0; n--)
		good = policy_get(&c, t);
	if (!good || !cursor_done(&c))
		tlsrpt_tally_free(&t);
	return t;
}
