/*
 * A property: random patterns and texts get from a set the answers that
 * asking one by one gives.  PATTERN_ROUNDS: how many sets (make check-long
 * takes more), PATTERN_SEED: where to start; it is printed.
 */
#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include "rules/pattern_set.h"
#include "t/unit/cache_help.h"

#define ROUNDS		30u
#define SET		40u
#define TEXTS		150u
#define LIMIT		100000u

static uint64_t state;

static unsigned
pick(unsigned n)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)((state >> 33) % n);
}

static bool
chance(unsigned percent)
{
	return pick(100) < percent;
}

#define ONE_OF(list)	((list)[pick(sizeof(list) / sizeof((list)[0]))])

/* -- patterns ------------------------------------------------------------ */

static const char *const letters[] = { "a", "b", "c", "A", "B", "x", "ab",
	"Ca", "_", "0", "7", " ", "\\.", "-", ":", "=", "\xe4", "\xc3\xa4",
	"@", "\\$", "\\[", "z", "k", "\xa0" };
static const char *const posix_atoms[] = { ".", "^", "$", "\\w", "\\W",
	"\\s", "\\S", "\\b", "\\<", "\\>", "\\B", "\\`", "\\'", "[ab]",
	"[^ab]", "[a-c]", "[^a-c]", "[A-C]", "[^A-C]", "[]a]", "[^]a]",
	"[[:alpha:]]", "[^[:upper:]]", "[[:lower:]0]", "[[:space:]]",
	"[^[:punct:]]", "[\\w]", "[a-]", "[@-Z]", "[_-z]", "[[:digit:]x]",
	"[[.a.]]", "[[=a=]]", "()", "[^\xe4]", "[\x80-\xff]" };
static const char *const pcre_atoms[] = { ".", "^", "$", "\\w", "\\W", "\\s",
	"\\S", "\\b", "\\B", "\\A", "\\z", "\\Z", "\\d", "\\D", "\\h", "\\H",
	"\\v", "\\V", "\\t", "\\n", "\\x41", "\\x{61}", "\\R", "\\N", "\\K",
	"[ab]", "[^ab]", "[a-c]", "[^a-c]", "[A-C]", "[^A-C]", "[]a]",
	"[^]a]", "[[:alpha:]]", "[^[:upper:]]", "[[:^alpha:]]", "[\\w.]",
	"[^\\w]", "[\\d-]", "[a\\-c]", "[\\x41-\\x43]", "[@-Z]", "[_-z]",
	"\\1", "\\g1", "\\Qa.b\\E", "(?i)", "(?-i)", "(?m)", "(?-m)", "(?s)",
	"(?x) # a\n", "(?-s)", "(?#a)", "[^\xe4]", "[\x80-\xff]", "()",
	"[\\b]", "\\cA", "\\pL", "(?:)", "\\G", "[^\\D]", "[\\S ]" };
static const char *const posix_groups[] = { "(" };
static const char *const pcre_groups[] = { "(", "(?:", "(?i:", "(?-i:",
	"(?m:", "(?>", "(?|", "(?=", "(?!", "(?<=", "(?<!", "(?<n>",
	"(?P<p>", "(?im-s:", "(?'q'", "(?x:" };
static const char *const repeats[] = { "*", "+", "?", "{2}", "{1,3}",
	"{2,}", "{0,2}", "{17,20}", "{0}", "{3,40}" };
/* Larger ones inside one another, or back references, can take regcomp() and
 * regexec() all the memory there is. */
static const char *const posix_repeats[] = { "*", "+", "?", "{2}", "{1,3}",
	"{0,2}", "{0}" };
static const char *const posix_flags[] = { "", "", "", "i", "m", "im", "x" };
static const char *const pcre_flags[] = { "", "", "", "i", "m", "s", "x",
	"A", "E", "U", "im", "iA", "mE", "smx", "sim" };

