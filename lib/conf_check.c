/*
 * What the names in main.cf mean, and warnings about those that mean
 * nothing: a mistyped parameter is the commonest reason why a setting "does
 * not work".
 */
#include <stdlib.h>

#include "lib/conf_source.h"
#include "lib/master_cf.h"

#define NAME_COMPARED	64	/* longer names are not compared */
#define UNUSED_SHOWN	50
#define LISTED_MAX	1000	/* bytes of names in the summary line */

struct known {
	const char *name;
	bool raw;
};

static const struct known known[] = {
#define KNOWN(name)	{ #name, false },
#define KNOWN_RAW(name)	{ #name, true },
#include "lib/conf_known.def"
#undef KNOWN
#undef KNOWN_RAW
};

static int
known_compare(const void *key, const void *item)
{
	const struct view *v = key;
	const char *name = ((const struct known *)item)->name;
	size_t n = strlen(name);
	int c = memcmp(v->p, name, v->n < n ? v->n : n);

	return c != 0 ? c : (v->n > n) - (v->n < n);
}

bool
conf_known(struct view name, bool *ret_raw)
{
	const struct known *k;

	if (name.n == 0)
		return false;
	k = bsearch(&name, known, sizeof known / sizeof known[0],
	    sizeof known[0], known_compare);
	if (k == NULL)
		return false;
	*ret_raw = k->raw;
	return true;
}

/* What a transport's name can be put in front of. */
static const char *const suffixes[] = {
	"_delivery_slot_cost",
	"_delivery_slot_discount",
	"_delivery_slot_loan",
	"_destination_concurrency_failed_cohort_limit",
	"_destination_concurrency_limit",
	"_destination_concurrency_negative_feedback",
	"_destination_concurrency_positive_feedback",
	"_destination_rate_delay",
	"_destination_recipient_limit",
	"_extra_recipient_limit",
	"_initial_destination_concurrency",
	"_minimum_delivery_slots",
	"_recipient_limit",
	"_recipient_refill_delay",
	"_recipient_refill_limit",
	"_time_limit",
	"_transport_rate_delay",
};

const char *const conf_class_params[] = {
	"header_checks",
	"mime_header_checks",
	"nested_header_checks",
	"body_checks",
	"body_checks_size_limit",
	"mime_ambiguity",
	"mime_ambiguity_checks",
	"decoded_header_checks",
	"decoded_body_checks",
	"attachment_checks",
	NULL
};

static const char *
composed_suffix(struct view name)
{
	size_t i, n;

	for (i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
		n = strlen(suffixes[i]);
		if (name.n > n && view_is(view_from(name, name.n - n),
		    suffixes[i]))
			return suffixes[i];
	}
	return NULL;
}

const struct conf_param *
conf_composed(struct view name)
{
	const char *suffix = composed_suffix(name);
	const struct conf_param *p;
	char *base;

	if (suffix == NULL)
		return NULL;
	/* smtp_initial_... falls back to initial_..., not default_initial_. */
	p = conf_param_find(view_of(suffix + 1));
	if (p == NULL) {
		base = mem_printf("default%s", suffix);
		p = conf_param_find(view_of(base));
		free(base);
	}
	return p;
}

