#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "rules/byte_class.h"
#include "rules/literal_index.h"

#define FOLD		(UINT64_C(0x0101010101010101) * BYTE_FOLD)
#define HASH		UINT64_C(0x9e3779b97f4a7c15)
/* Of the bits of a table one in so many is set, at most; fewer of a table
 * that is small. */
#define SPARSE		16u
#define BITS_MIN	12u
#define BITS_EASY	19u
#define BITS_MAX	22u
#define BLOCK		64u

const struct literal_form literal_forms[LITERAL_FORMS] = {
	{ 6, 3 }, { 4, 2 }, { 3, 2 }, { 2, 1 }
};

/* How many bytes behind the piece are compared: one of these. */
static const uint8_t behind[] = { 0, 1, 2, 4 };
#define BEHINDS		(sizeof(behind) / sizeof(behind[0]))

struct entry {
	uint32_t tag;		/* a hash of the piece and what is behind */
	uint32_t user;		/* and above it step, and which of behind */
};

#define USER_BITS	28u
#define STEP_BITS	2u

/* Bit h says whether there is a piece of hash h; those whose hash begins with
 * s are list[begin[s]] up to list[begin[s+1]-1]. */
struct hashes {
	unsigned piece, step, bit_shift, slot_shift;
	uint64_t mask[BEHINDS];	/* the first: of the piece alone */
	uint64_t *bits;
	uint32_t *begin;
	struct entry *list;
	size_t n;
};

struct literal_index {
	size_t tables;
	struct hashes table[LITERAL_FORMS];
};

static inline uint64_t
load(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v | FOLD;
}

static inline uint32_t
tag_of(uint64_t v)
{
	v *= UINT64_C(0xff51afd7ed558ccd);
	return (uint32_t)(v >> 32);
}

/* -- building ------------------------------------------------------------ */

static unsigned
log2_up(size_t n)
{
	unsigned bits = 1;

	while (((size_t)1 << bits) < n)
		bits++;
	return bits;
}

static uint64_t
mask_of(unsigned n)
{
	unsigned char bytes[8] = { 0 };
	uint64_t v;

	memset(bytes, 0xff, n < 8 ? n : 8);
	memcpy(&v, bytes, sizeof(v));
	return v;
}

static void
hashes_size(struct hashes *t, const struct literal_form *f)
{
	unsigned bits = log2_up(t->n * SPARSE);
	unsigned slots = log2_up(t->n / 2 + 1);

	if (bits < BITS_EASY)
		bits = bits + 2 < BITS_EASY ? bits + 2 : BITS_EASY;
	bits = bits < BITS_MIN ? BITS_MIN : bits > BITS_MAX ? BITS_MAX : bits;
	t->piece = f->piece;
	t->step = f->step;
	for (size_t i = 0; i < BEHINDS; i++)
		t->mask[i] = mask_of(f->piece + behind[i]);
	t->bit_shift = 64 - bits;
	t->slot_shift = 64 - slots;
	t->bits = mem_array(((size_t)1 << bits) / 64, sizeof(uint64_t));
	t->begin = mem_array(((size_t)1 << slots) + 2, sizeof(uint32_t));
	t->list = mem_array(t->n, sizeof(*t->list));
}

static uint64_t
value_of(const struct literal *l)
{
	unsigned char p[8] = { 0 };

	memcpy(p, l->p, l->n);
	return load(p);
}

/* Each slot's begin stands one place further until it is filled. */
static void
hashes_count(struct hashes *t, const struct literal *l)
{
	uint64_t h = (value_of(l) & t->mask[0]) * HASH;

	t->bits[h >> t->bit_shift >> 6] |= (uint64_t)1 <<
	    ((h >> t->bit_shift) & 63);
	t->begin[(h >> t->slot_shift) + 2]++;
}

static void
hashes_begin(struct hashes *t)
{
	size_t slots = (size_t)1 << (64 - t->slot_shift);

	for (size_t s = 2; s < slots + 2; s++)
		t->begin[s] += t->begin[s - 1];
}

static void
hashes_put(struct hashes *t, const struct literal *l)
{
	uint64_t v = value_of(l);
	size_t slot = (v & t->mask[0]) * HASH >> t->slot_shift;
	uint32_t b = BEHINDS - 1;

	while (t->piece + behind[b] > l->n)
		b--;
	t->list[t->begin[slot + 1]++] = (struct entry){
		tag_of(v & t->mask[b]), l->user |
		(uint32_t)l->step << USER_BITS | b << (USER_BITS + STEP_BITS)
	};
}

struct literal_index *
literal_index_new(const struct literal *list, size_t n)
{
	struct literal_index *x = mem_alloc(sizeof(*x));
	struct hashes all[LITERAL_FORMS] = { { .n = 0 } };

	for (size_t i = 0; i < n; i++) {
		const struct literal *l = &list[i];

		ensure(l->form < LITERAL_FORMS && l->n <= LITERAL_BYTES_MAX &&
		    l->n >= literal_forms[l->form].piece &&
		    l->step < literal_forms[l->form].step &&
		    l->user < LITERAL_USERS_MAX);
		all[l->form].n++;
	}
	for (size_t k = 0; k < LITERAL_FORMS; k++)
		if (all[k].n > 0)
			hashes_size(&all[k], &literal_forms[k]);
	for (size_t i = 0; i < n; i++)
		hashes_count(&all[list[i].form], &list[i]);
	for (size_t k = 0; k < LITERAL_FORMS; k++)
		if (all[k].n > 0)
			hashes_begin(&all[k]);
	for (size_t i = 0; i < n; i++)
		hashes_put(&all[list[i].form], &list[i]);
	for (size_t k = 0; k < LITERAL_FORMS; k++)
		if (all[k].n > 0)
			x->table[x->tables++] = all[k];
	return x;
}