static void
make_pattern(struct buf *b, bool pcre, unsigned depth)
{
	unsigned n = pick(depth == 0 ? 6 : 4) + (depth == 0 ? 1 : 0);

	while (n-- > 0) {
		if (chance(55)) {
			buf_puts(b, ONE_OF(letters));
		} else if (chance(70) || depth > 2) {
			buf_puts(b, pcre ? ONE_OF(pcre_atoms) :
			    ONE_OF(posix_atoms));
		} else {
			buf_puts(b, pcre ? ONE_OF(pcre_groups) :
			    ONE_OF(posix_groups));
			make_pattern(b, pcre, depth + 1);
			buf_putc(b, ')');
		}
		if (chance(25))
			buf_puts(b, pcre ? ONE_OF(repeats) :
			    ONE_OF(posix_repeats));
		if (pcre && chance(4))
			buf_putc(b, chance(50) ? '?' : '+');
		if (chance(8))
			buf_putc(b, '|');
	}
}

static void
make_text(struct buf *b)
{
	static const char *const more[] = { "\n", "\r\n", "\t", "aA", "abc",
		"CAB", "..", "ab.b", "\x85", "\xff", "b\n", "kK", "Z", "1",
		"aaaaaaaaaaaaaaaaaaa", "[", "]", "`", "^" };
	unsigned n = 1 + pick(chance(20) ? 25 : 6);

	buf_clear(b);
	while (n-- > 0)
		buf_puts(b, chance(70) ? ONE_OF(letters) : ONE_OF(more));
	if (chance(3))
		buf_putc(b, '\0');
	if (chance(15))
		buf_putc(b, '\n');
}

/* One that can be compiled; flags is static. */
static struct pattern *
make_valid(struct pattern_engine *e, bool pcre, struct buf *text,
    const char **ret_flags)
{
	struct buf why;
	struct pattern *p;

	buf_init(&why, 1000);
	do {
		buf_clear(text);
		make_pattern(text, pcre, 0);
		*ret_flags = pcre ? ONE_OF(pcre_flags) : ONE_OF(posix_flags);
		p = text->n > 0 && memchr(text->p, '\n', text->n) == NULL ?
		    pattern_compile(e, buf_view(text), view_of(*ret_flags), 0,
		    &why) : NULL;
	} while (p == NULL);
	buf_free(&why);
	return p;
}

static unsigned
rounds(void)
{
	const char *s = getenv("PATTERN_ROUNDS");
	const char *seed = getenv("PATTERN_SEED");

	state = seed != NULL ? strtoull(seed, NULL, 10) : 1;
	print_message("seed %llu\n", (unsigned long long)state);
	return s != NULL ? (unsigned)strtoul(s, NULL, 10) : ROUNDS;
}

static void
show(struct view v)
{
	for (size_t i = 0; i < v.n; i++) {
		unsigned char ch = (unsigned char)v.p[i];

		if (ch < ' ' || ch > '~' || ch == '\\')
			print_error("\\x%02x", ch);
		else
			print_error("%c", ch);
	}
	print_error("\n");
}

/* -- the strings of a pattern -------------------------------------------- */

static bool
has_one(struct view text, const struct byte_classes *c,
    const struct windows *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (window_anywhere(&l->list[i], c, text))
			return true;
	return false;
}

static bool
has_needs(struct view text, const struct byte_classes *c,
    const struct needs *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (!has_one(text, c, &l->of[i]))
			return false;
	return true;
}

static bool
needs_of(enum pattern_syntax syntax, struct view text, struct view flags,
    struct byte_classes *c, struct needs *ret)
{
	struct arena *a = arena_new(PATTERN_TREE_MEMORY);
	const struct pattern_node *tree = pattern_tree(syntax, text, flags,
	    a);
	bool ok = tree != NULL && pattern_needs(tree, c, ret);

	arena_free(&a);
	return ok;
}

/* As needs_of() says whether there are any. */
static bool
set_add(const struct pattern_sets *sets, struct pattern_set *set, size_t rule,
    enum pattern_syntax syntax, struct view text, struct view flags)
{
	struct arena *a = arena_new(PATTERN_TREE_MEMORY);
	const struct pattern_node *tree = pattern_tree(syntax, text, flags,
	    a);
	bool ok = tree != NULL && sets->add(set, rule, tree);

	arena_free(&a);
	return ok;
}

/* -- a set --------------------------------------------------------------- */

struct member {
	struct pattern *pattern;
	char *text;
	size_t n;
	const char *flags;
	bool known;
	struct needs needs;
};