static const struct {
	const char *name;
	const char *list;
} restrictions[] = {
	{ "check_ccert_access", "smtpd_client_restrictions" },
	{ "check_client_a_access", "smtpd_client_restrictions" },
	{ "check_client_access", "smtpd_client_restrictions" },
	{ "check_client_mx_access", "smtpd_client_restrictions" },
	{ "check_client_ns_access", "smtpd_client_restrictions" },
	{ "check_etrn_access", "smtpd_etrn_restrictions" },
	{ "check_helo_a_access", "smtpd_helo_restrictions" },
	{ "check_helo_access", "smtpd_helo_restrictions" },
	{ "check_helo_mx_access", "smtpd_helo_restrictions" },
	{ "check_helo_ns_access", "smtpd_helo_restrictions" },
	{ "check_policy_service", "smtpd_recipient_restrictions" },
	{ "check_recipient_a_access", "smtpd_recipient_restrictions" },
	{ "check_recipient_access", "smtpd_recipient_restrictions" },
	{ "check_recipient_mx_access", "smtpd_recipient_restrictions" },
	{ "check_recipient_ns_access", "smtpd_recipient_restrictions" },
	{ "check_relay_domains", "smtpd_relay_restrictions" },
	{ "check_reverse_client_hostname_access",
	    "smtpd_client_restrictions" },
	{ "check_sasl_access", "smtpd_recipient_restrictions" },
	{ "check_sender_a_access", "smtpd_sender_restrictions" },
	{ "check_sender_access", "smtpd_sender_restrictions" },
	{ "check_sender_mx_access", "smtpd_sender_restrictions" },
	{ "check_sender_ns_access", "smtpd_sender_restrictions" },
	{ "defer_unauth_destination", "smtpd_relay_restrictions" },
	{ "permit_auth_destination", "smtpd_relay_restrictions" },
	{ "permit_mx_backup", "smtpd_relay_restrictions" },
	{ "permit_mynetworks", "smtpd_relay_restrictions" },
	{ "permit_sasl_authenticated", "smtpd_relay_restrictions" },
	{ "permit_tls_clientcerts", "smtpd_relay_restrictions" },
	{ "reject_authenticated_sender_login_mismatch",
	    "smtpd_sender_restrictions" },
	{ "reject_invalid_helo_hostname", "smtpd_helo_restrictions" },
	{ "reject_known_sender_login_mismatch",
	    "smtpd_sender_restrictions" },
	{ "reject_non_fqdn_helo_hostname", "smtpd_helo_restrictions" },
	{ "reject_non_fqdn_recipient", "smtpd_recipient_restrictions" },
	{ "reject_non_fqdn_sender", "smtpd_sender_restrictions" },
	{ "reject_rbl_client", "smtpd_client_restrictions" },
	{ "reject_rhsbl_client", "smtpd_client_restrictions" },
	{ "reject_rhsbl_helo", "smtpd_helo_restrictions" },
	{ "reject_rhsbl_recipient", "smtpd_recipient_restrictions" },
	{ "reject_rhsbl_reverse_client", "smtpd_client_restrictions" },
	{ "reject_rhsbl_sender", "smtpd_sender_restrictions" },
	{ "reject_sender_login_mismatch", "smtpd_sender_restrictions" },
	{ "reject_unauth_destination", "smtpd_relay_restrictions" },
	{ "reject_unauth_pipelining", "smtpd_data_restrictions" },
	{ "reject_unknown_client_hostname", "smtpd_client_restrictions" },
	{ "reject_unknown_helo_hostname", "smtpd_helo_restrictions" },
	{ "reject_unknown_recipient_domain",
	    "smtpd_recipient_restrictions" },
	{ "reject_unknown_reverse_client_hostname",
	    "smtpd_client_restrictions" },
	{ "reject_unknown_sender_domain", "smtpd_sender_restrictions" },
	{ "reject_unlisted_recipient", "smtpd_recipient_restrictions" },
	{ "reject_unlisted_sender", "smtpd_sender_restrictions" },
	{ "reject_unverified_recipient", "smtpd_recipient_restrictions" },
	{ "reject_unverified_sender", "smtpd_sender_restrictions" },
};

const char *
conf_restriction_list(struct view name)
{
	size_t i;

	for (i = 0; i < sizeof restrictions / sizeof restrictions[0]; i++)
		if (view_is(name, restrictions[i].name))
			return restrictions[i].list;
	return NULL;
}

/* Letters to change, add or leave out to turn a into b; over 2: 3. */
unsigned
conf_name_distance(struct view a, struct view b)
{
	unsigned char row[2][NAME_COMPARED + 1];
	size_t i, j;

	if (a.n > NAME_COMPARED || b.n > NAME_COMPARED ||
	    a.n > b.n + 2 || b.n > a.n + 2)
		return 3;
	for (j = 0; j <= b.n; j++)
		row[0][j] = (unsigned char)j;
	for (i = 1; i <= a.n; i++) {
		unsigned char *now = row[i % 2], *old = row[1 - i % 2], best;

		now[0] = best = (unsigned char)i;
		for (j = 1; j <= b.n; j++) {
			unsigned char c = (unsigned char)(old[j - 1] +
			    (a.p[i - 1] != b.p[j - 1]));

			if (c > old[j] + 1)
				c = (unsigned char)(old[j] + 1);
			if (c > now[j - 1] + 1)
				c = (unsigned char)(now[j - 1] + 1);
			now[j] = c;
			if (c < best)
				best = c;
		}
		if (best > 2)
			return 3;
	}
	return row[a.n % 2][b.n];
}

