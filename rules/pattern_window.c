#include <ctype.h>
#include <string.h>

#include "rules/pattern_window.h"

/* To look at a place where a string was found, and to have one more of
 * them. */
#define COST_HIT	0.06f
#define COST_STRING	1e-7f
#define STRINGS_MAX	32u	/* of one piece */
/* To have shorter pieces than these costs a walk through the text of its
 * own. */
#define SHORT		4u
#define COST_SHORT	16.0f
#define COST_NONE	100.0f
/* Letters come in words: behind this many the next is as good as known. */
#define WORD_LETTERS	4u
#define NEXT_LETTER	0.6f
#define WORD_SHARE	2e-6f

/* What is so common in mail that it tells little; in order of first byte. */
static const char *const common[] = { "&nbsp;", " and ", " for ", " the ",
	" you", "-type", "-transfer", "-encoding", ".com", ".htm", ".jpg",
	".net", ".org", ".php", ".png", "://", "</", "<a ", "<br", "<div",
	"<font", "<img", "<p", "<span", "<t", "=3d", "=20", "align",
	"application", "background", "border", "boundary", "charset", "class",
	"click", "color", "content", "email", "font", "free", "from", "height",
	"here", "href", "html", "http", "https", "image", "ing ", "line",
	"mail", "mailto", "margin", "name", "padding", "please", "size",
	"span", "src=", "style", "table", "target", "text", "that", "this",
	"tion", "title", "type", "will", "with", "width", "www.", "your" };
#define COMMON_SHARE	(1.0f / 300)
#define COMMON_NEXT	0.95f

/* Does a window have this in it, and hardly anything else? */
static bool
common_at(const struct window *w, const struct byte_classes *c, size_t at,
    const char *text)
{
	for (; *text != '\0'; text++, at++) {
		const struct byte_class *b;

		if (at == w->n)
			return false;
		b = &c->list[w->class[at]];
		if (b->choices != 1 || b->choice[0] !=
		    ((unsigned char)*text | BYTE_FOLD))
			return false;
	}
	return true;
}

/* How probable each byte of the window is, whatever stands before it. */
static void
window_shares(const struct window *w, const struct byte_classes *c,
    float ret[WINDOW_BYTES_MAX])
{
	for (size_t i = 0; i < w->n; i++)
		ret[i] = c->list[w->class[i]].share;
	for (size_t i = 0; i < w->n; i++) {
		const struct byte_class *b = &c->list[w->class[i]];

		for (size_t k = 0; b->choices == 1 &&
		    k < sizeof(common) / sizeof(common[0]); k++) {
			if (b->choice[0] != ((unsigned char)common[k][0] |
			    BYTE_FOLD) || !common_at(w, c, i, common[k]))
				continue;
			if (ret[i] < COMMON_NEXT)
				ret[i] = COMMON_SHARE;
			for (size_t m = 1; common[k][m] != '\0'; m++)
				ret[i + m] = COMMON_NEXT;
		}
	}
}

/*
 * The bytes of a window or piece so far: words are known ones, so that more
 * than a few letters say little more.
 */
struct sum {
	float share, word;	/* of all, and of the word that is not over */
	unsigned letters;	/* of it */
};

static inline void
sum_add(struct sum *s, const struct byte_class *c, float share)
{
	float was = s->word;

	if (!c->letter) {
		s->word = 1;
		s->letters = 0;
		s->share *= share;
		return;
	}
	if (++s->letters > WORD_LETTERS && share < NEXT_LETTER)
		share = NEXT_LETTER;
	s->word *= share;
	if (s->word < WORD_SHARE)
		s->word = was < WORD_SHARE ? was : WORD_SHARE;
	s->share *= s->word / was;
}

static float
window_share(const struct window *w, const struct byte_classes *c,
    const float share[])
{
	struct sum s = { 1, 1, 0 };

	for (size_t i = 0; i < w->n; i++)
		sum_add(&s, &c->list[w->class[i]], share[i]);
	return s.share;
}

/* A piece of the window. */
struct piece {
	float share;
	unsigned strings;	/* 0: too many */
};