static void
show_miss(const char *what, const struct member *m, struct view text)
{
	print_error("%s: ", what);
	show(view_make(m->text, m->n));
	print_error("flags: %s\ntext: ", m->flags);
	show(text);
}

struct seen {
	unsigned saved, matches;
	struct byte_classes *classes;
};

static void
check_text(const struct pattern_sets *sets, const struct pattern_set *set,
    struct pattern_engine *e, const struct member *list, struct view text,
    struct seen *seen)
{
	for (size_t i = 0; i < SET; i++) {
		const struct member *m = &list[i];
		bool may = !m->known || has_needs(text, seen->classes,
		    &m->needs);

		bool matches = m->known && pattern_match(e, m->pattern,
		    text) == PATTERN_MATCH;

		seen->saved += !may;
		seen->matches += matches;
		if (matches && !may) {
			show_miss("matches without its strings", m, text);
			fail();
		}
		if (set != NULL && sets->has(set, i) != may) {
			show_miss(may ? "not found by the set" :
			    "found by the set only", m, text);
			fail();
		}
	}
}

static struct pattern_set *
make_set(const struct pattern_sets *sets, const struct member *list,
    enum pattern_syntax syntax)
{
	struct pattern_set *set = sets->new(chance(50) ? NULL :
	    literal_databases(), NULL);
	const char *why;

	for (size_t i = 0; i < SET; i++)
		assert_int_equal(set_add(sets, set, i, syntax,
		    view_make(list[i].text, list[i].n),
		    view_of(list[i].flags)), list[i].known);
	if (!sets->build(set, SET, &why))
		sets->free(&set);
	return set;
}

/* Returns how many of the patterns have strings. */
static size_t
one_set(bool pcre, struct seen *seen)
{
	enum pattern_syntax syntax = pcre ? PATTERN_PCRE : PATTERN_POSIX;
	struct pattern_engine *e = pattern_engine_new(syntax, LIMIT);
	const struct pattern_sets *sets = pattern_sets();
	struct pattern_set *set = NULL;
	struct member list[SET];
	struct buf text;
	size_t known = 0;

	buf_init(&text, 10000);
	for (size_t i = 0; i < SET; i++) {
		struct member *m = &list[i];

		m->pattern = make_valid(e, pcre, &text, &m->flags);
		m->n = text.n;
		m->text = mem_copy(buf_view(&text));
		m->known = needs_of(syntax, buf_view(&text),
		    view_of(m->flags), seen->classes, &m->needs);
		known += m->known;
	}
	set = make_set(sets, list, syntax);
	for (unsigned k = 0; k < TEXTS; k++) {
		make_text(&text);
		if (set != NULL)
			assert_true(sets->scan(set, buf_view(&text)));
		check_text(sets, set, e, list, buf_view(&text), seen);
	}
	for (size_t i = 0; i < SET; i++) {
		pattern_free(&list[i].pattern);
		free(list[i].text);
	}
	if (set != NULL)
		sets->free(&set);
	pattern_engine_free(&e);
	buf_free(&text);
	return known;
}

static void
test_candidates(void **unused)
{
	unsigned n = rounds();
	struct seen seen = { 0, 0, byte_classes_new() };
	size_t known = 0;

	(void)unused;
	for (unsigned i = 0; i < n; i++)
		known += one_set(i % 2 == 0, &seen);
	/* Else nothing was shown. */
	assert_true(known > n * SET / 4);
	print_message("%zu of %u patterns, saved %u, matches %u\n", known,
	    n * SET, seen.saved, seen.matches);
	assert_true(seen.saved > n * SET * TEXTS / 8);
	assert_true(seen.matches > n * SET * TEXTS / 1000);
	byte_classes_free(&seen.classes);
}

/* -- many strings -------------------------------------------------------- */

static void
make_literal(struct buf *b)
{
	static const char *const bytes[] = { "a", "b", "c", "d", "e", "A",
		"B", "C", "0", "1", " ", "=", "\xe4", "[ab]", "[0-3o]",
		"\\s" };
	unsigned from = pick(6);

	for (unsigned n = 2 + pick(25); n > 0; n--)
		buf_puts(b, bytes[from + pick(sizeof(bytes) /
		    sizeof(bytes[0]) - from)]);
}

