#include <stdlib.h>

#include "lib/address.h"
#include "lib/conf_choice.h"
#include "lib/log.h"
#include "rules/sts_policy.h"
#include "rules/tls_policy.h"

#define SEPARATORS	", \t\r\n"
#define CIPHERS_MAX	8000u
#define HOP_MAX		512u

/* Returns false. */
__attribute__((format(printf, 2, 3)))
static bool
policy_bad(struct buf *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)buf_vprintf(why, fmt, ap);
	va_end(ap);
	return false;
}

/* -- what it comes to ------------------------------------------------------ */

static bool
policy_words(const struct conf *cf, const struct tls_policy *p,
    struct buf *why)
{
	struct tls_protocols protocols;
	uint32_t grade;
	struct view bad;
	struct buf b;
	char *exclude;
	bool ok;

	if (!tls_protocols_parse(p->protocols, &protocols, &bad))
		return policy_bad(why, "protocols: %s%.*s", bad.n > 0 ?
		    "unknown protocol " : "none is left",
		    VIEW_ARGS(view_head(bad, 100)));
	if (!conf_choice_word("smtp_tls_ciphers", p->ciphers, &grade))
		return policy_bad(why, "ciphers: unknown grade %.*s",
		    VIEW_ARGS(view_head(p->ciphers, 100)));
	buf_init(&b, CIPHERS_MAX);
	exclude = mem_copy(p->exclude);
	ok = tls_ciphers_put(cf, "medium", exclude, &b, &bad);
	if (!ok)
		(void)policy_bad(why, "exclude: %.*s is no name of a cipher",
		    VIEW_ARGS(view_head(bad, 100)));
	free(exclude);
	buf_free(&b);
	return ok;
}

static bool
policy_match(struct tls_policy *p, struct view list, const char *separators,
    struct buf *why)
{
	struct view word;

	while ((word = view_word(&list, separators)).n > 0) {
		if (p->n_match == TLS_MATCHES_MAX)
			return policy_bad(why, "match: more than %u",
			    TLS_MATCHES_MAX);
		p->match[p->n_match++] = word;
	}
	return true;
}

static bool
policy_key(struct tls_policy *p, struct arena *a, struct buf *why)
{
	struct buf b;
	size_t i;
	bool ok;

	buf_init(&b, TLS_POLICY_KEY_MAX);
	ok = buf_puts(&b, tls_level_name(p->level));
	if (p->level > TLS_LEVEL_NONE)
		ok = ok && buf_printf(&b, "\t%.*s\t%.*s\t%.*s\t%.*s",
		    VIEW_ARGS(p->protocols), VIEW_ARGS(p->ciphers),
		    VIEW_ARGS(p->exclude), VIEW_ARGS(p->servername));
	for (i = 0; ok && i < p->n_match; i++)
		ok = buf_putc(&b, '\t') && buf_putv(&b, p->match[i]);
	for (i = 0; ok && i < p->n_hosts; i++)
		ok = buf_putc(&b, '\v') && buf_putv(&b, p->hosts[i]);
	if (ok)
		p->key = arena_copy(a, buf_view(&b));
	buf_free(&b);
	return ok || policy_bad(why, "the policy is too long");
}

/* What was not said is as the parameters have it. */
static bool
policy_finish(const struct conf *cf, struct arena *a, struct tls_policy *p,
    struct buf *why)
{
	bool must = p->level > TLS_LEVEL_MAY;
	const char *match = p->level == TLS_LEVEL_FINGERPRINT ?
	    cf->smtp_tls_fingerprint_cert_match :
	    p->level == TLS_LEVEL_VERIFY ? cf->smtp_tls_verify_cert_match :
	    p->level == TLS_LEVEL_SECURE ? cf->smtp_tls_secure_cert_match :
	    "";
	struct buf b;

	if (p->level == TLS_LEVEL_NONE)
		return policy_key(p, a, why);
	if (p->protocols.n == 0)
		p->protocols = view_of(must ? cf->smtp_tls_mandatory_protocols :
		    cf->smtp_tls_protocols);
	if (p->ciphers.n == 0)
		p->ciphers = view_of(must ? cf->smtp_tls_mandatory_ciphers :
		    cf->smtp_tls_ciphers);
	if (p->servername.n == 0)
		p->servername = view_trim(view_of(cf->smtp_tls_servername));
	/* An entry's list replaces both of the parameters'. */
	if (p->exclude.p == NULL) {
		buf_init(&b, CIPHERS_MAX);
		(void)buf_printf(&b, "%s %s", cf->smtp_tls_exclude_ciphers,
		    must ? cf->smtp_tls_mandatory_exclude_ciphers : "");
		p->exclude = arena_copy(a, view_trim(buf_view(&b)));
		buf_free(&b);
	}
	if (p->n_match == 0 &&
	    !policy_match(p, view_of(match), SEPARATORS, why))
		return false;
	if (tls_level_names(p->level) && p->n_match == 0)
		return policy_bad(why, "level %s: there is nothing to match",
		    tls_level_name(p->level));
	return policy_words(cf, p, why) && policy_key(p, a, why);
}

