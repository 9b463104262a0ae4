#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "lib/mem.h"
#include "lib/tls_words.h"

#define SEPARATORS	", \t\r\n"
#define GROUPS_MAX	1000u

/* What no grade has: no authentication, no encryption, or broken. */
#define NEVER	":!aNULL:!eNULL:!SEED:!IDEA:!3DES:!RC2:!RC4:!RC5:!MD5:" \
	"!aDSS:!kDHd:!kDHr:!kECDHe:!kECDHr:!PSK:!SRP:!EXP:!LOW"

static const char *const levels[] = {
	[TLS_LEVEL_NONE] = "none", [TLS_LEVEL_MAY] = "may",
	[TLS_LEVEL_ENCRYPT] = "encrypt",
	[TLS_LEVEL_FINGERPRINT] = "fingerprint",
	[TLS_LEVEL_HALFDANE] = "halfdane", [TLS_LEVEL_DANE] = "dane",
	[TLS_LEVEL_DANE_ONLY] = "dane-only",
	[TLS_LEVEL_VERIFY] = "verify", [TLS_LEVEL_SECURE] = "secure",
};

bool
tls_client_level_parse(struct view word, enum tls_level *ret)
{
	size_t i;

	word = view_trim(word);
	for (i = 0; i < sizeof levels / sizeof levels[0]; i++)
		if ((view_is_nocase(word, levels[i]) &&
		    i != TLS_LEVEL_HALFDANE) || (i == TLS_LEVEL_NONE &&
		    word.n == 0)) {
			*ret = (enum tls_level)i;
			return true;
		}
	return false;
}

static bool
level_set(const char *text, enum tls_level old, enum tls_level *ret)
{
	if (view_trim(view_of(text)).n > 0)
		return tls_client_level_parse(view_of(text), ret);
	*ret = old;
	return true;
}

bool
tls_server_level(const struct conf *cf, enum tls_level *ret)
{
	enum tls_level old = cf->smtpd_enforce_tls ? TLS_LEVEL_ENCRYPT :
	    cf->smtpd_use_tls ? TLS_LEVEL_MAY : TLS_LEVEL_NONE, level;

	if (!level_set(cf->smtpd_tls_security_level, old, &level) ||
	    level == TLS_LEVEL_DANE || level == TLS_LEVEL_DANE_ONLY)
		return false;
	*ret = level;
	return true;
}

bool
tls_client_level(const struct conf *cf, enum tls_level *ret)
{
	enum tls_level old = cf->smtp_use_tls ? TLS_LEVEL_MAY : TLS_LEVEL_NONE;

	if (cf->smtp_enforce_tls)
		old = cf->smtp_tls_enforce_peername ? TLS_LEVEL_VERIFY :
		    TLS_LEVEL_ENCRYPT;
	return level_set(cf->smtp_tls_security_level, old, ret);
}

const char *
tls_level_name(enum tls_level level)
{
	return levels[level];
}

/* -- protocols ------------------------------------------------------------- */

static const struct {
	const char *name;
	int version;
	uint64_t off;
} protocols[] = {
	{ "SSLv2", SSL2_VERSION, 0 },		/* long gone */
	{ "SSLv3", SSL3_VERSION, SSL_OP_NO_SSLv3 },
	{ "TLSv1", TLS1_VERSION, SSL_OP_NO_TLSv1 },
	{ "TLSv1.0", TLS1_VERSION, SSL_OP_NO_TLSv1 },
	{ "TLSv1.1", TLS1_1_VERSION, SSL_OP_NO_TLSv1_1 },
	{ "TLSv1.2", TLS1_2_VERSION, SSL_OP_NO_TLSv1_2 },
	{ "TLSv1.3", TLS1_3_VERSION, SSL_OP_NO_TLSv1_3 },
};
#define PROTOCOLS	(sizeof protocols / sizeof protocols[0])