const char *
conf_nearest(struct view name)
{
	const char *found = NULL;
	unsigned least = 3, d;
	size_t i;

	for (i = 0; i < conf_params_count; i++) {
		d = conf_name_distance(name, view_of(conf_params[i].name));
		/* "foo" is not a mistyped "sandbox". */
		if (d < least && d * 3 < name.n) {
			least = d;
			found = conf_params[i].name;
		}
	}
	return found;
}

/* Names that a text refers to are not unused; self: whose value it is. */
static void
mark_references(struct conf_source *src, struct view text,
    const struct conf_setting *self)
{
	struct conf_setting *s;
	size_t at;

	for (at = view_find(text, '$'); at < text.n;
	    at += 1 + view_find(view_from(text, at + 1), '$')) {
		s = conf_source_find(src, conf_reference(text, at));
		if (s != NULL && s != self && s->use == CONF_UNUSED)
			s->use = CONF_USER;
	}
}

static void
mark_words(struct conf_source *src, struct view list)
{
	struct conf_setting *s;
	struct view word;

	while ((word = conf_word(&list)).n > 0) {
		s = conf_source_find(src, word);
		if (s != NULL && s->use == CONF_UNUSED)
			s->use = CONF_USER;
	}
}

/* CLASS_header_checks and the like, of the policy classes there are. */
static void
mark_classes(struct conf_source *src, struct view classes)
{
	struct conf_setting *s;
	struct view class;
	char *name;
	size_t i;

	while ((class = conf_word(&classes)).n > 0)
		for (i = 0; conf_class_params[i] != NULL; i++) {
			name = mem_printf("%.*s_%s", VIEW_ARGS(class),
			    conf_class_params[i]);
			s = conf_source_find(src, view_of(name));
			if (s != NULL && s->use == CONF_UNUSED)
				s->use = CONF_USER;
			free(name);
		}
}

static void
mark_master(struct conf_source *src, const char *dir)
{
	char *path = mem_printf("%s/master.cf", dir);
	struct buf b;

	buf_init(&b, CONF_READ_MAX);
	if (conf_read_file(path, &b))
		mark_references(src, buf_view(&b), NULL);
	buf_free(&b);
	free(path);
}

/* Transports that need no service. */
static const char *const built_in[] = {
	"default", "discard", "error", "retry",
};

static bool
is_transport(const struct service_table *t, struct view name)
{
	size_t i;

	for (i = 0; i < sizeof built_in / sizeof built_in[0]; i++)
		if (view_is(name, built_in[i]))
			return true;
	for (i = 0; i < t->n; i++)
		if (view_is(name, t->list[i].name))
			return true;
	return false;
}

/* TRANSPORT_suffix where nothing is called TRANSPORT has no effect. */
static void
warn_transports(const struct conf_source *src, const char *dir,
    struct conf_reporter *r)
{
	struct service_table *t = master_cf_load(dir, NULL, NULL);
	const struct conf_setting *s;
	const char *suffix;
	struct view name;
	size_t i;

	/* What is wrong with it is told by those that start services. */
	for (i = 0; t != NULL && i < src->n; i++) {
		s = &src->list[i];
		suffix = s->use == CONF_COMPOSED ? composed_suffix(s->name) :
		    NULL;
		if (suffix == NULL || s->line == 0)
			continue;
		name = view_head(s->name, s->name.n - strlen(suffix));
		if (!is_transport(t, name))
			conf_tell(r, false, s->line, "%s: master.cf has no "
			    "service %.*s", s->name.p,
			    VIEW_ARGS(view_head(name, 100)));
	}
	master_cf_free(&t);
}

static bool
any_unused(const struct conf_source *src)
{
	size_t i;

	for (i = 0; i < src->n; i++)
		if (src->list[i].use == CONF_UNUSED)
			return true;
	return false;
}

