#include "rules/pattern_set.h"

#ifdef HAVE_HS

#include <errno.h>
#include <hs.h>
#include <stdlib.h>

#include "lib/log.h"
#include "rules/pattern_cache.h"

/* What a database can take; also of a question to the cache. */
#define DATABASE_MAX	PATTERN_CACHE_MAX
/* Fewer strings are compiled as fast as they are read. */
#define CACHED_MIN	1000u

/* A string, and one of the rules that it is for: as its first need, or as its
 * second. */
struct member {
	struct literal literal;
	uint32_t rule;
	bool second;
};

/*
 * Bit r of the words says that rule r may match; bit w of top says that there
 * is a bit in word w.  Between two scans the words that differ from always
 * are those whose top bit is set.
 */
struct pattern_set {
	size_t rules, words, tops;
	uint64_t *may, *top;
	uint64_t *always, *always_top;

	struct member *list;	/* until it is built */
	size_t n, room;

	/*
	 * String i is the first need of rules user[first[i]] up to
	 * user[first[i+1]-1].  A rule of them may match if it has no second
	 * need, or one of the strings second[from[r]] up to
	 * second[from[r+1]-1] has been seen, too.
	 */
	size_t strings;
	uint32_t *first, *user;
	uint32_t *from, *second;
	uint32_t *seen, scans;	/* in which scan string i was seen last */
	hs_database_t *database;
	hs_scratch_t *scratch;
};

static void
bit_set(uint64_t *words, size_t i)
{
	words[i / 64] |= (uint64_t)1 << (i % 64);
}

static void
bit_clear(uint64_t *words, size_t i)
{
	words[i / 64] &= ~((uint64_t)1 << (i % 64));
}

static size_t
bit_first(uint64_t word)
{
	return (size_t)__builtin_ctzll(word);
}

/* -- before it is built -------------------------------------------------- */

static struct pattern_set *
set_new(size_t rules)
{
	struct pattern_set *s = mem_alloc(sizeof(*s));

	ensure(rules < UINT32_MAX);
	s->rules = rules;
	s->words = rules / 64 + 1;
	s->tops = s->words / 64 + 1;
	s->may = mem_array(s->words, sizeof(uint64_t));
	s->always = mem_array(s->words, sizeof(uint64_t));
	s->top = mem_array(s->tops, sizeof(uint64_t));
	s->always_top = mem_array(s->tops, sizeof(uint64_t));
	for (size_t i = 0; i < rules; i++)
		bit_set(s->always, i);
	return s;
}

static void
set_free(struct pattern_set **sp)
{
	struct pattern_set *s = *sp;

	if (s == NULL)
		return;
	(void)hs_free_scratch(s->scratch);
	(void)hs_free_database(s->database);
	free(s->may);
	free(s->top);
	free(s->always);
	free(s->always_top);
	free(s->list);
	free(s->first);
	free(s->user);
	free(s->seen);
	free(s->from);
	free(s->second);
	free(s);
	*sp = NULL;
}

static void
set_put(struct pattern_set *s, const struct literals *l, size_t rule,
    bool second)
{
	while (s->n + l->n > s->room) {
		s->room = s->room > 0 ? 2 * s->room : 256;
		s->list = mem_resize(s->list, s->room, sizeof(*s->list));
	}
	for (size_t i = 0; i < l->n; i++)
		s->list[s->n++] = (struct member){ l->list[i],
			(uint32_t)rule, second };
}

static void
set_add(struct pattern_set *s, size_t rule, const struct needs *l)
{
	ensure(rule < s->rules && s->database == NULL && l->n > 0);
	set_put(s, &l->of[0], rule, false);
	if (l->n > 1)
		set_put(s, &l->of[1], rule, true);
	bit_clear(s->always, rule);
}

static void
set_never(struct pattern_set *s, size_t rule)
{
	bit_clear(s->always, rule);
}

/* -- the database -------------------------------------------------------- */

static int
literal_compare(const struct literal *x, const struct literal *y)
{
	int c = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);

	return c != 0 ? c : x->n != y->n ? (int)x->n - (int)y->n :
	    (int)x->nocase - (int)y->nocase;
}

static int
member_compare(const void *a, const void *b)
{
	const struct member *x = a, *y = b;
	int c = literal_compare(&x->literal, &y->literal);

	return c != 0 ? c : (x->rule > y->rule) - (x->rule < y->rule);
}

/* Members with the same string share its number.  Returns the strings, one
 * for each number; number[i] is that of member i. */