/* Who wants TLS from the first byte on does not want it to be optional. */
static void
policy_wrap(const struct conf *cf, struct tls_policy *p)
{
	if (cf->smtp_tls_wrappermode && p->level < TLS_LEVEL_ENCRYPT)
		p->level = TLS_LEVEL_ENCRYPT;
}

bool
tls_policy_conf(const struct conf *cf, struct arena *a,
    struct tls_policy *ret, struct buf *why)
{
	*ret = (struct tls_policy){ .source = TLS_FROM_CONF };
	if (!tls_client_level(cf, &ret->level))
		return policy_bad(why, "smtp_tls_security_level: unknown "
		    "level %.100s", cf->smtp_tls_security_level);
	policy_wrap(cf, ret);
	return policy_finish(cf, a, ret, why);
}

bool
tls_policy_relaxed(const struct conf *cf, struct arena *a,
    struct tls_policy *ret, struct buf *why)
{
	*ret = (struct tls_policy){ .source = TLS_FROM_CONF,
		.level = TLS_LEVEL_MAY };
	policy_wrap(cf, ret);
	return policy_finish(cf, a, ret, why);
}

bool
tls_policy_domain(const struct conf *cf, const struct view *hosts, size_t n,
    struct arena *a, struct tls_policy *ret, struct buf *why)
{
	size_t i;

	*ret = (struct tls_policy){ .source = TLS_FROM_DOMAIN,
		.level = TLS_LEVEL_SECURE, .servername = view_of("hostname") };
	if (n == 0 || n > TLS_MATCHES_MAX)
		return policy_bad(why, "%zu patterns of hosts", n);
	for (i = 0; i < n && cf->smtp_tls_enforce_sts_mx_patterns; i++)
		ret->hosts[ret->n_hosts++] = arena_copy(a, hosts[i]);
	if (cf->smtp_tls_enforce_sts_mx_patterns)
		ret->match[ret->n_match++] = view_of("hostname");
	else for (i = 0; i < n; i++)	/* "*.name" is ".name" there */
		ret->match[ret->n_match++] = arena_copy(a, view_from(hosts[i],
		    view_starts_nocase(hosts[i], "*.") ? 1 : 0));
	return policy_finish(cf, a, ret, why);
}

bool
tls_policy_host(const struct tls_policy *p, struct view host)
{
	size_t i;

	for (i = 0; i < p->n_hosts; i++)
		if (sts_mx_match(p->hosts[i], host))
			return true;
	return p->n_hosts == 0;
}

/* -- entries --------------------------------------------------------------- */

/* "name=value"; once: only one is allowed, so *to must be empty. */
static bool
attribute_once(struct view name, struct view value, struct view *to,
    struct buf *why)
{
	if (value.n == 0 || to->n > 0)
		return policy_bad(why, "attribute %.*s %s", VIEW_ARGS(name),
		    value.n == 0 ? "without a value" : "twice");
	*to = value;
	return true;
}

/* Braces can hold more than a word. */
static bool
attribute_word(struct view name, struct view value, struct buf *why)
{
	struct view rest = value;

	if (view_word(&rest, SEPARATORS).n == value.n)
		return true;
	return policy_bad(why, "attribute %.*s: more than a word",
	    VIEW_ARGS(view_head(name, 100)));
}

/*
 * What a program that finds out MTA-STS policies says about one.  Reports are
 * made of most of it; which hosts mail may go to is what counts here.
 */
struct entry_about {
	bool sts;
	struct view hosts[TLS_MATCHES_MAX];
	size_t n_hosts;
};

/* False: it is none of these, or *why says what is wrong with it. */
static bool
entry_is_about(struct entry_about *about, struct view name, struct view value,
    struct buf *why)
{
	static const char *const others[] = { "policy_domain", "policy_ttl",
		"policy_string", "policy_failure" };
	size_t i;

	if (view_is_nocase(name, "policy_type")) {
		about->sts = view_is_nocase(value, "sts");
		return true;
	}
	if (view_is_nocase(name, "mx_host_pattern")) {
		if (about->n_hosts == TLS_MATCHES_MAX)
			return policy_bad(why, "mx_host_pattern: more than %u",
			    TLS_MATCHES_MAX);
		about->hosts[about->n_hosts++] = value;
		return attribute_word(name, value, why);
	}
	for (i = 0; i < sizeof others / sizeof others[0]; i++)
		if (view_is_nocase(name, others[i]))
			return true;
	return false;
}

