/*
 * A window: bytes that stand next to one another in every text that a pattern
 * matches, each of a class.  A part of it that stands for a few strings only
 * is searched for (rules/literal_index.h); where a piece is found the whole
 * is compared.  Pure.
 */
#ifndef RULES_PATTERN_WINDOW_H
#define RULES_PATTERN_WINDOW_H

#include "lib/view.h"
#include "rules/byte_class.h"
#include "rules/literal_index.h"

#define WINDOW_BYTES_MAX	21u
/* Pieces of it that are searched for. */
#define WINDOW_LITERALS_MAX	64u

/*
 * Which strings of three bytes a text has in it, by their hashes: whether
 * it may have a longer one.
 */
#define TRIPLE_BITS		2048u
#define WINDOW_TRIPLES_MAX	7u

struct triples {
	uint64_t bits[TRIPLE_BITS / 64];
};

struct window_triples {
	uint16_t n;
	uint16_t bit[WINDOW_TRIPLES_MAX];
};

struct window {
	uint8_t n;
	uint8_t at, form;	/* the string that is searched for */
	uint8_t class[WINDOW_BYTES_MAX];
};

/* What a window costs, at each place of a text: 1 is to ask a pattern. */
struct window_cost {
	float share;		/* how probable the window is there */
	float search;		/* to find where it may be */
};

/* Choose the string; false: there is none. */
bool window_choose(struct window *w, const struct byte_classes *c,
    struct window_cost *ret);
/* The pieces of the string; user is left alone. */
unsigned window_literals(const struct window *w, const struct byte_classes *c,
    struct literal ret[WINDOW_LITERALS_MAX]);
/* A string that the window begins with where its part does, to the letter. */
#define WINDOW_STRING_MAX	16u

struct window_string {
	uint8_t n;
	bool nocase;		/* letters in either case; they are small */
	unsigned char p[WINDOW_STRING_MAX];
};

/* All of them; 0: too many. */
unsigned window_strings(const struct window *w, const struct byte_classes *c,
    struct window_string ret[WINDOW_LITERALS_MAX]);
/* Does it stand in the text, with this step of its string there? */
bool window_at(const struct window *w, const struct byte_classes *c,
    struct view text, unsigned step, size_t at);
bool window_anywhere(const struct window *w, const struct byte_classes *c,
    struct view text);
/* What a text with the window in it has. */
void window_triples(const struct window *w, const struct byte_classes *c,
    struct window_triples *ret);
void triples_of(struct view text, struct triples *ret);
bool triples_have(const struct triples *t, const struct window_triples *w);
/* Has every text that has a in it got b in it, too? */
bool window_implies(const struct window *a, const struct window *b,
    const struct byte_classes *c);

#endif