static struct piece
piece_of(const struct window *w, const struct byte_classes *c,
    const float share[], size_t at, size_t n)
{
	struct piece ret = { 1, 1 };
	struct sum s = { 1, 1, 0 };

	for (size_t i = at; i < at + n; i++) {
		const struct byte_class *b = &c->list[w->class[i]];

		ret.strings *= b->choices;
		if (ret.strings == 0 || ret.strings > STRINGS_MAX)
			return (struct piece){ 0, 0 };
		sum_add(&s, b, share[i]);
	}
	ret.share = s.share;
	return ret;
}

/* Search for a string of this form; cost: of the best so far. */
static void
choose_form(struct window *w, const struct byte_classes *c,
    const float share[], unsigned form, float *cost, float *ret)
{
	const struct literal_form *f = &literal_forms[form];
	float walk = f->piece < SHORT ? COST_SHORT : 1;
	struct piece piece[WINDOW_BYTES_MAX] = { { 0, 0 } };

	for (size_t at = 0; at + f->piece <= w->n; at++)
		piece[at] = piece_of(w, c, share, at, f->piece);
	for (size_t at = 0; at + f->piece + f->step - 1 <= w->n; at++) {
		float p = 0, sum;
		unsigned strings = 0;
		size_t i = 0;

		for (; i < f->step && piece[at + i].strings > 0; i++) {
			p += piece[at + i].share;
			strings += piece[at + i].strings;
		}
		if (i < f->step || strings > WINDOW_LITERALS_MAX)
			continue;
		sum = p / f->step * COST_HIT + (float)strings * COST_STRING;
		if (sum * walk >= *cost)
			continue;
		*cost = sum * walk;
		*ret = sum;
		w->at = (uint8_t)at;
		w->form = (uint8_t)form;
	}
}

bool
window_choose(struct window *w, const struct byte_classes *c,
    struct window_cost *ret)
{
	float cost = COST_NONE, search = 0, share[WINDOW_BYTES_MAX];

	window_shares(w, c, share);
	for (unsigned form = 0; form < LITERAL_FORMS; form++)
		choose_form(w, c, share, form, &cost, &search);
	if (cost >= COST_NONE)
		return false;
	ret->search = search;
	ret->share = window_share(w, c, share);
	return true;
}

/* All strings that the piece stands for. */
static unsigned
piece_literals(const struct window *w, const struct byte_classes *c,
    size_t at, unsigned piece, struct literal *ret)
{
	unsigned n = 1, i = 0;

	for (; i < LITERAL_BYTES_MAX && at + i < w->n; i++) {
		const struct byte_class *b = &c->list[w->class[at + i]];
		unsigned m = b->choices;

		/* Behind the piece: what is known for certain. */
		if (i >= piece && m != 1)
			break;
		/* Copies of what there is, one for each byte. */
		for (unsigned k = 1; k < m; k++)
			memcpy(&ret[k * n], ret, n * sizeof(ret[0]));
		for (unsigned k = 0; k < m * n; k++)
			ret[k].p[i] = b->choice[k / n];
		n *= m;
	}
	for (unsigned k = 0; k < n; k++)
		ret[k].n = (uint8_t)i;
	return n;
}

unsigned
window_literals(const struct window *w, const struct byte_classes *c,
    struct literal ret[WINDOW_LITERALS_MAX])
{
	const struct literal_form *f = &literal_forms[w->form];
	unsigned n = 0;

	for (unsigned i = 0; i < f->step; i++) {
		ret[n] = (struct literal){ .form = w->form,
			.step = (uint8_t)i };
		n += piece_literals(w, c, w->at + i, f->piece, ret + n);
	}
	return n;
}

/* Its bytes, a letter in both cases as one; 0: too many. */
static unsigned
class_bytes(const struct byte_class *c, unsigned char ret[2 * BYTE_CHOICES_MAX],
    bool both[2 * BYTE_CHOICES_MAX])
{
	unsigned n = 0;

	for (unsigned i = 0; c->choices > 0 && i < 256; i++) {
		bool letter = i < 0x80 && isalpha((int)i);

		if (!byte_class_has(c, (unsigned char)i))
			continue;
		both[n] = letter && byte_class_has(c,
		    (unsigned char)(i ^ BYTE_FOLD));
		if (both[n] && islower((int)i))
			continue;
		ret[n] = (unsigned char)(both[n] ? i | BYTE_FOLD : i);
		n++;
	}
	return n;
}

