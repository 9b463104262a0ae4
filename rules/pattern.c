#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <regex.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "rules/pattern.h"

/* AddressSanitizer's regexec() reads up to a NUL, whatever the flags say. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PATTERN_KEY_NEEDS_NUL
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define PATTERN_KEY_NEEDS_NUL
#endif

#define JIT_STACK_FIRST		(32u << 10)
#define JIT_STACK_MAX		(1u << 20)
#define HEAP_LIMIT_KB		(32u << 10)	/* when there is no JIT */

#define PREFIX_MAX		23u

/*
 * Most rules are for one header, as in /^Subject:.*x/: what stands there
 * before the first special character is compared first, which is many times
 * cheaper than starting a matcher.
 */
struct prefix {
	unsigned char n;
	unsigned char byte[PREFIX_MAX];
	unsigned char fold[PREFIX_MAX];	/* 0x20 for a letter of any case */
};

struct pattern {
	struct prefix prefix;
	enum pattern_syntax syntax;
	bool jit;		/* may go straight to the compiled code */
	unsigned groups;
	regex_t posix;
	pcre2_code *pcre;
};

struct pattern_engine {
	enum pattern_syntax syntax;
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
	pcre2_match_data *data;
	regmatch_t span[PATTERN_GROUPS_MAX + 1];
};

struct pattern_engine *
pattern_engine_new(enum pattern_syntax syntax, uint32_t match_limit)
{
	struct pattern_engine *e = mem_alloc(sizeof(*e));

	e->syntax = syntax;
	if (syntax == PATTERN_POSIX)
		return e;
	e->context = pcre2_match_context_create(NULL);
	e->data = pcre2_match_data_create(PATTERN_GROUPS_MAX + 1, NULL);
	if (e->context == NULL || e->data == NULL)
		fatal("out of memory (PCRE2)");
	pcre2_set_match_limit(e->context, match_limit);
	/* Both matter to the interpreter only, where JIT is not available. */
	pcre2_set_depth_limit(e->context, match_limit);
	pcre2_set_heap_limit(e->context, HEAP_LIMIT_KB);
	/* Without a stack of its own JIT code has 32 KB: enough to go on. */
	e->stack = pcre2_jit_stack_create(JIT_STACK_FIRST, JIT_STACK_MAX, NULL);
	if (e->stack != NULL)
		pcre2_jit_stack_assign(e->context, NULL, e->stack);
	return e;
}

void
pattern_engine_free(struct pattern_engine **ep)
{
	struct pattern_engine *e = *ep;

	if (e == NULL)
		return;
	pcre2_match_data_free(e->data);
	pcre2_match_context_free(e->context);
	pcre2_jit_stack_free(e->stack);
	free(e);
	*ep = NULL;
}

/* -- POSIX --------------------------------------------------------------- */

static bool
posix_options(struct view flags, int *options, struct buf *why)
{
	*options = REG_EXTENDED | REG_ICASE;
	for (size_t i = 0; i < flags.n; i++) {
		switch (flags.p[i]) {
		case 'i':
			*options ^= REG_ICASE;
			break;
		case 'm':
			*options ^= REG_NEWLINE;
			break;
		case 'x':
			*options ^= REG_EXTENDED;
			break;
		default:
			buf_printf(why, "unknown regexp option \"%c\"",
			    flags.p[i]);
			return false;
		}
	}
	return true;
}

static bool
posix_compile(struct pattern *p, struct view text, struct view flags,
    struct buf *why)
{
	char message[256];
	char *s;
	int options, error;

	if (!posix_options(flags, &options, why))
		return false;
	/* Much cheaper: the matcher may stop at the first end of a match. */
	if (p->groups == 0)
		options |= REG_NOSUB;
	s = mem_copy(text);
	error = regcomp(&p->posix, s, options);
	free(s);
	if (error != 0) {
		regerror(error, &p->posix, message, sizeof(message));
		buf_puts(why, message);
		return false;
	}
	if (p->groups > p->posix.re_nsub) {
		buf_printf(why, "$%u in the result, but the pattern has "
		    "%zu groups", p->groups, p->posix.re_nsub);
		regfree(&p->posix);
		return false;
	}
	return true;
}

static int
posix_search(struct pattern_engine *e, const struct pattern *p,
    const char *s, size_t n)
{
	/* REG_STARTEND: the key needs no NUL and may hold one. */
	e->span[0].rm_so = 0;
	e->span[0].rm_eo = (regoff_t)n;
	return regexec(&p->posix, s, p->groups > 0 ? p->groups + 1 : 0,
	    e->span, REG_STARTEND);
}

static enum pattern_answer
posix_match(struct pattern_engine *e, const struct pattern *p,
    struct view key)
{
	int error;

#ifdef PATTERN_KEY_NEEDS_NUL
	char *copy = mem_copy(key);

	error = posix_search(e, p, copy, key.n);
	free(copy);
#else
	error = posix_search(e, p, key.n > 0 ? key.p : "", key.n);
#endif
	return error == 0 ? PATTERN_MATCH :
	    error == REG_NOMATCH ? PATTERN_NO_MATCH : PATTERN_LIMIT;
}

