#include <stdlib.h>

#include "lib/mem.h"
#include "rules/addr_set.h"

void
addr_set_free(struct addr_set *s)
{
	free(s->list);
	free(s->slots);
	*s = (struct addr_set){ 0 };
}

static uint32_t
set_hash(struct view text)
{
	uint32_t h = 2166136261u;
	size_t i;

	for (i = 0; i < text.n; i++)
		h = (h ^ (unsigned char)tolower((unsigned char)text.p[i])) *
		    16777619u;
	return h;
}

/* The slot that holds text, or the empty one where it belongs. */
static size_t
set_slot(const struct addr_set *s, struct view text)
{
	size_t i = set_hash(text) & s->mask;

	while (s->slots[i] != 0 &&
	    !view_eq_nocase(s->list[s->slots[i] - 1], text))
		i = (i + 1) & s->mask;
	return i;
}

static void
set_grow(struct addr_set *s)
{
	size_t i;

	s->room = s->room > 0 ? 2 * s->room : 16;
	s->list = mem_resize(s->list, s->room, sizeof *s->list);
	free(s->slots);
	s->slots = mem_array(2 * s->room, sizeof *s->slots);
	s->mask = 2 * s->room - 1;
	for (i = 0; i < s->n; i++)
		s->slots[set_slot(s, s->list[i])] = (uint32_t)i + 1;
}

bool
addr_set_has(const struct addr_set *s, struct view text)
{
	return s->n > 0 && s->slots[set_slot(s, text)] != 0;
}

bool
addr_set_add(struct addr_set *s, struct view text)
{
	size_t i;

	if (addr_set_has(s, text))
		return false;
	if (s->n == s->room)
		set_grow(s);
	i = set_slot(s, text);
	s->list[s->n++] = text;
	s->slots[i] = (uint32_t)s->n;
	return true;
}