static struct literal *
number_strings(struct pattern_set *s, uint32_t *number)
{
	struct literal *strings = mem_array(s->n, sizeof(*strings));

	qsort(s->list, s->n, sizeof(*s->list), member_compare);
	for (size_t i = 0; i < s->n; i++) {
		const struct literal *l = &s->list[i].literal;

		if (s->strings == 0 ||
		    literal_compare(l, &strings[s->strings - 1]) != 0)
			strings[s->strings++] = *l;
		number[i] = (uint32_t)s->strings - 1;
	}
	return strings;
}

/*
 * Fill user and first (of keys strings), or second and from (of keys rules):
 * the values of each key in a row, and where its row begins.
 */
static uint32_t *
make_rows(const struct pattern_set *s, const uint32_t *number, bool second,
    size_t keys, uint32_t **ret_begin)
{
	uint32_t *begin = mem_array(keys + 2, sizeof(*begin));
	uint32_t *rows = mem_array(s->n + 1, sizeof(*rows));

	/* Each row's begin stands one place further until it is filled. */
	for (size_t i = 0; i < s->n; i++)
		if (s->list[i].second == second)
			begin[2 + (second ? s->list[i].rule : number[i])]++;
	for (size_t k = 2; k < keys + 2; k++)
		begin[k] += begin[k - 1];
	for (size_t i = 0; i < s->n; i++) {
		const struct member *m = &s->list[i];

		if (m->second != second)
			continue;
		rows[begin[1 + (second ? m->rule : number[i])]++] = second ?
		    number[i] : m->rule;
	}
	*ret_begin = begin;
	return rows;
}

static struct literal *
sort_members(struct pattern_set *s)
{
	uint32_t *number = mem_array(s->n, sizeof(*number));
	struct literal *strings = number_strings(s, number);

	s->user = make_rows(s, number, false, s->strings, &s->first);
	s->second = make_rows(s, number, true, s->rules, &s->from);
	s->seen = mem_array(s->strings, sizeof(*s->seen));
	free(number);
	free(s->list);
	s->list = NULL;
	return strings;
}

