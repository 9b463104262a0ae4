#include <stdlib.h>

#include "lib/log.h"
#include "rules/table_impl.h"

#define MEMORY_ENTRIES_MAX	(16u << 20)

/* All keys and values lie one after the other in pool. */
struct memory_entry {
	size_t key, value;	/* where in pool */
	uint32_t key_n, value_n;
	uint32_t hash;
	uint32_t line;
};

struct memory_table {
	struct buf pool;
	struct memory_entry *list;
	size_t n, room;
	uint32_t *slots;	/* 1 + index into list; 0: empty */
	size_t mask;
	bool exact;		/* case makes a difference */
};

/* FNV-1a over the key in lower case; keys are the administrator's. */
static uint32_t
hash_key(struct view key)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < key.n; i++) {
		unsigned char c = (unsigned char)key.p[i];

		if (c >= 'A' && c <= 'Z')
			c |= 0x20;
		h = (h ^ c) * 16777619u;
	}
	return h;
}

static struct view
hash_at(const struct memory_table *h, size_t where, uint32_t n)
{
	return view_make(h->pool.p + where, n);
}

/* Its place plus 1; 0: there is none. */
static uint32_t
hash_find(const struct memory_table *h, struct view key)
{
	uint32_t hash = hash_key(key);

	if (h->slots == NULL)
		return 0;
	for (size_t i = hash & h->mask; h->slots[i] != 0;
	    i = (i + 1) & h->mask) {
		const struct memory_entry *e = &h->list[h->slots[i] - 1];

		struct view have = hash_at(h, e->key, e->key_n);

		if (e->hash == hash && (h->exact ? view_eq(key, have) :
		    view_eq_nocase(key, have)))
			return h->slots[i];
	}
	return 0;
}

static void
hash_slot(struct memory_table *h, uint32_t index)
{
	size_t i = h->list[index].hash & h->mask;

	while (h->slots[i] != 0)
		i = (i + 1) & h->mask;
	h->slots[i] = index + 1;
}

/* At most half of the slots are in use. */
static void
hash_grow(struct memory_table *h)
{
	size_t slots = h->slots == NULL ? 64 : 2 * (h->mask + 1);

	free(h->slots);
	h->slots = mem_array(slots, sizeof(*h->slots));
	h->mask = slots - 1;
	for (size_t i = 0; i < h->n; i++)
		hash_slot(h, (uint32_t)i);
}

enum memory_added
memory_add(struct memory_table *h, struct view key, struct view value,
    unsigned line, bool replace)
{
	struct memory_entry e = {
		.key = h->pool.n, .key_n = (uint32_t)key.n,
		.value = h->pool.n + key.n, .value_n = (uint32_t)value.n,
		.hash = hash_key(key), .line = line
	};
	uint32_t have = hash_find(h, key);

	if (have != 0 && !replace)
		return MEMORY_DUPLICATE;
	if ((have == 0 && h->n == MEMORY_ENTRIES_MAX) ||
	    h->pool.n + key.n + value.n > h->pool.max ||
	    !buf_putv(&h->pool, key) || !buf_putv(&h->pool, value))
		return MEMORY_FULL;
	if (have != 0) {
		h->list[have - 1] = e;
		return MEMORY_ADDED;
	}
	if (h->n == h->room) {
		h->room = h->room > 0 ? 2 * h->room : 32;
		h->list = mem_resize(h->list, h->room, sizeof(*h->list));
	}
	h->list[h->n++] = e;
	if (h->slots == NULL || 2 * h->n > h->mask)
		hash_grow(h);
	else
		hash_slot(h, (uint32_t)h->n - 1);
	return MEMORY_ADDED;
}

struct memory_table *
memory_new(bool exact)
{
	struct memory_table *h = mem_alloc(sizeof(*h));

	h->exact = exact;
	buf_init(&h->pool, 2 * (size_t)TABLE_FILE_MAX);
	return h;
}

void
memory_release(void *data)
{
	struct memory_table *h = data;

	buf_free(&h->pool);
	free(h->list);
	free(h->slots);
	free(h);
}

size_t
memory_count(const struct memory_table *h)
{
	return h->n;
}

void
memory_entry(const struct memory_table *h, size_t i, struct view *ret_key,
    struct view *ret_value, unsigned *ret_line)
{
	const struct memory_entry *e = &h->list[i];

	*ret_key = hash_at(h, e->key, e->key_n);
	*ret_value = hash_at(h, e->value, e->value_n);
	*ret_line = e->line;
}

/* The lines rise but where a later entry took the place of an earlier one. */
uint64_t
memory_row_hash(void *data, unsigned line)
{
	const struct memory_table *h = data;
	struct view key, value;
	size_t low = 0, high = h->n, mid;
	unsigned at;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (h->list[mid].line < line)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == h->n || h->list[low].line != line)
		return 0;
	memory_entry(h, low, &key, &value, &at);
	return row_hash_entry(key, value);
}

bool
memory_has(const struct memory_table *h, struct view key,
    struct view *ret_value, unsigned *ret_line)
{
	uint32_t at = hash_find(h, key);
	struct view found;

	if (at != 0)
		memory_entry(h, at - 1, &found, ret_value, ret_line);
	return at != 0;
}

enum table_answer
memory_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	const struct memory_table *h = data;
	struct view found;
	unsigned line;

	if ((*pos)++ > 0 || !memory_has(h, key, &found, &line))
		return TABLE_NOT_FOUND;
	return table_found(value, found, line, ret_line);
}

void
memory_each(void *data,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	const struct memory_table *h = data;

	for (size_t i = 0; i < h->n; i++)
		fn(hash_at(h, h->list[i].value, h->list[i].value_n),
		    h->list[i].line, arg);
}

void
memory_put(struct memory_table *h, struct view key, struct view value,
    unsigned line, struct table_loader *l)
{
	switch (memory_add(h, key, value, line, false)) {
	case MEMORY_ADDED:
		break;
	case MEMORY_DUPLICATE:
		table_complain(l, line, true, "duplicate entry: \"%.*s\"",
		    VIEW_ARGS(view_head(key, 200)));
		break;
	case MEMORY_FULL:
		table_complain(l, line, true, "the table is too large");
		break;
	}
}