unsigned
window_strings(const struct window *w, const struct byte_classes *c,
    struct window_string ret[WINDOW_LITERALS_MAX])
{
	unsigned n = 1, piece = literal_forms[w->form].piece;

	ret[0] = (struct window_string){ .n = 0 };
	for (unsigned i = 0; i < WINDOW_STRING_MAX && w->at + i < w->n; i++) {
		unsigned char bytes[2 * BYTE_CHOICES_MAX];
		bool both[2 * BYTE_CHOICES_MAX];
		unsigned m = class_bytes(&c->list[w->class[w->at + i]], bytes,
		    both);

		if (i >= piece && m != 1)
			break;
		if (n * m > WINDOW_LITERALS_MAX)
			return 0;
		for (unsigned k = 1; k < m; k++)
			memcpy(&ret[k * n], ret, n * sizeof(ret[0]));
		for (unsigned k = 0; k < m * n; k++) {
			ret[k].p[ret[k].n++] = bytes[k / n];
			ret[k].nocase |= both[k / n];
		}
		n *= m;
	}
	/* Then all of them are. */
	for (unsigned k = 0; k < n; k++)
		for (unsigned i = 0; ret[k].nocase && i < ret[k].n; i++)
			ret[k].p[i] = (unsigned char)tolower(ret[k].p[i]);
	return n;
}

static inline bool
window_stands(const struct window *w, const struct byte_classes *c,
    const unsigned char *p)
{
	for (size_t i = 0; i < w->n; i++)
		if (!byte_class_has(&c->list[w->class[i]], p[i]))
			return false;
	return true;
}

bool
window_at(const struct window *w, const struct byte_classes *c,
    struct view text, unsigned step, size_t at)
{
	step += w->at;
	return at >= step && at - step + w->n <= text.n &&
	    window_stands(w, c, (const unsigned char *)text.p + at - step);
}

bool
window_anywhere(const struct window *w, const struct byte_classes *c,
    struct view text)
{
	for (size_t i = 0; i + w->n <= text.n; i++)
		if (window_stands(w, c, (const unsigned char *)text.p + i))
			return true;
	return false;
}

/* -- triples ------------------------------------------------------------- */

static inline uint16_t
triple_bit(uint32_t three)
{
	return (uint16_t)((three & 0xffffff) * UINT32_C(0x9e3779b1) >> 21);
}

void
window_triples(const struct window *w, const struct byte_classes *c,
    struct window_triples *ret)
{
	uint16_t bit[WINDOW_BYTES_MAX];
	uint32_t three = 0;
	unsigned known = 0, n = 0, m;

	_Static_assert(TRIPLE_BITS == 1u << (32 - 21), "triple_bit()");
	for (size_t i = 0; i < w->n; i++) {
		const struct byte_class *b = &c->list[w->class[i]];

		known = b->choices == 1 ? known + 1 : 0;
		three = three << 8 | b->choice[0];
		if (known >= 3)
			bit[n++] = triple_bit(three);
	}
	/* Of many some, from all of it. */
	m = n < WINDOW_TRIPLES_MAX ? n : WINDOW_TRIPLES_MAX;
	ret->n = (uint16_t)m;
	for (unsigned i = 0; i < m; i++)
		ret->bit[i] = bit[i * n / m];
}

void
triples_of(struct view text, struct triples *ret)
{
	uint32_t three = 0;

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < text.n; i++) {
		unsigned bit;

		three = three << 8 | ((unsigned char)text.p[i] | BYTE_FOLD);
		bit = triple_bit(three);
		ret->bits[bit / 64] |= (uint64_t)1 << (bit % 64);
	}
}

bool
triples_have(const struct triples *t, const struct window_triples *w)
{
	for (unsigned i = 0; i < w->n; i++)
		if ((t->bits[w->bit[i] / 64] >> (w->bit[i] % 64) & 1) == 0)
			return false;
	return true;
}

bool
window_implies(const struct window *a, const struct window *b,
    const struct byte_classes *c)
{
	for (size_t i = 0; i + b->n <= a->n; i++) {
		size_t k = 0;

		while (k < b->n && (a->class[i + k] == b->class[k] ||
		    byte_class_within(&c->list[a->class[i + k]],
		    &c->list[b->class[k]])))
			k++;
		if (k == b->n)
			return true;
	}
	return false;
}