/* The index of a name or number; PROTOCOLS: there is none. */
static size_t
protocol_find(struct view word)
{
	int64_t number = -1;
	size_t i;

	if (view_starts_nocase(word, "0x")) {
		for (number = 0, i = 2; i < word.n && i < 6 &&
		    isxdigit((unsigned char)word.p[i]); i++)
			number = number * 16 + (word.p[i] <= '9' ?
			    word.p[i] - '0' : (word.p[i] | 32) - 'a' + 10);
		if (i != word.n)
			return PROTOCOLS;
	}
	for (i = 0; i < PROTOCOLS; i++)
		if (view_is_nocase(word, protocols[i].name) ||
		    number == protocols[i].version)
			break;
	return i;
}

/* A bound that only SSLv2 is on the wrong side of is none. */
static int
protocol_bound(size_t i)
{
	return protocols[i].off == 0 ? 0 : protocols[i].version;
}

/* Is it on by what was parsed? */
static bool
protocol_on(const struct tls_protocols *p, size_t i)
{
	int v = protocols[i].version;

	return protocols[i].off != 0 && (p->off & protocols[i].off) == 0 &&
	    (p->min == 0 || v >= p->min) && (p->max == 0 || v <= p->max);
}

bool
tls_protocols_parse(struct view words, struct tls_protocols *ret,
    struct view *ret_bad)
{
	struct tls_protocols p = { 0 };
	uint64_t included = 0, all = 0;
	struct view word, name;
	bool listed = false, any = false;
	size_t i;

	while ((word = view_word(&words, SEPARATORS ":")).n > 0) {
		bool less = word.n > 2 && memcmp(word.p, "<=", 2) == 0;
		bool more = word.n > 2 && memcmp(word.p, ">=", 2) == 0;
		bool not = word.p[0] == '!';

		name = view_from(word, less || more ? 2 : not ? 1 : 0);
		i = protocol_find(name);
		*ret_bad = word;
		if (i == PROTOCOLS)
			return false;
		if (less)
			p.max = protocol_bound(i);
		else if (more)
			p.min = protocol_bound(i);
		else if (not)
			p.off |= protocols[i].off;
		else {
			included |= protocols[i].off;
			listed = true;
		}
	}
	for (i = 0; i < PROTOCOLS; i++)
		all |= protocols[i].off;
	if (listed)
		p.off |= all & ~included;
	for (i = 0; i < PROTOCOLS; i++)
		if (protocol_on(&p, i)) {
			any = true;
			p.old = p.old ||
			    protocols[i].version < TLS1_2_VERSION;
		}
	*ret_bad = view_of("");
	if (any)
		*ret = p;
	return any;
}

/* -- options --------------------------------------------------------------- */

bool
tls_options_parse(struct view words, uint64_t *ret, struct view *ret_bad)
{
	static const struct {
		const char *name;
		uint64_t bit;
	} options[] = {
		{ "LEGACY_SERVER_CONNECT", SSL_OP_LEGACY_SERVER_CONNECT },
		{ "NO_TICKET", SSL_OP_NO_TICKET },
		{ "NO_COMPRESSION", SSL_OP_NO_COMPRESSION },
		{ "NO_RENEGOTIATION", SSL_OP_NO_RENEGOTIATION },
		{ "NO_SESSION_RESUMPTION_ON_RENEGOTIATION",
		    SSL_OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION },
		{ "PRIORITIZE_CHACHA", SSL_OP_PRIORITIZE_CHACHA },
		{ "ENABLE_MIDDLEBOX_COMPAT", SSL_OP_ENABLE_MIDDLEBOX_COMPAT },
		{ "CISCO_ANYCONNECT", SSL_OP_CISCO_ANYCONNECT },
		{ "TLSEXT_PADDING", SSL_OP_TLSEXT_PADDING },
		{ "NO_ENCRYPT_THEN_MAC", SSL_OP_NO_ENCRYPT_THEN_MAC },
		{ "DONT_INSERT_EMPTY_FRAGMENTS",
		    SSL_OP_DONT_INSERT_EMPTY_FRAGMENTS },
		{ "CIPHER_SERVER_PREFERENCE",
		    SSL_OP_CIPHER_SERVER_PREFERENCE },
	};
	const size_t n = sizeof options / sizeof options[0];
	uint64_t bits = 0;
	struct view word;
	size_t i;

	while ((word = view_word(&words, SEPARATORS)).n > 0) {
		for (i = 0; i < n; i++)
			if (view_is_nocase(word, options[i].name))
				break;
		if (i == n) {
			*ret_bad = word;
			return false;
		}
		bits |= options[i].bit;
	}
	*ret = bits;
	return true;
}

