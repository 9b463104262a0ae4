/*
 * What the fields of one header block say about the body behind them: type,
 * charset, names, disposition, and each transfer encoding that a receiver
 * could take.  Fields that contradict themselves are noted as conditions.
 */
#ifndef FILTERS_ENTITY_H
#define FILTERS_ENTITY_H

#include "filters/leaf.h"

#define ENTITY_WORD_MAX	80u	/* of a type, subtype, charset */

struct entity {
	char type[ENTITY_WORD_MAX], subtype[ENTITY_WORD_MAX];
	char charset[ENTITY_WORD_MAX];
	size_t type_n, subtype_n, charset_n;
	bool multipart, message, leaf;	/* Content-Types of these kinds */
	bool is_signed;			/* multipart/signed, /encrypted */
	enum leaf_encoding encodings[LEAF_READINGS];
	size_t n_encodings;
	size_t guessed;		/* from there on they are guesses */
	bool guess;		/* one was named that nobody knows */
	enum leaf_disposition disposition;
	uint64_t type_hash, encoding_hash, disposition_hash;
	bool version, mime_fields;
	bool boundary;
	uint64_t boundary_hash;
	struct condition_set conditions;
	struct part_names names;
};

void entity_init(struct entity *e, const struct charsets *cs);
void entity_free(struct entity *e);
void entity_begin(struct entity *e);
/* A field of the block; raw: all of the text, where it stands. */
void entity_field(struct entity *e, const struct mime_header *h,
    struct view raw);
/* The block is complete. */
void entity_end(struct entity *e, bool primary);
/* Decode it in this way, too. */
void entity_reading(struct entity *e, enum leaf_encoding encoding);
static inline bool
entity_composite(const struct entity *e)
{
	return e->multipart || e->message;
}

#endif