/* -- PCRE2 --------------------------------------------------------------- */

static bool
pcre_options(struct view flags, uint32_t *options, struct buf *why)
{
	static const struct {
		char flag;
		uint32_t option;
	} known[] = {
		{ 'i', PCRE2_CASELESS }, { 'm', PCRE2_MULTILINE },
		{ 's', PCRE2_DOTALL }, { 'x', PCRE2_EXTENDED },
		{ 'A', PCRE2_ANCHORED }, { 'E', PCRE2_DOLLAR_ENDONLY },
		{ 'U', PCRE2_UNGREEDY }, { 'X', 0 }
	};

	*options = PCRE2_CASELESS | PCRE2_DOTALL;
	for (size_t i = 0; i < flags.n; i++) {
		size_t k = 0;

		while (k < sizeof(known) / sizeof(known[0]) &&
		    known[k].flag != flags.p[i])
			k++;
		if (k == sizeof(known) / sizeof(known[0])) {
			buf_printf(why, "unknown regexp option \"%c\"",
			    flags.p[i]);
			return false;
		}
		*options ^= known[k].option;
	}
	return true;
}

static bool
pcre_compile(struct pattern *p, struct view text, struct view flags,
    struct buf *why)
{
	PCRE2_UCHAR message[256];
	uint32_t options, all = 0, groups = 0;
	size_t at, jit_size = 0;
	int error;

	if (!pcre_options(flags, &options, why))
		return false;
	p->pcre = pcre2_compile((PCRE2_SPTR)text.p, text.n, options, &error,
	    &at, NULL);
	/* "(*UTF)" in the pattern: keys come from strangers and need not be
	 * valid UTF-8, which only this option makes harmless. */
	if (p->pcre != NULL &&
	    pcre2_pattern_info(p->pcre, PCRE2_INFO_ALLOPTIONS, &all) == 0 &&
	    (all & PCRE2_UTF) != 0) {
		pcre2_code_free(p->pcre);
		p->pcre = pcre2_compile((PCRE2_SPTR)text.p, text.n,
		    options | PCRE2_MATCH_INVALID_UTF, &error, &at, NULL);
	}
	if (p->pcre == NULL) {
		pcre2_get_error_message(error, message, sizeof(message));
		buf_printf(why, "error in regex at offset %zu: %s", at,
		    (const char *)message);
		return false;
	}
	pcre2_pattern_info(p->pcre, PCRE2_INFO_CAPTURECOUNT, &groups);
	if (p->groups > groups) {
		buf_printf(why, "$%u in the result, but the pattern has "
		    "%u groups", p->groups, groups);
		pcre2_code_free(p->pcre);
		return false;
	}
	/* Where memory cannot be made executable the interpreter does it. */
	p->jit = pcre2_jit_compile(p->pcre, PCRE2_JIT_COMPLETE) == 0 &&
	    pcre2_pattern_info(p->pcre, PCRE2_INFO_JITSIZE, &jit_size) == 0 &&
	    jit_size > 0 && (all & PCRE2_UTF) == 0;
	return true;
}

static enum pattern_answer
pcre_match(struct pattern_engine *e, const struct pattern *p,
    struct view key)
{
	PCRE2_SPTR s = (PCRE2_SPTR)(key.n > 0 ? key.p : "");
	int n;

	/* Zero: a match with more groups than we have room for, and need. */
	if (p->jit)
		n = pcre2_jit_match(p->pcre, s, key.n, 0, 0, e->data,
		    e->context);
	else
		n = pcre2_match(p->pcre, s, key.n, 0, 0, e->data, e->context);
	/* A very long key: the interpreter has the heap, and the same limit
	 * of steps. */
	if (n == PCRE2_ERROR_JIT_STACKLIMIT)
		n = pcre2_match(p->pcre, s, key.n, 0, PCRE2_NO_JIT, e->data,
		    e->context);
	return n >= 0 ? PATTERN_MATCH :
	    n == PCRE2_ERROR_NOMATCH ? PATTERN_NO_MATCH : PATTERN_LIMIT;
}

/* -- the literal start --------------------------------------------------- */

/* Behind the bracket expression that starts at i; text.n if it has no end. */
static size_t
bracket_skip(struct view text, size_t i, bool escapes)
{
	i++;
	if (i < text.n && text.p[i] == '^')
		i++;
	if (i < text.n && text.p[i] == ']')
		i++;
	while (i < text.n && text.p[i] != ']') {
		if (text.p[i] == '[' && i + 1 < text.n &&
		    (text.p[i + 1] == ':' || text.p[i + 1] == '.' ||
		    text.p[i + 1] == '=')) {
			const char end[2] = { text.p[i + 1], ']' };
			const char *at = memmem(text.p + i + 2,
			    text.n - i - 2, end, 2);

			if (at != NULL)
				i = (size_t)(at - text.p) + 1;
		} else if (text.p[i] == '\\' && escapes) {
			i++;
		}
		i++;
	}
	return i < text.n ? i + 1 : text.n;
}