/* -- ciphers --------------------------------------------------------------- */

/* A name of OpenSSL, or several joined by '+': nothing that would begin
 * another element of the list. */
static bool
cipher_is_name(struct view word)
{
	size_t i;

	for (i = 0; i < word.n; i++)
		if (!isalnum((unsigned char)word.p[i]) && word.p[i] != '-' &&
		    word.p[i] != '_' && word.p[i] != '+' && word.p[i] != '.')
			return false;
	return word.n > 0;
}

bool
tls_ciphers_put(const struct conf *cf, const char *grade,
    const char *exclude, struct buf *out, struct view *ret_bad)
{
	bool high = view_is_nocase(view_of(grade), "high");
	struct view rest = view_of(exclude), word;
	bool ok;

	*ret_bad = view_of("");
	ok = buf_puts(out, high ? cf->tls_high_cipherlist :
	    cf->tls_medium_cipherlist) && buf_puts(out, NEVER);
	while (ok && (word = view_word(&rest, SEPARATORS ":")).n > 0) {
		if (!cipher_is_name(word)) {
			*ret_bad = word;
			return false;
		}
		ok = buf_printf(out, ":!%.*s", VIEW_ARGS(word));
	}
	return ok;
}

/* -- groups ---------------------------------------------------------------- */

#define GROUPS_SYNTAX	0x30500000u	/* the library has one of its own */

/*
 * Since OpenSSL 3.5: "/" between sets of groups that are as good as each
 * other, "*" a key of it is sent at once, "-" not this one, DEFAULT.  What is
 * not known is left out by its "?".
 */
static void
groups_put(struct view words, struct buf *out)
{
	struct view set, word;
	size_t n;

	while (words.n > 0) {
		set = view_head(words, view_find(words, '/'));
		words = view_from(words, set.n + 1);
		n = out->n;
		if (n > 0)
			(void)buf_putc(out, '/');
		n = out->n;
		while ((word = view_word(&set, SEPARATORS ":")).n > 0)
			(void)buf_printf(out, "%s%s%.*s", out->n > n ? ":" :
			    "", view_has(view_of("?-"), word.p[0]) ||
			    view_is(word, "DEFAULT") ? "" : "?",
			    VIEW_ARGS(word));
		if (out->n == n && n > 0)
			out->n--;	/* an empty set */
	}
}

static bool
groups_try(SSL_CTX *ctx, struct buf *list)
{
	if (list->n == 0 || list->n >= GROUPS_MAX)
		return false;
	/* The call takes no constant, but changes nothing. */
	(void)buf_cstr(list);
	return SSL_CTX_set1_groups_list(ctx, list->p) == 1;
}

bool
tls_groups_set(SSL_CTX *ctx, const char *words)
{
	struct view rest = view_of(words), word;
	struct buf all;
	bool ok = false, any = false;
	char *name;

	buf_init(&all, GROUPS_MAX);
	if (OpenSSL_version_num() >= GROUPS_SYNTAX) {
		groups_put(rest, &all);
		ok = groups_try(ctx, &all);
		buf_clear(&all);
	}
	while (!ok && (word = view_word(&rest, SEPARATORS ":/?*")).n > 0) {
		any = true;
		name = mem_copy(word);
		/* One that the library lacks would spoil the list. */
		if (name[0] != '-' && SSL_CTX_set1_groups_list(ctx, name) == 1)
			(void)buf_printf(&all, "%s%s", all.n > 0 ? ":" : "",
			    name);
		free(name);
	}
	ok = ok || !any || groups_try(ctx, &all);
	buf_free(&all);
	ERR_clear_error();
	return ok;
}
