#include <stdlib.h>

#include "lib/mem.h"
#include "rules/facts.h"

struct fact_entry {
	struct fact_entry *next;
	enum fact_kind kind;
	uint16_t type;
	uint32_t key_n, answer_n;
	char bytes[];		/* key, then the answer as it came */
};

static struct fact_entry *
entry_find(const struct facts *f, const struct fact_name *name)
{
	struct fact_entry *e;
	int i;

	for (i = 0; i < SHELVES; i++)
		for (e = f->shelf[i]; e != NULL; e = e->next)
			if (e->kind == name->kind && e->type == name->type &&
			    view_eq(view_make(e->bytes, e->key_n), name->key))
				return e;
	return NULL;
}

static bool
answer_read(enum fact_kind kind, uint16_t type, struct view answer,
    struct fact *ret)
{
	struct cursor c = cursor_of(answer);
	struct view name;
	uint16_t preference;
	unsigned status = cursor_u8(&c);
	uint32_t i;

	ret->n = cursor_u32(&c);
	if (status == FACT_UNKNOWN || status >= FACT_STATUSES ||
	    ret->n > FACT_RECORDS_MAX ||
	    (ret->n > 0) != (status == FACT_FOUND))
		return false;
	for (i = 0; i < ret->n; i++) {
		ret->record[i] = cursor_view(&c);
		if (kind != FACT_DNS)
			continue;
		if ((type == FACT_A && ret->record[i].n != 4) ||
		    (type == FACT_HOST && ret->record[i].n != 4 &&
		    ret->record[i].n != 16) || (type == FACT_MX &&
		    !fact_mx(ret->record[i], &preference, &name)))
			return false;
	}
	ret->status = (enum fact_status)status;
	return cursor_done(&c);
}

bool
facts_find(const struct facts *f, const struct fact_name *name,
    struct fact *ret)
{
	const struct fact_entry *e = entry_find(f, name);

	/* It was read once, when it was stored. */
	return e != NULL && answer_read(e->kind, e->type,
	    view_make(e->bytes + e->key_n, e->answer_n), ret);
}

bool
facts_add(struct facts *f, enum fact_shelf shelf,
    const struct fact_name *name, struct view answer)
{
	struct fact_entry *e;
	struct fact read;

	if (name->key.n > FACT_KEY_MAX || answer.n > FACT_BYTES_MAX ||
	    !answer_read(name->kind, name->type, answer, &read) ||
	    entry_find(f, name) != NULL)
		return false;
	/* Who owns a zone may have much to say for each name that he says. */
	if (f->count[shelf] == SHELF_FACTS_MAX || f->bytes[shelf] +
	    name->key.n + answer.n > SHELF_BYTES_MAX)
		facts_clear(f, shelf);
	e = mem_alloc(sizeof *e + name->key.n + answer.n);
	e->kind = name->kind;
	e->type = name->type;
	e->key_n = (uint32_t)name->key.n;
	e->answer_n = (uint32_t)answer.n;
	if (name->key.n > 0)
		memcpy(e->bytes, name->key.p, name->key.n);
	memcpy(e->bytes + name->key.n, answer.p, answer.n);
	e->next = f->shelf[shelf];
	f->shelf[shelf] = e;
	f->count[shelf]++;
	f->bytes[shelf] += e->key_n + e->answer_n;
	return true;
}

void
facts_clear(struct facts *f, enum fact_shelf shelf)
{
	struct fact_entry *e;

	while ((e = f->shelf[shelf]) != NULL) {
		f->shelf[shelf] = e->next;
		free(e);
	}
	f->count[shelf] = 0;
	f->bytes[shelf] = 0;
}

void
facts_free(struct facts *f)
{
	int i;

	for (i = 0; i < SHELVES; i++)
		facts_clear(f, (enum fact_shelf)i);
}

bool
facts_put_answer(struct buf *b, enum fact_status status,
    const struct view *records, uint32_t n)
{
	bool ok = put_u8(b, (uint8_t)status) && put_u32(b, n);
	uint32_t i;

	for (i = 0; ok && i < n; i++)
		ok = put_view(b, records[i]);
	return ok;
}

bool
fact_mx(struct view record, uint16_t *ret_preference, struct view *ret_name)
{
	if (record.n < 2)
		return false;
	*ret_preference = (uint16_t)((unsigned char)record.p[0] |
	    (unsigned char)record.p[1] << 8);
	*ret_name = view_from(record, 2);
	return true;
}
