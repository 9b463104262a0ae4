/*
 * Many short strings, searched for in a text at once, without regard to the
 * case of letters.  Of each a piece is looked for, in tables of hashes; it is
 * in the table from each of the first places of the string, so that only each
 * second or third place of the text has to be looked at.  What that costs
 * hardly grows with the number of strings; so the tables are made to be small
 * and the memory of all that was found is asked for before any is used.  All
 * memory is taken when an index is built.
 */
#ifndef RULES_LITERAL_INDEX_H
#define RULES_LITERAL_INDEX_H

#include "lib/view.h"

#define LITERAL_BYTES_MAX	8u
#define LITERAL_FORMS		4u
#define LITERAL_STEPS_MAX	3u
#define LITERAL_USERS_MAX	(1u << 28)
#define LITERAL_FOUND_MAX	64u

/* Pieces of so many bytes, looked for at each step-th place: of a string of
 * piece + step - 1 bytes that stands anywhere one will be found. */
struct literal_form {
	uint8_t piece, step;
};

extern const struct literal_form literal_forms[LITERAL_FORMS];

/*
 * A piece and what is known of the bytes behind it, n in all.  Its bytes have
 * BYTE_FOLD (rules/byte_class.h) set: they are compared with text that has,
 * too.
 */
struct literal {
	uint32_t user;		/* of the caller */
	uint8_t form;
	uint8_t step;		/* its place in its string */
	uint8_t n;
	unsigned char p[LITERAL_BYTES_MAX];
};

/* A piece that is probably there; whoever asks looks himself. */
struct literal_found {
	uint32_t user;
	uint8_t step;
	size_t at;		/* in the text */
};

struct literal_index;

struct literal_index *literal_index_new(const struct literal *list, size_t n);
void literal_index_free(struct literal_index **x);

/* fn is told all that is found, at most LITERAL_FOUND_MAX at a time. */
void literal_index_scan(const struct literal_index *x, struct view text,
    void (*fn)(const struct literal_found *list, size_t n, void *arg),
    void *arg);

#endif