/* One to three strings, maybe something, and again. */
static void
make_simple(struct buf *b)
{
	buf_clear(b);
	for (unsigned lists = 1 + pick(3); lists > 0; lists--) {
		buf_putc(b, '(');
		for (unsigned n = 1 + pick(3); n > 0; n--) {
			make_literal(b);
			buf_puts(b, n > 1 ? "|" : ")");
		}
		buf_puts(b, lists > 1 ? ".*" : "");
	}
}

struct simple {
	char *text;
	size_t n;
	const char *flags;
	bool known;
	struct needs needs;
};

/* What some of them ask for, or nearly. */
static void
make_long_text(struct buf *b, const struct simple *list, unsigned n)
{
	unsigned max = chance(10) ? 3000 : 1 + pick(300);

	buf_clear(b);
	while (b->n < max) {
		const struct simple *l = &list[pick(n)];

		if (chance(50))
			buf_puts(b, ONE_OF(letters));
		for (size_t i = chance(50) ? 0 : pick((unsigned)l->n);
		    i < l->n && !chance(1); i++)
			if (strchr("()|.*[]\\", l->text[i]) == NULL)
				buf_putc(b, l->text[i]);
	}
}

static void
check_long_text(const struct pattern_sets *sets, struct pattern_set *set,
    const struct byte_classes *c, const struct simple *list, unsigned n,
    struct view text, unsigned *found)
{
	size_t next;

	assert_true(sets->scan(set, text));
	next = sets->next(set, 0);
	for (unsigned i = 0; i < n; i++) {
		bool may = !list[i].known ||
		    has_needs(text, c, &list[i].needs);

		assert_int_equal(sets->has(set, i), may);
		assert_int_equal(next == i, may);
		if (may)
			next = sets->next(set, i + 1);
		*found += may && list[i].known;
	}
	assert_int_equal(next, n);
}

static void
one_large_set(const struct pattern_sets *sets, unsigned n, unsigned *found)
{
	struct simple *list = mem_array(n, sizeof(*list));
	struct byte_classes *c = byte_classes_new();
	struct pattern_set *set = sets->new(chance(50) ? NULL :
	    literal_databases(), NULL);
	struct buf text;
	const char *why;

	buf_init(&text, 10000);
	for (unsigned i = 0; i < n; i++) {
		struct simple *l = &list[i];

		make_simple(&text);
		l->n = text.n;
		l->text = mem_copy(buf_view(&text));
		l->flags = chance(70) ? "" : "i";
		l->known = needs_of(PATTERN_PCRE, buf_view(&text),
		    view_of(l->flags), c, &l->needs);
		assert_int_equal(set_add(sets, set, i, PATTERN_PCRE,
		    buf_view(&text), view_of(l->flags)), l->known);
	}
	if (sets->build(set, n, &why))
		for (unsigned k = 0; k < 30; k++) {
			make_long_text(&text, list, n);
			check_long_text(sets, set, c, list, n,
			    buf_view(&text), found);
		}
	sets->free(&set);
	byte_classes_free(&c);
	for (unsigned i = 0; i < n; i++)
		free(list[i].text);
	free(list);
	buf_free(&text);
}

static void
test_large(void **unused)
{
	unsigned n = rounds() / 10, found = 0;

	(void)unused;
	for (unsigned i = 0; i < n; i++)
		one_large_set(pattern_sets(), 1 + pick(i % 3 == 0 ? 100 :
		    5000), &found);
	print_message("found %u\n", found);
	assert_true(found > n * 30);
}

/* -- a table ------------------------------------------------------------- */

static void
make_table(struct buf *b, bool pcre, unsigned rules)
{
	struct pattern_engine *e = pattern_engine_new(pcre ? PATTERN_PCRE :
	    PATTERN_POSIX, LIMIT);
	const char *flags;
	struct buf text;
	unsigned open = 0;

	buf_init(&text, 10000);
	buf_clear(b);
	for (unsigned i = 0; i < rules; i++) {
		struct pattern *p = make_valid(e, pcre, &text, &flags);
		bool block = chance(15);

		pattern_free(&p);
		buf_puts(b, block ? "if " : "");
		buf_puts(b, chance(15) ? "!" : "");
		buf_putc(b, '~');
		buf_putv(b, buf_view(&text));
		buf_printf(b, "~%s", flags);
		open += block;
		if (!block && !pcre && chance(10))
			buf_printf(b, "!~%s~", ONE_OF(letters));
		buf_puts(b, block ? "\n" : " result\n");
		if (open > 0 && chance(15)) {
			buf_puts(b, "endif\n");
			open--;
		}
	}
	while (open-- > 0)
		buf_puts(b, "endif\n");
	buf_free(&text);
	pattern_engine_free(&e);
}