static bool
compile(struct pattern_set *s, const struct literal *strings)
{
	const char **text = mem_array(s->strings, sizeof(*text));
	size_t *n = mem_array(s->strings, sizeof(*n));
	unsigned *flags = mem_array(s->strings, sizeof(*flags));
	unsigned *ids = mem_array(s->strings, sizeof(*ids));
	hs_compile_error_t *e = NULL;
	bool ok;

	for (size_t i = 0; i < s->strings; i++) {
		text[i] = strings[i].p;
		n[i] = strings[i].n;
		flags[i] = strings[i].nocase ? HS_FLAG_CASELESS : 0;
		ids[i] = (unsigned)i;
	}
	ok = hs_compile_lit_multi(text, flags, ids, n, (unsigned)s->strings,
	    HS_MODE_BLOCK, NULL, &s->database, &e) == HS_SUCCESS;
	if (!ok)
		s->database = NULL;
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
question(const struct pattern_set *s, const struct literal *strings,
    struct buf *b)
{
	hs_platform_info_t host;
	bool ok;

	if (hs_populate_platform(&host) != HS_SUCCESS)
		return false;
	ok = buf_printf(b, "%s, tune %u, features %llx\n", hs_version(),
	    host.tune, (unsigned long long)host.cpu_features);
	for (size_t i = 0; i < s->strings; i++)
		ok = ok && buf_putc(b, (char)strings[i].n) &&
		    buf_putc(b, strings[i].nocase ? 'i' : ' ') &&
		    buf_putv(b, view_make(strings[i].p, strings[i].n));
	return ok;
}

/* The library looks for itself whether it can use what it is given. */
static bool
database_get(struct pattern_set *s, const char *cache, struct view q)
{
	struct buf b;
	bool ok;

	buf_init(&b, DATABASE_MAX);
	ok = pattern_cache_get(cache, q, &b) && hs_deserialize_database(b.p,
	    b.n, &s->database) == HS_SUCCESS;
	if (!ok)
		s->database = NULL;
	buf_free(&b);
	return ok;
}

static void
database_put(const struct pattern_set *s, const char *cache, struct view q)
{
	size_t n;
	char *text;

	if (hs_serialize_database(s->database, &text, &n) != HS_SUCCESS)
		return;
	if (!pattern_cache_put(cache, q, view_make(text, n)))
		log_info("%s: cannot keep a compiled set of rules: %s", cache,
		    strerror(errno));
	free(text);
}

static bool
database_make(struct pattern_set *s, const struct literal *strings,
    const char *cache)
{
	struct buf q;
	bool ok, kept;

	buf_init(&q, DATABASE_MAX);
	kept = cache != NULL && s->strings >= CACHED_MIN &&
	    question(s, strings, &q);
	ok = kept && database_get(s, cache, buf_view(&q));
	if (!ok) {
		ok = compile(s, strings);
		if (ok && kept)
			database_put(s, cache, buf_view(&q));
	}
	buf_free(&q);
	return ok;
}

static bool
set_build(struct pattern_set *s, const char *cache, const char **ret_why)
{
	struct literal *strings;
	bool ok;

	if (s->n == 0) {
		*ret_why = "none has a string to look for";
		return false;
	}
	strings = sort_members(s);
	ok = database_make(s, strings, cache) &&
	    hs_alloc_scratch(s->database, &s->scratch) == HS_SUCCESS;
	free(strings);
	if (!ok) {
		*ret_why = "Vectorscan cannot compile them";
		return false;
	}
	for (size_t w = 0; w < s->words; w++)
		if (s->always[w] != 0)
			bit_set(s->always_top, w);
	memcpy(s->may, s->always, s->words * sizeof(s->may[0]));
	memcpy(s->top, s->always_top, s->tops * sizeof(s->top[0]));
	return true;
}

/* -- asking -------------------------------------------------------------- */

static int
on_string(unsigned string, unsigned long long from, unsigned long long to,
    unsigned flags, void *arg)
{
	struct pattern_set *s = arg;

	(void)from;
	(void)to;
	(void)flags;
	if (s->seen[string] == s->scans)
		return 0;
	s->seen[string] = s->scans;
	for (uint32_t i = s->first[string]; i < s->first[string + 1]; i++) {
		bit_set(s->may, s->user[i]);
		bit_set(s->top, s->user[i] / 64);
	}
	return 0;
}

static void
forget(struct pattern_set *s)
{
	for (size_t t = 0; t < s->tops; t++) {
		uint64_t top = s->top[t];

		for (; top != 0; top &= top - 1) {
			size_t w = 64 * t + bit_first(top);

			s->may[w] = s->always[w];
		}
		s->top[t] = s->always_top[t];
	}
	if (++s->scans == 0) {
		memset(s->seen, 0, s->strings * sizeof(s->seen[0]));
		s->scans = 1;
	}
}

static bool
set_scan(struct pattern_set *s, struct view key)
{
	if (key.n > UINT32_MAX)
		return false;
	forget(s);
	/* Strings are not empty, so an empty key has none of them. */
	return key.n == 0 || hs_scan(s->database, key.p, (unsigned)key.n, 0,
	    s->scratch, on_string, s) == HS_SUCCESS;
}

/* The first bit from this one on; s->rules if there is none. */
static size_t
next_bit(const struct pattern_set *s, size_t rule)
{
	size_t w = rule / 64, t;
	uint64_t word, top;

	if (rule >= s->rules)
		return s->rules;
	word = s->may[w] & (UINT64_MAX << (rule % 64));
	if (word != 0)
		return 64 * w + bit_first(word);
	w++;
	if (w >= s->words)
		return s->rules;
	t = w / 64;
	top = s->top[t] & (UINT64_MAX << (w % 64));
	while (top == 0) {
		if (++t == s->tops)
			return s->rules;
		top = s->top[t];
	}
	w = 64 * t + bit_first(top);
	return 64 * w + bit_first(s->may[w]);
}

static bool
second_seen(const struct pattern_set *s, size_t rule)
{
	uint32_t i = s->from[rule], end = s->from[rule + 1];

	if (i == end)
		return true;
	while (i < end && s->seen[s->second[i]] != s->scans)
		i++;
	return i < end;
}

static size_t
set_next(const struct pattern_set *s, size_t rule)
{
	do {
		rule = next_bit(s, rule);
		if (rule == s->rules)
			return rule;
	} while (!second_seen(s, rule++));
	return rule - 1;
}

static bool
set_has(const struct pattern_set *s, size_t rule)
{
	return (s->may[rule / 64] >> (rule % 64) & 1) != 0 &&
	    second_seen(s, rule);
}

const struct pattern_sets *
pattern_sets(void)
{
	static const struct pattern_sets sets = {
		.new = set_new, .free = set_free, .add = set_add,
		.never = set_never, .build = set_build, .scan = set_scan,
		.next = set_next, .has = set_has
	};

	return hs_valid_platform() == HS_SUCCESS ? &sets : NULL;
}

#else

const struct pattern_sets *
pattern_sets(void)
{
	return NULL;
}

#endif
