#include "rules/literal_database.h"

#ifdef HAVE_HS

#include <errno.h>
#include <hs.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "rules/pattern_cache.h"

/* What a database can take; also of a question to the cache. */
#define DATABASE_MAX	PATTERN_CACHE_MAX
/* Fewer strings are compiled as fast as they are read. */
#define CACHED_MIN	64u

struct literal_database {
	size_t n;
	uint32_t *user;
	uint8_t *length;
	hs_database_t *database;
	hs_scratch_t *scratch;
};

/* -- making one ---------------------------------------------------------- */

static bool
compile(struct literal_database *d, const struct window_string *list)
{
	const char **text = mem_array(d->n, sizeof(*text));
	size_t *n = mem_array(d->n, sizeof(*n));
	unsigned *flags = mem_array(d->n, sizeof(*flags));
	unsigned *ids = mem_array(d->n, sizeof(*ids));
	hs_compile_error_t *e = NULL;
	bool ok;

	for (size_t i = 0; i < d->n; i++) {
		text[i] = (const char *)list[i].p;
		n[i] = list[i].n;
		flags[i] = list[i].nocase ? HS_FLAG_CASELESS : 0;
		ids[i] = (unsigned)i;
	}
	ok = hs_compile_lit_multi(text, flags, ids, n, (unsigned)d->n,
	    HS_MODE_BLOCK, NULL, &d->database, &e) == HS_SUCCESS;
	if (!ok)
		d->database = NULL;
	(void)hs_free_compile_error(e);
	free(text);
	free(n);
	free(flags);
	free(ids);
	return ok;
}

/*
 * All that a database is made from: the version of the library, what the
 * processor has, and the strings as they are numbered.
 */
static bool
question(const struct window_string *list, size_t n, struct buf *b)
{
	hs_platform_info_t host;
	bool ok;

	if (hs_populate_platform(&host) != HS_SUCCESS)
		return false;
	ok = buf_printf(b, "%s, tune %u, features %llx\n", hs_version(),
	    host.tune, (unsigned long long)host.cpu_features);
	for (size_t i = 0; i < n; i++)
		ok = ok && buf_putc(b, (char)list[i].n) &&
		    buf_putc(b, list[i].nocase ? 'i' : ' ') &&
		    buf_putv(b, view_make((const char *)list[i].p,
		    list[i].n));
	return ok;
}

/* The library looks for itself whether it can use what it is given. */
static bool
database_get(struct literal_database *d, const char *cache, struct view q)
{
	struct buf b;
	bool ok;

	buf_init(&b, DATABASE_MAX);
	ok = pattern_cache_get(cache, q, &b) && hs_deserialize_database(b.p,
	    b.n, &d->database) == HS_SUCCESS;
	if (!ok)
		d->database = NULL;
	buf_free(&b);
	return ok;
}

static void
database_put(const struct literal_database *d, const char *cache,
    struct view q)
{
	size_t n;
	char *text;

	if (hs_serialize_database(d->database, &text, &n) != HS_SUCCESS)
		return;
	if (!pattern_cache_put(cache, q, view_make(text, n)))
		log_info("%s: cannot keep a compiled set of rules: %s", cache,
		    strerror(errno));
	free(text);
}

static bool
make(struct literal_database *d, const struct window_string *list,
    const char *cache)
{
	struct buf q;
	bool ok, kept;

	buf_init(&q, DATABASE_MAX);
	kept = cache != NULL && d->n >= CACHED_MIN && question(list, d->n, &q);
	ok = kept && database_get(d, cache, buf_view(&q));
	if (!ok) {
		ok = compile(d, list);
		if (ok && kept)
			database_put(d, cache, buf_view(&q));
	}
	buf_free(&q);
	return ok;
}

static void
database_free(struct literal_database **dp)
{
	struct literal_database *d = *dp;

	if (d == NULL)
		return;
	(void)hs_free_scratch(d->scratch);
	(void)hs_free_database(d->database);
	free(d->user);
	free(d->length);
	free(d);
	*dp = NULL;
}

static struct literal_database *
database_new(const struct window_string *list, const uint32_t *user,
    size_t n, const char *cache)
{
	struct literal_database *d = mem_alloc(sizeof(*d));

	d->n = n;
	d->user = mem_array(n, sizeof(*d->user));
	d->length = mem_array(n, sizeof(*d->length));
	for (size_t i = 0; i < n; i++) {
		d->user[i] = user[i];
		d->length[i] = list[i].n;
	}
	if (!make(d, list, cache) ||
	    hs_alloc_scratch(d->database, &d->scratch) != HS_SUCCESS)
		database_free(&d);
	return d;
}

/* -- asking -------------------------------------------------------------- */

struct search {
	const struct literal_database *database;
	void (*fn)(const struct literal_found *list, size_t n, void *arg);
	void *arg;
};

static int
on_string(unsigned string, unsigned long long from, unsigned long long to,
    unsigned flags, void *arg)
{
	const struct search *s = arg;
	const struct literal_database *d = s->database;
	const struct literal_found found = { d->user[string], 0,
		(size_t)to - d->length[string] };

	(void)from;
	(void)flags;
	s->fn(&found, 1, s->arg);
	return 0;
}

static bool
database_scan(const struct literal_database *d, struct view text,
    void (*fn)(const struct literal_found *list, size_t n, void *arg),
    void *arg)
{
	struct search s = { d, fn, arg };

	/* Strings are not empty, so an empty text has none of them. */
	return text.n == 0 || (text.n <= UINT32_MAX && hs_scan(d->database,
	    text.p, (unsigned)text.n, 0, d->scratch, on_string, &s) ==
	    HS_SUCCESS);
}

const struct literal_databases *
literal_databases(void)
{
	static const struct literal_databases databases = {
		.new = database_new, .free = database_free,
		.scan = database_scan
	};

	return hs_valid_platform() == HS_SUCCESS ? &databases : NULL;
}

#else

const struct literal_databases *
literal_databases(void)
{
	return NULL;
}

#endif