/* All rules that match, one after the other. */
static void
check_all(const struct table *one, const struct table *all, struct view text)
{
	size_t pos_one = 0, pos_all = 0;
	unsigned line_one, line_all;
	enum table_answer answer;
	struct buf value;

	buf_init(&value, 1000);
	do {
		line_one = line_all = 0;
		answer = table_find_from(one, &pos_one, text, &value,
		    &line_one);
		assert_int_equal(answer, table_find_from(all, &pos_all, text,
		    &value, &line_all));
		assert_int_equal(line_one, line_all);
		assert_int_equal(pos_one, pos_all);
	} while (answer == TABLE_FOUND);
	buf_free(&value);
}

static void
test_tables(void **unused)
{
	unsigned n = rounds();
	struct buf text;

	(void)unused;
	buf_init(&text, 1000000);
	for (unsigned i = 0; i < n; i++) {
		const char *spec = i % 2 == 0 ? "pcre:rules" : "regexp:rules";
		struct table *one, *all;

		make_table(&text, i % 2 == 0, 20 + pick(60));
		write_file("rules", text.p, text.n);
		table_pattern_limits(LIMIT);
		table_pattern_sets(NULL, NULL, NULL);
		one = try_spec(spec);
		if (one == NULL)
			print_error("%s", reported);
		assert_non_null(one);
		table_pattern_sets(pattern_sets(), chance(50) ? NULL :
		    literal_databases(), NULL);
		all = try_spec(spec);
		assert_non_null(all);
		for (unsigned k = 0; k < TEXTS; k++) {
			make_text(&text);
			check_all(one, all, buf_view(&text));
		}
		table_free(&one);
		table_free(&all);
	}
	buf_free(&text);
}

/* -- which strings ------------------------------------------------------- */

static void
put_class(struct buf *b, const struct byte_class *c)
{
	char one[257];
	unsigned n = 0;

	for (unsigned i = 0; i < 256; i++)
		if (byte_class_has(c, (unsigned char)i))
			one[n++] = (char)i;
	if (n == 2 && isalpha((unsigned char)one[0]) &&
	    one[1] == (one[0] | 0x20))
		buf_putc(b, one[1]);
	else if (n == 1)
		buf_printf(b, "%s%c", isalpha((unsigned char)one[0]) ?
		    "=" : "", one[0]);
	else
		buf_printf(b, n < 10 ? "[%.*s]" : "_", (int)n, one);
}

/* want: "a|b & =C", where "=" is for this case only and "_" is a large set;
 * NULL: there are none. */
static void
strings(enum pattern_syntax syntax, const char *text, const char *flags,
    const char *want)
{
	struct byte_classes *c = byte_classes_new();
	struct needs l;
	struct buf b;
	bool ok = needs_of(syntax, view_of(text), view_of(flags), c, &l);

	buf_init(&b, 1000);
	for (size_t n = 0; ok && n < l.n; n++)
		for (size_t i = 0; i < l.of[n].n; i++) {
			const struct window *w = &l.of[n].list[i];

			buf_puts(&b, i > 0 ? "|" : n > 0 ? " & " : "");
			for (unsigned k = 0; k < w->n; k++)
				put_class(&b, &c->list[w->class[k]]);
		}
	if (ok != (want != NULL) || (ok && strcmp(buf_cstr(&b), want) != 0))
		fail_msg("/%s/%s: \"%s\"", text, flags, buf_cstr(&b));
	buf_free(&b);
	byte_classes_free(&c);
}

