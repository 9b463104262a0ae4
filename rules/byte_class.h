/*
 * The sets of bytes that a rule set's patterns ask for, each once, by number:
 * of a thousand patterns they are about a hundred.  Number 0 is any byte; it is
 * also what a set becomes that comes when there are too many.
 */
#ifndef RULES_BYTE_CLASS_H
#define RULES_BYTE_CLASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BYTE_CLASS_ANY		0u
#define BYTE_CLASSES_MAX	255u

#define BYTE_CHOICES_MAX	8u
/* What literals are compared without: of letters, the case. */
#define BYTE_FOLD		0x20u

struct byte_class {
	uint64_t set[4];
	float share;		/* how probable it is at a place in mail */
	bool letter;		/* a letter, maybe in disguise */
	/* Its bytes with BYTE_FOLD set; none if there are too many. */
	uint8_t choices;
	unsigned char choice[BYTE_CHOICES_MAX];
};

struct byte_classes {
	size_t n, room;
	struct byte_class *list;
	uint32_t *slots;	/* a hash table of the numbers */
};

struct byte_classes *byte_classes_new(void);
void byte_classes_free(struct byte_classes **c);

uint8_t byte_class_number(struct byte_classes *c, const uint64_t set[4]);

/* Is each byte of a in b? */
bool byte_class_within(const struct byte_class *a, const struct byte_class *b);

static inline bool
byte_class_has(const struct byte_class *c, unsigned char byte)
{
	return (c->set[byte / 64] >> (byte % 64) & 1) != 0;
}

#endif