/* The next attribute, without the braces it may be in; empty: none. */
static struct view
entry_word(struct view *entry)
{
	struct view word;
	size_t n = 0;

	while (n < entry->n && strchr(SEPARATORS, entry->p[n]) != NULL)
		n++;
	*entry = view_from(*entry, n);
	if (entry->n == 0 || entry->p[0] != '{')
		return view_word(entry, SEPARATORS);
	n = view_find(*entry, '}');
	word = view_trim(view_from(view_head(*entry, n), 1));
	*entry = view_from(*entry, n + 1);
	/* Nothing in them is an attribute without a name, too. */
	return word.n > 0 ? word : view_of("{}");
}

static bool
entry_attribute(struct tls_policy *p, struct view word,
    struct entry_about *about, struct buf *why)
{
	size_t n = view_find(word, '='), said = why->n;
	struct view name = view_trim(view_head(word, n));
	struct view value = view_trim(view_from(word, n + 1));

	if (n == word.n)
		return policy_bad(why, "no attribute=value: %.*s",
		    VIEW_ARGS(view_head(word, 100)));
	if (view_is_nocase(name, "protocols"))
		return attribute_once(name, value, &p->protocols, why);
	if (view_is_nocase(name, "ciphers"))
		return attribute_once(name, value, &p->ciphers, why);
	if (view_is_nocase(name, "servername"))
		return attribute_once(name, value, &p->servername, why) &&
		    attribute_word(name, value, why);
	if (view_is_nocase(name, "exclude")) {
		if (p->exclude.p != NULL)
			return policy_bad(why, "attribute exclude twice");
		p->exclude = value;
		return true;
	}
	if (entry_is_about(about, name, value, why))
		return true;
	if (why->n > said)
		return false;
	if (!view_is_nocase(name, "match"))
		return policy_bad(why, "unknown attribute %.*s",
		    VIEW_ARGS(view_head(name, 100)));
	if (value.n == 0 || !tls_level_names(p->level))
		return policy_bad(why, "attribute match %s%s", value.n == 0 ?
		    "without a value" : "at level ", value.n == 0 ? "" :
		    tls_level_name(p->level));
	/* Fingerprints have colons of their own. */
	return policy_match(p, value, p->level == TLS_LEVEL_FINGERPRINT ?
	    "| \t\r\n" : ": \t\r\n", why);
}

static bool
entry_prints(struct view entry)
{
	unsigned char c;
	size_t i;

	for (i = 0; i < entry.n; i++) {
		c = (unsigned char)entry.p[i];
		if (c == 0x7f || (c < ' ' && c != '\t' && c != '\r' &&
		    c != '\n'))
			return false;
	}
	return true;
}

bool
tls_policy_entry(const struct conf *cf, struct view entry, struct arena *a,
    struct tls_policy *ret, struct buf *why)
{
	struct entry_about about = { .sts = false };
	struct view word;
	size_t i;

	*ret = (struct tls_policy){ .source = TLS_FROM_TABLE };
	/* They would be in the key, which has its parts parted by such. */
	if (!entry_prints(entry))
		return policy_bad(why, "a control character");
	entry = arena_copy(a, entry);
	word = view_word(&entry, SEPARATORS);
	if (word.n == 0 || !tls_client_level_parse(word, &ret->level))
		return policy_bad(why, "unknown level \"%.*s\"",
		    VIEW_ARGS(view_head(word, 100)));
	policy_wrap(cf, ret);
	while ((word = entry_word(&entry)).n > 0) {
		if (ret->level == TLS_LEVEL_NONE)
			return policy_bad(why, "attributes at level none");
		if (!entry_attribute(ret, word, &about, why))
			return false;
	}
	if (about.sts && about.n_hosts > 0 && tls_level_names(ret->level) &&
	    ret->level != TLS_LEVEL_FINGERPRINT &&
	    cf->smtp_tls_enforce_sts_mx_patterns) {
		for (i = 0; i < about.n_hosts; i++)
			ret->hosts[ret->n_hosts++] = about.hosts[i];
		ret->match[0] = view_of("hostname");
		ret->n_match = 1;
	}
	return policy_finish(cf, a, ret, why);
}

enum table_answer
tls_policy_find(const struct table_list *maps, struct view hop,
    struct buf *value, const struct table **ret_table, unsigned *ret_line)
{
	enum table_answer a;
	struct view key = view_trim(hop);
	bool domain = address_valid_hostname(key);

	if (key.n == 0 || key.n > HOP_MAX)
		return TABLE_NOT_FOUND;
	do {
		a = table_list_find(maps, key, value, ret_table, ret_line);
		if (a != TABLE_NOT_FOUND || !domain)
			return a;
		key = view_from(key, 1);
		key = view_from(key, view_find(key, '.'));
	} while (key.n > 1);
	return TABLE_NOT_FOUND;
}