static void
test_strings(void **unused)
{
	(void)unused;
	strings(PATTERN_PCRE, "^Subject: viagra", "", "subject: viagra");
	strings(PATTERN_PCRE, "^Subject:.*viagra", "", "subject: & viagra");
	strings(PATTERN_PCRE, "^To:.*viagra", "", "viagra & to:");
	strings(PATTERN_PCRE, "viagra", "i", "=v=i=a=g=r=a");
	strings(PATTERN_PCRE, "via(?i)gra", "i", "=v=i=agra");
	strings(PATTERN_PCRE, "(?:cheap|buy) +pills", "",
	    " pills & cheap |buy ");
	strings(PATTERN_PCRE, "v[1i]agra", "", "v[1Ii]agra");
	strings(PATTERN_PCRE, "(exe|scr|pif)$", "", "exe|scr|pif");
	strings(PATTERN_PCRE, "via-?gra", "", "via-gra|viagra");
	strings(PATTERN_PCRE, "x(abcd)+y", "", "abcdy & xabcd");
	strings(PATTERN_PCRE, "[0-9](abcd)+zz", "", "abcdzz & _abcd");
	strings(PATTERN_PCRE, "(abc){2}", "", "abcabc");
	strings(PATTERN_PCRE, "abc(?=d)def", "", "abcdef");
	strings(PATTERN_PCRE, "(a)\\1bcde", "", "bcde");
	strings(PATTERN_PCRE, "ab cd # e\n", "x", "abcd");
	strings(PATTERN_PCRE, "\\Qa.b*\\Ecd", "", "a.b*cd");
	/* None, or none that says much. */
	strings(PATTERN_PCRE, "viagra|", "", NULL);
	strings(PATTERN_PCRE, "(viagra)?", "", NULL);
	strings(PATTERN_PCRE, "(viagra)*", "", NULL);
	strings(PATTERN_PCRE, "[0-9]+", "", NULL);
	strings(PATTERN_PCRE, "ab", "", NULL);
	strings(PATTERN_PCRE, "(?=viagra)", "", NULL);
	/* Not known to the letter. */
	strings(PATTERN_PCRE, "(*UTF)viagra", "", NULL);
	strings(PATTERN_PCRE, "viagra(*ACCEPT)x", "", NULL);
	strings(PATTERN_PCRE, "(?R)?viagra", "", NULL);
	strings(PATTERN_PCRE, "(a)(?(1)viagra|c)", "", NULL);
	strings(PATTERN_PCRE, "viagra\\x{61}", "", NULL);
	strings(PATTERN_POSIX, "vi\\.agra", "", "vi.agra");
	strings(PATTERN_POSIX, "viagra[\\.]", "", "viagra[.\\]");
	strings(PATTERN_POSIX, "viagra", "x", NULL);
	strings(PATTERN_POSIX, "(a)\\1viagra", "", NULL);
	strings(PATTERN_POSIX, "[@-Z]viagra", "", NULL);
}

/* -- the cache ----------------------------------------------------------- */

static void
numbered_set(const struct pattern_sets *sets)
{
	struct pattern_set *set = sets->new(literal_databases(), cache);
	const char *why;
	char text[100];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "number%ux", i);
		assert_true(set_add(sets, set, i, PATTERN_PCRE, view_of(text),
		    view_of("")));
	}
	assert_true(sets->build(set, 100, &why));
	for (unsigned i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "this is NUMBER%ux", i);
		assert_true(sets->scan(set, view_of(text)));
		assert_int_equal(sets->next(set, 0), i);
		assert_int_equal(sets->next(set, i + 1), 100);
	}
	sets->free(&set);
}

/* A set is the same whether it is compiled or read; a file that holds
 * something else is compiled again. */
static void
test_cache_sets(void **unused)
{
	char path[500];

	(void)unused;
	if (literal_databases() == NULL)
		skip();
	for (unsigned i = 0; i < 4; i++) {
		numbered_set(pattern_sets());
		assert_int_equal(cache_files(path, sizeof(path)), 1);
		if (i == 1)
			change_byte(path, 5000);
		if (i == 2)
			assert_int_equal(truncate(path, 100), 0);
	}
	cache_remove();
}

static int
set_up(void **unused)
{
	(void)unused;
	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(cache, sizeof(cache), "%s/cache", dir);
	return 0;
}

static int
tear_down(void **unused)
{
	char path[200];

	(void)unused;
	cache_remove();
	snprintf(path, sizeof(path), "%s/rules", dir);
	(void)unlink(path);
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_candidates),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_cache_sets),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
