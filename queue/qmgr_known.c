#include <stdlib.h>

#include "lib/log.h"
#include "queue/qmgr.h"

/* Chained, doubled when full; ids differ most in their low bits. */
static struct {
	struct known **slot;
	size_t size, n;
} table;

static struct known **
known_slot(uint64_t n)
{
	n *= UINT64_C(0x9e3779b97f4a7c15);
	return &table.slot[(n >> 20) & (table.size - 1)];
}

struct known *
known_find(struct queue_id id)
{
	struct known *k;

	if (table.n == 0)
		return NULL;
	for (k = *known_slot(id.n); k != NULL; k = k->hash_next)
		if (k->id.n == id.n)
			return k;
	return NULL;
}

static void
known_grow(void)
{
	struct known **old = table.slot, *k, *next;
	size_t size = table.size, i;

	table.size = size > 0 ? size * 2 : 1024;
	table.slot = mem_array(table.size, sizeof *table.slot);
	for (i = 0; i < size; i++)
		for (k = old[i]; k != NULL; k = next) {
			struct known **s = known_slot(k->id.n);

			next = k->hash_next;
			k->hash_next = *s;
			*s = k;
		}
	free(old);
}

void
known_add(struct known *k)
{
	struct known **s;

	ensure(known_find(k->id) == NULL);
	if (table.n >= table.size)
		known_grow();
	s = known_slot(k->id.n);
	k->hash_next = *s;
	*s = k;
	table.n++;
}

void
known_remove(struct known *k)
{
	struct known **p = known_slot(k->id.n);

	for (; *p != k; p = &(*p)->hash_next)
		ensure(*p != NULL);
	*p = k->hash_next;
	table.n--;
}

/* fn may remove the one it is called with. */
void
known_each(void (*fn)(struct known *k, void *arg), void *arg)
{
	struct known *k, *next;
	size_t i;

	for (i = 0; i < table.size; i++)
		for (k = table.slot[i]; k != NULL; k = next) {
			next = k->hash_next;
			fn(k, arg);
		}
}

uint64_t
known_scan(uint64_t where, size_t chains,
    bool (*fn)(struct known *k, void *arg), void *arg)
{
	size_t i = (size_t)(where & UINT32_MAX);
	struct known *k;
	bool more = true;

	/* It has grown meanwhile: from the beginning. */
	if (where >> 32 != table.size)
		i = 0;
	for (; i < table.size && chains > 0 && more; i++, chains--)
		for (k = table.slot[i]; k != NULL; k = k->hash_next)
			more = fn(k, arg) && more;
	return i < table.size ? (uint64_t)table.size << 32 | i : 0;
}

struct message *
message_find(struct queue_id id)
{
	struct known *k = known_find(id);

	if (k == NULL || k->state == M_DEFERRED || k->state == M_BUSY)
		return NULL;
	return (struct message *)k;
}

size_t
known_count(void)
{
	return table.n;
}
