/* link: rules/sts_policy.c rules/tls_policy.c */
/*
 * Entries of smtp_tls_policy_maps: what is taken is a policy that a session can
 * be made with, the same each time, and is told from others by its key; what is
 * refused has a reason.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "rules/tls_policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA	(1u << 20)

/* A part of the key, which is parted by tabs. */
static void
one_word(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		ensure((unsigned char)v.p[i] > ' ' && v.p[i] != 0x7f);
}

static void
sound(const struct conf *cf, const struct tls_policy *p)
{
	struct tls_protocols protocols;
	struct view bad;
	size_t i;

	ensure(p->source == TLS_FROM_TABLE);
	ensure(p->level >= TLS_LEVEL_NONE && p->level <= TLS_LEVEL_SECURE);
	ensure(!cf->smtp_tls_wrappermode || p->level >= TLS_LEVEL_ENCRYPT);
	ensure(p->key.n > 0 && p->key.n <= TLS_POLICY_KEY_MAX);
	ensure(p->n_match <= TLS_MATCHES_MAX && p->n_hosts <= TLS_MATCHES_MAX);
	ensure(tls_level_names(p->level) == (p->n_match > 0));
	for (i = 0; i < p->n_match; i++) {
		ensure(p->match[i].n > 0);
		one_word(p->match[i]);
	}
	for (i = 0; i < p->n_hosts; i++)
		one_word(p->hosts[i]);
	one_word(p->servername);
	if (p->level > TLS_LEVEL_NONE)
		ensure(tls_protocols_parse(p->protocols, &protocols, &bad));
	/* Names need not be known; that it ends is enough. */
	(void)tls_policy_host(p, view_of("mx.example.org"));
	(void)tls_policy_host(p, view_of(""));
}

static void
entry(const struct conf *cf, struct view text)
{
	struct arena *a = arena_new(ARENA), *b = arena_new(ARENA);
	struct tls_policy one, two;
	struct buf why;

	buf_init(&why, 2000);
	if (tls_policy_entry(cf, text, a, &one, &why)) {
		sound(cf, &one);
		ensure(tls_policy_entry(cf, text, b, &two, &why));
		ensure(view_eq(one.key, two.key) && one.level == two.level);
	} else
		ensure(why.n > 0);
	buf_free(&why);
	arena_free(&a);
	arena_free(&b);
}

static struct conf *
conf(const char *more)
{
	struct conf *cf;
	struct buf b;

	/* Set, so that no interface or name is looked up. */
	buf_init(&b, 1000);
	(void)buf_printf(&b, "mynetworks = 127.0.0.0/8\n"
	    "myhostname = h.example.com\n"
	    "smtp_tls_fingerprint_cert_match = AA:BB\n%s", more);
	cf = conf_parse(buf_view(&b), "main.cf", NULL, NULL);
	buf_free(&b);
	ensure(cf != NULL);
	return cf;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct conf *usual, *wraps;

	if (usual == NULL) {
		usual = conf("");
		wraps = conf("smtp_tls_wrappermode = yes\n"
		    "smtp_tls_enforce_sts_mx_patterns = no\n");
	}
	/* As long as an entry may be. */
	if (size <= 16384) {
		entry(usual, view_make(data, size));
		entry(wraps, view_make(data, size));
	}
	return 0;
}
