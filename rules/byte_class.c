#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"
#include "rules/byte_class.h"

/* -- what mail is made of ------------------------------------------------ */

/* How probable a byte is, about: one in so many. */
static float
byte_share(unsigned c)
{
	if (c == ' ' || c == '\n' || c == '\r')
		return 1.0f / 6;
	if (islower((int)c))
		return strchr("etaoinsrhl", (int)c) != NULL ? 1.0f / 14 :
		    1.0f / 32;
	if (isupper((int)c))
		return 1.0f / 96;
	if (isdigit((int)c))
		return 1.0f / 32;
	return c < 0x80 && isprint((int)c) ? 1.0f / 48 : 1.0f / 192;
}

static void
describe(struct byte_class *c)
{
	unsigned n = 0, letters = 0, choices = 0;

	for (unsigned i = 0; i < 256; i++) {
		unsigned char folded = (unsigned char)(i | BYTE_FOLD);

		if (!byte_class_has(c, (unsigned char)i))
			continue;
		n++;
		letters += i < 0x80 && isalpha((int)i);
		c->share += byte_share(i);
		if (choices <= BYTE_CHOICES_MAX &&
		    memchr(c->choice, folded, choices < BYTE_CHOICES_MAX ?
		    choices : BYTE_CHOICES_MAX) == NULL) {
			if (choices < BYTE_CHOICES_MAX)
				c->choice[choices] = folded;
			choices++;
		}
	}
	if (c->share > 1)
		c->share = 1;
	c->choices = choices > BYTE_CHOICES_MAX ? 0 : (uint8_t)choices;
	c->letter = letters > 0 && n <= BYTE_CHOICES_MAX;
}

bool
byte_class_within(const struct byte_class *a, const struct byte_class *b)
{
	return (a->set[0] & ~b->set[0]) == 0 && (a->set[1] & ~b->set[1]) == 0 &&
	    (a->set[2] & ~b->set[2]) == 0 && (a->set[3] & ~b->set[3]) == 0;
}

/* -- numbers ------------------------------------------------------------- */

static size_t
slot_of(const struct byte_classes *c, const uint64_t set[4])
{
	uint64_t h = 0;

	for (unsigned i = 0; i < 4; i++)
		h = (h ^ set[i]) * UINT64_C(0x9e3779b97f4a7c15) ^ h >> 29;
	return (size_t)(h >> 32) & (2 * c->room - 1);
}

/* Where it is, or where it has to go. */
static uint32_t *
slot_find(const struct byte_classes *c, const uint64_t set[4])
{
	size_t i = slot_of(c, set);

	while (c->slots[i] != 0 && memcmp(c->list[c->slots[i] - 1].set, set,
	    sizeof(c->list[0].set)) != 0)
		i = (i + 1) & (2 * c->room - 1);
	return &c->slots[i];
}

static void
grow(struct byte_classes *c)
{
	c->room = c->room > 0 ? 2 * c->room : 64;
	c->list = mem_resize(c->list, c->room, sizeof(*c->list));
	free(c->slots);
	c->slots = mem_array(2 * c->room, sizeof(*c->slots));
	for (size_t i = 0; i < c->n; i++)
		*slot_find(c, c->list[i].set) = (uint32_t)i + 1;
}

uint8_t
byte_class_number(struct byte_classes *c, const uint64_t set[4])
{
	uint32_t *slot = slot_find(c, set);

	if (*slot != 0)
		return (uint8_t)(*slot - 1);
	if (c->n == BYTE_CLASSES_MAX)
		return BYTE_CLASS_ANY;
	if (c->n == c->room) {
		grow(c);
		slot = slot_find(c, set);
	}
	c->list[c->n] = (struct byte_class){ .share = 0 };
	memcpy(c->list[c->n].set, set, sizeof(c->list[0].set));
	describe(&c->list[c->n]);
	c->n++;
	*slot = (uint32_t)c->n;
	return (uint8_t)(c->n - 1);
}

struct byte_classes *
byte_classes_new(void)
{
	static const uint64_t any[4] = { UINT64_MAX, UINT64_MAX, UINT64_MAX,
		UINT64_MAX };
	struct byte_classes *c = mem_alloc(sizeof(*c));

	grow(c);
	(void)byte_class_number(c, any);
	return c;
}

void
byte_classes_free(struct byte_classes **cp)
{
	struct byte_classes *c = *cp;

	if (c == NULL)
		return;
	free(c->list);
	free(c->slots);
	free(c);
	*cp = NULL;
}
