#include <stdlib.h>

#include "lib/log.h"
#include "rules/literal_index.h"
#include "rules/pattern_set.h"

#define RULES_MAX	UINT32_MAX
#define MORE_MAX	(1u << 26)

/*
 * A window of the first list of a rule.  Where it is found the text must have
 * windows of the rule's other lists, too: more[more] and so on, more_n of
 * them, if there are any.
 */
struct place {
	uint32_t rule;
	uint32_t more:26, more_n:6;
	struct window window;
};

/* Of those up to the next end of a list there must be one. */
struct more {
	struct window_triples triples;
	bool end;
	struct window window;
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

	struct byte_classes *classes;
	struct place *place;
	size_t n, room;
	struct more *more;
	size_t n_more, more_room;
	uint32_t *nevers;
	size_t n_nevers;
	/* One of them. */
	struct literal_index *index;
	struct literal_database *database;
	const struct literal_databases *how;
	const char *cache;

	struct view key;	/* of this scan */
	uint32_t *asked, scans;	/* in which scan has_more() was asked last */
	bool has_triples;
	struct triples triples;	/* of the key */
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
set_new(const struct literal_databases *database, const char *cache)
{
	struct pattern_set *s = mem_alloc(sizeof(*s));

	s->how = database;
	s->cache = cache;
	s->classes = byte_classes_new();
	return s;
}

static void
set_free(struct pattern_set **sp)
{
	struct pattern_set *s = *sp;

	if (s == NULL)
		return;
	byte_classes_free(&s->classes);
	literal_index_free(&s->index);
	if (s->database != NULL)
		s->how->free(&s->database);
	free(s->may);
	free(s->top);
	free(s->always);
	free(s->always_top);
	free(s->place);
	free(s->nevers);
	free(s->more);
	free(s->asked);
	free(s);
	*sp = NULL;
}

static void
put_more(struct pattern_set *s, const struct windows *l, struct place *p)
{
	_Static_assert((NEEDS_MAX - 1) * WINDOWS_MAX < 1u << 6,
	    "place.more_n");
	if (s->n_more + l->n >= MORE_MAX)
		return;
	while (s->n_more + l->n > s->more_room) {
		s->more_room = 2 * s->more_room + WINDOWS_MAX;
		s->more = mem_resize(s->more, s->more_room,
		    sizeof(*s->more));
	}
	for (size_t i = 0; i < l->n; i++) {
		struct more *m = &s->more[s->n_more++];

		m->window = l->list[i];
		m->end = i + 1 == l->n;
		window_triples(&l->list[i], s->classes, &m->triples);
		p->more_n++;
	}
}

static void
put_place(struct pattern_set *s, const struct place *p)
{
	if (s->n == s->room) {
		s->room = s->room > 0 ? 2 * s->room : 256;
		s->place = mem_resize(s->place, s->room, sizeof(*s->place));
	}
	s->place[s->n++] = *p;
}

static bool
set_add(struct pattern_set *s, size_t rule, const struct pattern_node *tree)
{
	struct place p = { .rule = (uint32_t)rule,
		.more = (uint32_t)s->n_more & (MORE_MAX - 1) };
	struct needs l;

	ensure(rule < RULES_MAX && s->may == NULL);
	if (!pattern_needs(tree, s->classes, &l) ||
	    s->n + l.of[0].n >= LITERAL_USERS_MAX)
		return false;
	for (size_t i = 1; i < l.n; i++)
		put_more(s, &l.of[i], &p);
	for (size_t i = 0; i < l.of[0].n; i++) {
		p.window = l.of[0].list[i];
		put_place(s, &p);
	}
	return true;
}

static void
set_never(struct pattern_set *s, size_t rule)
{
	s->nevers = mem_resize(s->nevers, s->n_nevers + 1,
	    sizeof(*s->nevers));
	s->nevers[s->n_nevers++] = (uint32_t)rule;
}

/* NULL: there are too many strings, or they cannot be searched for so. */
static struct literal_database *
make_database(const struct pattern_set *s)
{
	struct window_string list[LITERAL_DATABASE_MAX + WINDOW_LITERALS_MAX];
	uint32_t user[LITERAL_DATABASE_MAX + WINDOW_LITERALS_MAX];
	size_t n = 0;

	if (s->how == NULL)
		return NULL;
	for (size_t i = 0; i < s->n; i++) {
		unsigned m = window_strings(&s->place[i].window, s->classes,
		    list + n);

		for (unsigned k = 0; k < m; k++)
			user[n + k] = (uint32_t)i;
		n += m;
		if (m == 0 || n > LITERAL_DATABASE_MAX)
			return NULL;
	}
	return s->how->new(list, user, n, s->cache);
}

static struct literal_index *
make_index(const struct pattern_set *s)
{
	struct literal *list = NULL, part[WINDOW_LITERALS_MAX];
	struct literal_index *x;
	size_t n = 0, room = 0;

	for (size_t i = 0; i < s->n; i++) {
		unsigned m = window_literals(&s->place[i].window, s->classes,
		    part);

		if (n + m > room) {
			room = 2 * room + WINDOW_LITERALS_MAX;
			list = mem_resize(list, room, sizeof(*list));
		}
		for (unsigned k = 0; k < m; k++) {
			part[k].user = (uint32_t)i;
			list[n++] = part[k];
		}
	}
	x = literal_index_new(list, n);
	free(list);
	return x;
}

static void
make_bits(struct pattern_set *s)
{
	s->words = s->rules / 64 + 1;
	s->tops = s->words / 64 + 1;
	s->may = mem_array(s->words, sizeof(uint64_t));
	s->always = mem_array(s->words, sizeof(uint64_t));
	s->top = mem_array(s->tops, sizeof(uint64_t));
	s->always_top = mem_array(s->tops, sizeof(uint64_t));
	s->asked = mem_array(s->rules, sizeof(uint32_t));
	for (size_t i = 0; i < s->rules; i++)
		bit_set(s->always, i);
	for (size_t i = 0; i < s->n_nevers; i++)
		bit_clear(s->always, s->nevers[i]);
	for (size_t i = 0; i < s->n; i++) {
		ensure(s->place[i].rule < s->rules);
		bit_clear(s->always, s->place[i].rule);
	}
	for (size_t w = 0; w < s->words; w++)
		if (s->always[w] != 0)
			bit_set(s->always_top, w);
	memcpy(s->may, s->always, s->words * sizeof(s->may[0]));
	memcpy(s->top, s->always_top, s->tops * sizeof(s->top[0]));
}

static bool
set_build(struct pattern_set *s, size_t rules, const char **ret_why)
{
	if (s->n == 0) {
		*ret_why = "none has a string to look for";
		return false;
	}
	s->rules = rules;
	make_bits(s);
	s->database = make_database(s);
	if (s->database == NULL)
		s->index = make_index(s);
	return true;
}

/* -- asking -------------------------------------------------------------- */

static bool
has_window(struct pattern_set *s, const struct more *m)
{
	if (!s->has_triples)
		triples_of(s->key, &s->triples);
	s->has_triples = true;
	return triples_have(&s->triples, &m->triples) &&
	    window_anywhere(&m->window, s->classes, s->key);
}

/* Has the key one of each other list? */
static bool
has_more(struct pattern_set *s, const struct place *p)
{
	const struct more *m, *end;

	if (p->more_n == 0)
		return true;
	m = &s->more[p->more];
	end = m + p->more_n;
	while (m < end) {
		while (!has_window(s, m))
			if (m++->end)
				return false;
		while (!m++->end)
			;
	}
	return true;
}

static void
on_found(const struct literal_found *list, size_t n, void *arg)
{
	const struct place *seen[LITERAL_FOUND_MAX];
	struct pattern_set *s = arg;
	size_t m = 0;

	for (size_t i = 0; i < n; i++)
		__builtin_prefetch(&s->place[list[i].user]);
	for (size_t i = 0; i < n; i++) {
		const struct place *p = &s->place[list[i].user];

		if (!window_at(&p->window, s->classes, s->key, list[i].step,
		    list[i].at))
			continue;
		__builtin_prefetch(&s->asked[p->rule]);
		if (s->more != NULL)
			__builtin_prefetch(&s->more[p->more]);
		seen[m++] = p;
	}
	for (size_t i = 0; i < m; i++) {
		uint32_t rule = seen[i]->rule;

		/* A key can have the first window in it any number of
		 * times. */
		if (s->asked[rule] == s->scans)
			continue;
		s->asked[rule] = s->scans;
		if (has_more(s, seen[i])) {
			bit_set(s->may, rule);
			bit_set(s->top, rule / 64);
		}
	}
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
		memset(s->asked, 0, s->rules * sizeof(s->asked[0]));
		s->scans = 1;
	}
}

static bool
set_scan(struct pattern_set *s, struct view key)
{
	forget(s);
	s->key = key;
	s->has_triples = false;
	if (s->database != NULL)
		return s->how->scan(s->database, key, on_found, s);
	literal_index_scan(s->index, key, on_found, s);
	return true;
}

static size_t
set_next(const struct pattern_set *s, size_t rule)
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
set_has(const struct pattern_set *s, size_t rule)
{
	return (s->may[rule / 64] >> (rule % 64) & 1) != 0;
}

const struct pattern_sets *
pattern_sets(void)
{
	static const struct pattern_sets sets = {
		.new = set_new, .free = set_free, .add = set_add,
		.never = set_never, .build = set_build, .scan = set_scan,
		.next = set_next, .has = set_has
	};

	return &sets;
}