void
literal_index_free(struct literal_index **xp)
{
	struct literal_index *x = *xp;

	if (x == NULL)
		return;
	for (size_t k = 0; k < x->tables; k++) {
		free(x->table[k].bits);
		free(x->table[k].begin);
		free(x->table[k].list);
	}
	free(x);
	*xp = NULL;
}

/* -- searching ----------------------------------------------------------- */

/* A place whose bit is set. */
struct hit {
	const struct hashes *table;
	uint64_t value;
	size_t at, slot;
	uint32_t from, to;
};

struct search {
	void (*fn)(const struct literal_found *list, size_t n, void *arg);
	void *arg;
	size_t n;
	struct hit hit[2 * BLOCK];
	size_t n_found;
	struct literal_found found[LITERAL_FOUND_MAX];
};

static void
tell(struct search *s)
{
	if (s->n_found > 0)
		s->fn(s->found, s->n_found, s->arg);
	s->n_found = 0;
}

static void
hit_compare(struct search *s, const struct hit *h)
{
	const struct hashes *t = h->table;
	uint32_t tag[BEHINDS];

	for (size_t i = 0; i < BEHINDS; i++)
		tag[i] = tag_of(h->value & t->mask[i]);
	for (uint32_t i = h->from; i < h->to; i++) {
		const struct entry *e = &t->list[i];

		if (tag[e->user >> (USER_BITS + STEP_BITS)] != e->tag)
			continue;
		if (s->n_found == LITERAL_FOUND_MAX)
			tell(s);
		s->found[s->n_found++] = (struct literal_found){
			e->user & (LITERAL_USERS_MAX - 1),
			e->user >> USER_BITS & ((1u << STEP_BITS) - 1), h->at
		};
	}
}

static void
hits_compare(struct search *s)
{
	for (size_t i = 0; i < s->n; i++) {
		struct hit *h = &s->hit[i];

		h->from = h->table->begin[h->slot];
		h->to = h->table->begin[h->slot + 1];
		__builtin_prefetch(&h->table->list[h->from]);
	}
	for (size_t i = 0; i < s->n; i++)
		hit_compare(s, &s->hit[i]);
	s->n = 0;
}

/* At which of the n places may there be one?  Without a branch: which places
 * these are cannot be foreseen. */
static inline uint64_t
block_hits(const struct hashes *t, const unsigned char *p, size_t n)
{
	const uint64_t *bits = t->bits;
	uint64_t mask = t->mask[0], hits = 0;
	unsigned shift = t->bit_shift, step = t->step;

	for (size_t i = 0; i < n; i++, p += step) {
		uint64_t h = (load(p) & mask) * HASH >> shift;

		hits |= (bits[h / 64] >> (h % 64) & 1) << i;
	}
	return hits;
}

/* p: the text from place at on; at n places, the last of which has eight
 * bytes that can be read. */
static void
block_search(struct search *s, const struct hashes *t, const unsigned char *p,
    size_t n, size_t at)
{
	uint64_t hits = block_hits(t, p, n);

	for (; hits != 0; hits &= hits - 1) {
		struct hit *h = &s->hit[s->n++];
		size_t i = (size_t)__builtin_ctzll(hits) * t->step;

		h->table = t;
		h->at = at + i;
		h->value = load(p + i);
		h->slot = (h->value & t->mask[0]) * HASH >> t->slot_shift;
		__builtin_prefetch(&t->begin[h->slot]);
	}
	if (s->n >= BLOCK)
		hits_compare(s);
}

static void
table_search(struct search *s, const struct hashes *t, struct view text)
{
	const unsigned char *p = (const unsigned char *)text.p;
	unsigned char rest[2 * sizeof(uint64_t)] = { 0 };
	size_t at = 0, n;

	while (at + sizeof(uint64_t) <= text.n) {
		n = (text.n - sizeof(uint64_t) - at) / t->step + 1;
		n = n < BLOCK ? n : BLOCK;
		block_search(s, t, p + at, n, at);
		at += n * t->step;
	}
	if (at + t->piece > text.n)
		return;
	memcpy(rest, p + at, text.n - at);
	block_search(s, t, rest, (text.n - at - t->piece) / t->step + 1, at);
}

void
literal_index_scan(const struct literal_index *x, struct view text,
    void (*fn)(const struct literal_found *list, size_t n, void *arg),
    void *arg)
{
	struct search s;

	s.fn = fn;
	s.arg = arg;
	s.n = s.n_found = 0;
	for (size_t k = 0; k < x->tables; k++)
		table_search(&s, &x->table[k], text);
	hits_compare(&s);
	tell(&s);
}