static void
check_use(struct conf_source *src, const char *dir)
{
	struct conf_setting *s;
	bool raw;
	size_t i;

	for (i = 0; i < src->n; i++) {
		s = &src->list[i];
		if (conf_param_find(s->name) != NULL)
			s->use = CONF_DECLARED;
		else if (conf_composed(s->name) != NULL)
			s->use = CONF_COMPOSED;
		else if (conf_known(s->name, &raw) ||
		    composed_suffix(s->name) != NULL)
			s->use = CONF_KNOWN;
	}
	for (i = 0; i < src->n; i++)
		mark_references(src, src->list[i].value, &src->list[i]);
	s = conf_source_find(src, view_of("smtpd_restriction_classes"));
	if (s != NULL)
		mark_words(src, s->value);
	s = conf_source_find(src, view_of("filter_policy_classes"));
	if (s != NULL)
		mark_classes(src, s->value);
	if (dir != NULL && any_unused(src))
		mark_master(src, dir);
}

static void
warn_unused(const struct conf_setting *s, struct conf_reporter *r)
{
	const char *list = conf_restriction_list(s->name);
	const char *near = list == NULL ? conf_nearest(s->name) : NULL;

	if (list != NULL)
		conf_tell(r, false, s->line, "%s is a restriction, not a "
		    "parameter: write \"%s = ... %s %.100s\"", s->name.p, list,
		    s->name.p, s->value.p);
	else if (near != NULL)
		conf_tell(r, false, s->line, "unused parameter: %s=%.200s "
		    "(did you mean %s?)", s->name.p, s->value.p, near);
	else
		conf_tell(r, false, s->line, "unused parameter: %s=%.200s",
		    s->name.p, s->value.p);
}

/* '#' begins a comment at the start of a line only. */
static void
warn_comment(const struct conf_setting *s, struct conf_reporter *r)
{
	struct view v = s->value;
	size_t at;

	for (at = view_find(v, '#'); at < v.n;
	    at += 1 + view_find(view_from(v, at + 1), '#'))
		if (at == 0 || view_space(v.p[at - 1])) {
			conf_tell(r, false, s->line, "#comment after other "
			    "text is not allowed: %.*s",
			    VIEW_ARGS(view_head(view_from(v, at), 40)));
			return;
		}
}

/* A link pasted from a browser never names a domain. */
static void
warn_link(const struct conf_setting *s, struct conf_reporter *r)
{
	struct view list = s->value, word;

	if (!view_is(s->name, "mydestination") &&
	    !view_is(s->name, "relay_domains"))
		return;
	while ((word = conf_word(&list)).n > 0)
		if (view_starts_nocase(word, "ftp://") ||
		    view_starts_nocase(word, "http://") ||
		    view_starts_nocase(word, "https://"))
			conf_tell(r, false, s->line, "%s: not a domain: %.*s",
			    s->name.p, VIEW_ARGS(view_head(word, 200)));
}

/* Who has it works without a certificate expects that it is so here. */
static void
warn_raw_key(const struct conf_setting *s, struct conf_reporter *r)
{
	if (s->name.n > 15 && view_ends_nocase(s->name,
	    view_of("_tls_enable_rpk")) && view_is_nocase(s->value, "yes"))
		conf_tell(r, false, s->line, "%s: raw public keys (RFC 7250) "
		    "need OpenSSL 3.2, and are not used: there are "
		    "certificates only", s->name.p);
}

void
conf_check(struct conf_source *src, const char *dir, struct conf_reporter *r)
{
	const struct conf_setting *s;
	size_t i, unused = 0, without = 0, hidden = 0;
	struct buf names;

	buf_init(&names, LISTED_MAX);
	check_use(src, dir);
	if (dir != NULL)
		warn_transports(src, dir, r);
	for (i = 0; i < src->n; i++) {
		s = &src->list[i];
		if (s->line == 0)
			continue;
		warn_comment(s, r);
		warn_link(s, r);
		warn_raw_key(s, r);
		if (s->use == CONF_UNUSED && unused++ < UNUSED_SHOWN)
			warn_unused(s, r);
		if (s->use == CONF_KNOWN && !buf_printf(&names, "%s%s",
		    without++ > 0 ? ", " : "", s->name.p))
			hidden++;
	}
	if (unused > UNUSED_SHOWN)
		conf_tell(r, false, 0, "%zu more unused parameters",
		    unused - UNUSED_SHOWN);
	if (without > 0)
		conf_tell(r, false, 0, "not used by Postern: %.*s%s",
		    VIEW_ARGS(buf_view(&names)), hidden > 0 ? " ..." : "");
	buf_free(&names);
}