/*
 * True if a "|" outside parentheses makes the '^' at the start belong to one
 * branch only, or might.
 */
static bool
has_top_branch(struct view text, bool pcre)
{
	unsigned depth = 0;
	size_t i = 0;

	while (i < text.n) {
		char c = text.p[i], next = i + 1 < text.n ? text.p[i + 1] : 0;

		if (c == '|' && depth == 0)
			return true;
		/* Quoted text, comments and verbs of PCRE: not looked into. */
		if (pcre && ((c == '\\' && next == 'Q') || (c == '(' &&
		    (next == '*' || (next == '?' && i + 2 < text.n &&
		    text.p[i + 2] == '#')))))
			return true;
		if (c == '[') {
			i = bracket_skip(text, i, pcre);
			continue;
		}
		if (c == '(')
			depth++;
		else if (c == ')' && depth-- == 0)
			return true;
		i += c == '\\' ? 2 : 1;
	}
	return depth != 0;
}

/* text begins with '^'; nocase: of the whole pattern. */
static void
prefix_find(struct prefix *x, struct view text, bool nocase)
{
	static const char special[] = ".[]\\()*+?{}|^$";
	static const char escapable[] = ".[]\\()*+?{}|^$/-:@";
	size_t i = 1;

	while (i < text.n && x->n < PREFIX_MAX) {
		unsigned char c = (unsigned char)text.p[i++];

		if (c == '\\') {
			if (i == text.n || strchr(escapable, text.p[i]) == NULL)
				return;
			c = (unsigned char)text.p[i++];
		} else if (c >= 0x80 || strchr(special, c) != NULL) {
			return;
		}
		/* A repeated character may occur no time at all. */
		if (i < text.n && strchr("*+?{", text.p[i]) != NULL)
			return;
		x->fold[x->n] = nocase && isalpha(c) ? 0x20 : 0;
		x->byte[x->n] = c | x->fold[x->n];
		x->n++;
	}
}

static bool
flag_given(struct view flags, char flag)
{
	bool on = false;

	for (size_t i = 0; i < flags.n; i++)
		on ^= flags.p[i] == flag;
	return on;
}

static void
prefix_set(struct pattern *p, struct view text, struct view flags)
{
	if (text.n > 1 && text.p[0] == '^' && !flag_given(flags, 'm') &&
	    !flag_given(flags, 'x') &&
	    !has_top_branch(text, p->syntax == PATTERN_PCRE))
		prefix_find(&p->prefix, text, !flag_given(flags, 'i'));
}

static inline bool
prefix_fits(const struct prefix *x, struct view key)
{
	if (key.n < x->n)
		return false;
	for (unsigned i = 0; i < x->n; i++)
		if (((unsigned char)key.p[i] | x->fold[i]) != x->byte[i])
			return false;
	return true;
}

/* -- both ---------------------------------------------------------------- */

struct pattern *
pattern_compile(struct pattern_engine *e, struct view text,
    struct view flags, unsigned groups, struct buf *why)
{
	struct pattern *p = mem_alloc(sizeof(*p));
	bool ok;

	ensure(groups <= PATTERN_GROUPS_MAX);
	p->syntax = e->syntax;
	p->groups = groups;
	ok = e->syntax == PATTERN_POSIX ? posix_compile(p, text, flags, why) :
	    pcre_compile(p, text, flags, why);
	if (!ok) {
		free(p);
		return NULL;
	}
	prefix_set(p, text, flags);
	return p;
}

void
pattern_free(struct pattern **pp)
{
	struct pattern *p = *pp;

	if (p == NULL)
		return;
	if (p->syntax == PATTERN_POSIX)
		regfree(&p->posix);
	else
		pcre2_code_free(p->pcre);
	free(p);
	*pp = NULL;
}

enum pattern_answer
pattern_match(struct pattern_engine *e, const struct pattern *p,
    struct view key)
{
	if (!prefix_fits(&p->prefix, key))
		return PATTERN_NO_MATCH;
	return p->syntax == PATTERN_POSIX ? posix_match(e, p, key) :
	    pcre_match(e, p, key);
}

struct view
pattern_group(const struct pattern_engine *e, struct view key, unsigned n)
{
	size_t from, to;

	ensure(n >= 1 && n <= PATTERN_GROUPS_MAX);
	if (e->syntax == PATTERN_POSIX) {
		if (e->span[n].rm_so < 0)
			return view_head(key, 0);
		from = (size_t)e->span[n].rm_so;
		to = (size_t)e->span[n].rm_eo;
	} else {
		const size_t *v = pcre2_get_ovector_pointer(e->data);

		if (v[2 * n] == PCRE2_UNSET)
			return view_head(key, 0);
		from = v[2 * n];
		to = v[2 * n + 1];
	}
	ensure(from <= to && to <= key.n);
	return view_head(view_from(key, from), to - from);
}
