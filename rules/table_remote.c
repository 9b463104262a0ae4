#include <ctype.h>
#include <stdlib.h>

#include "lib/log.h"
#include "rules/table_impl.h"
#include "rules/table_remote.h"

#define KNOWN_MAX	20000u	/* answers of one evaluation */
#define KNOWN_BYTES_MAX	(8u << 20)
#define KEY_MAX		1024u
#define SLOTS_MIN	64u

struct known_answer {
	struct known_answer *next;	/* in its slot */
	uint32_t service, hash;
	enum table_reply reply;
	size_t table_n, key_n, value_n;
	char bytes[];
};

struct known_need {
	uint32_t service;
	struct buf table, key;
};

struct table_known {
	struct known_answer **slots;
	size_t n_slots;
	size_t n, bytes;
	size_t n_needs, max_needs;
	struct known_need needs[TABLE_NEEDS_MAX];
};

/*
 * Of the evaluation that runs now, between begin and end: so that what is in
 * between, from restrictions to lists of domains, need not carry it.
 */
static struct table_known *known_now;
static table_ask_now *ask_now;
static void *ask_arg;
static size_t opened;

struct table_known *
table_known_new(void)
{
	struct table_known *k = mem_alloc(sizeof *k);

	k->max_needs = 1;
	k->n_slots = SLOTS_MIN;
	k->slots = mem_array(k->n_slots, sizeof *k->slots);
	for (size_t i = 0; i < TABLE_NEEDS_MAX; i++) {
		buf_init(&k->needs[i].table, KEY_MAX);
		buf_init(&k->needs[i].key, KEY_MAX);
	}
	return k;
}

struct table_known *
table_known_gather(void)
{
	struct table_known *k = table_known_new();

	k->max_needs = TABLE_NEEDS_MAX;
	return k;
}

void
table_known_free(struct table_known **kp)
{
	struct table_known *k = *kp;
	struct known_answer *a;

	if (k == NULL)
		return;
	*kp = NULL;
	if (known_now == k)
		known_now = NULL;
	for (size_t i = 0; i < k->n_slots; i++)
		while ((a = k->slots[i]) != NULL) {
			k->slots[i] = a->next;
			free(a);
		}
	free(k->slots);
	for (size_t i = 0; i < TABLE_NEEDS_MAX; i++) {
		buf_free(&k->needs[i].table);
		buf_free(&k->needs[i].key);
	}
	free(k);
}

void
table_known_begin(struct table_known *k)
{
	ensure(known_now == NULL);
	if (k != NULL)
		k->n_needs = 0;
	known_now = k;
}

bool
table_known_need(const struct table_known *k, size_t number,
    struct table_need *ret)
{
	const struct known_need *need;

	if (number >= k->n_needs)
		return false;
	need = &k->needs[number];
	*ret = (struct table_need){ need->service, buf_view(&need->table),
		buf_view(&need->key) };
	return true;
}

bool
table_known_end(struct table_known *k, struct table_need *ret)
{
	ensure(known_now == k);
	known_now = NULL;
	return k != NULL && table_known_need(k, 0, ret);
}

bool
table_known_needs(void)
{
	return known_now != NULL && known_now->n_needs > 0;
}

bool
table_known_full(void)
{
	return table_known_needs() &&
	    known_now->n_needs == known_now->max_needs;
}

bool
table_known_goes_on(void)
{
	return table_known_needs() && !table_known_full();
}

size_t
table_remote_opened(void)
{
	return opened;
}

static uint32_t
known_hash(const struct table_need *what)
{
	uint32_t h = 2166136261u ^ what->service;

	for (size_t i = 0; i < what->table.n; i++)
		h = (h ^ (unsigned char)what->table.p[i]) * 16777619u;
	for (size_t i = 0; i < what->key.n; i++)
		h = (h ^ (unsigned char)what->key.p[i]) * 16777619u;
	return h;
}

static const struct known_answer *
known_find(const struct table_known *k, const struct table_need *what)
{
	uint32_t hash = known_hash(what);
	const struct known_answer *a;

	for (a = k->slots[hash % k->n_slots]; a != NULL; a = a->next)
		if (a->hash == hash && a->service == what->service &&
		    view_eq(view_make(a->bytes, a->table_n), what->table) &&
		    view_eq(view_make(a->bytes + a->table_n, a->key_n),
		    what->key))
			return a;
	return NULL;
}

/* As many slots as answers, or more: keys are of a peer's choice, so the time
 * it takes is bounded by KNOWN_MAX, too. */
static void
known_grow(struct table_known *k)
{
	size_t n = 2 * k->n_slots;
	struct known_answer **slots = mem_array(n, sizeof *slots), *a;

	for (size_t i = 0; i < k->n_slots; i++)
		while ((a = k->slots[i]) != NULL) {
			k->slots[i] = a->next;
			a->next = slots[a->hash % n];
			slots[a->hash % n] = a;
		}
	free(k->slots);
	k->slots = slots;
	k->n_slots = n;
}

void
table_known_answer(struct table_known *k, size_t number,
    enum table_reply reply, struct view value)
{
	struct known_answer *a, **slot;
	struct table_need what;
	size_t n;

	ensure(table_known_need(k, number, &what));
	n = what.table.n + what.key.n + value.n;
	if (k->n == k->n_slots)
		known_grow(k);
	ensure(k->n_slots > 0);
	a = mem_alloc(sizeof *a + n);
	a->service = what.service;
	a->hash = known_hash(&what);
	a->reply = reply;
	a->table_n = what.table.n;
	a->key_n = what.key.n;
	a->value_n = value.n;
	memcpy(a->bytes, what.table.p, what.table.n);
	if (what.key.n > 0)
		memcpy(a->bytes + a->table_n, what.key.p, what.key.n);
	if (value.n > 0)
		memcpy(a->bytes + a->table_n + a->key_n, value.p, value.n);
	slot = &k->slots[a->hash % k->n_slots];
	a->next = *slot;
	*slot = a;
	k->n++;
	k->bytes += n;
}

void
table_known_add(struct table_known *k, enum table_reply reply,
    struct view value)
{
	table_known_answer(k, 0, reply, value);
	k->n_needs = 0;
}

void
table_remote_ask_with(table_ask_now *ask, void *arg)
{
	ask_now = ask;
	ask_arg = arg;
}

static void
known_note(struct table_known *k, const struct table_need *what)
{
	struct table_need have;
	struct known_need *need;

	if (k->n_needs == k->max_needs || k->n + k->n_needs >= KNOWN_MAX ||
	    k->bytes >= KNOWN_BYTES_MAX)
		return;
	for (size_t i = 0; table_known_need(k, i, &have); i++)
		if (have.service == what->service &&
		    view_eq(have.table, what->table) &&
		    view_eq(have.key, what->key))
			return;
	need = &k->needs[k->n_needs++];
	need->service = what->service;
	buf_clear(&need->table);
	buf_clear(&need->key);
	ensure(buf_putv(&need->table, what->table) &&
	    buf_putv(&need->key, what->key));
}

static enum table_reply
remote_answer(const struct table_need *what, struct buf *value)
{
	struct table_known *k = known_now;
	const struct known_answer *a;
	enum table_reply reply = TABLE_REPLY_FAILED;

	if (ask_now != NULL) {
		ask_now(what, &reply, value, ask_arg);
		return reply;
	}
	if (k == NULL)
		return TABLE_REPLY_FAILED;
	a = known_find(k, what);
	if (a != NULL)
		return a->reply == TABLE_REPLY_FOUND && !buf_putv(value,
		    view_make(a->bytes + a->table_n + a->key_n, a->value_n)) ?
		    TABLE_REPLY_FAILED : a->reply;
	known_note(k, what);
	return TABLE_REPLY_FAILED;
}

/* -- the kinds --------------------------------------------------------------- */

/* The place is the number of the type; it is part of what roles tell one
 * another, so new ones go to the end.  whole: as Postfix has it, asked for
 * whole addresses only, case kept. */
static const struct {
	const char *type;
	const struct table_kind *kind;
	bool whole;
} types[] = {
	{ "", NULL, false },
	{ "ldap", &table_ldap, false },
	{ "mysql", &table_mysql, false },
	{ "pgsql", &table_pgsql, false },
	{ "sqlite", &table_sqlite, false },
	{ "redis", &table_redis, false },
	{ "memcache", &table_memcache, false },
	{ "socketmap", &table_socketmap, true },
	{ "tcp", &table_tcp, true },
};
#define TYPES	(sizeof types / sizeof types[0])

struct remote {
	uint32_t service;
	char *table;
};

uint32_t
table_remote_service(struct view type)
{
	uint32_t i;

	for (i = 1; i < TYPES; i++)
		if (view_is(type, types[i].type))
			return i;
	return 0;
}

const char *
table_remote_type(uint32_t service)
{
	return service > 0 && service < TYPES ? types[service].type : NULL;
}

struct view
table_remote_file(struct view table)
{
	size_t colon = view_find(table, ':');
	struct view name = view_from(table, colon + 1);
	uint32_t service = table_remote_service(view_head(table, colon));

	if (service == 0 || types[service].whole || name.n == 0 ||
	    name.p[0] != '/')
		return view_make("", 0);
	return name;
}

static void *
remote_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	struct remote *r = mem_alloc(sizeof *r);

	(void)s;
	r->service = table_remote_service(view_of(type));
	ensure(r->service != 0);
	opened++;
	r->table = mem_printf("%s:%.*s", type, VIEW_ARGS(name));
	if (strlen(r->table) > KEY_MAX)
		table_complain(l, 0, true, "the name is too long");
	return r;
}

static void
remote_release(void *data)
{
	struct remote *r = data;

	free(r->table);
	free(r);
}

static enum table_answer
remote_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	const struct remote *r = data;
	struct table_need what = { r->service, view_of(r->table), key };
	char folded[KEY_MAX];
	size_t i;

	/* No address and no name is that long. */
	if ((*pos)++ > 0 || key.n == 0 || key.n > KEY_MAX)
		return TABLE_NOT_FOUND;
	if (!types[r->service].whole) {
		for (i = 0; i < key.n; i++)
			folded[i] = (char)tolower((unsigned char)key.p[i]);
		what.key = view_make(folded, key.n);
	}
	*ret_line = 0;
	switch (remote_answer(&what, value)) {
	case TABLE_REPLY_FOUND:
		return TABLE_FOUND;
	case TABLE_REPLY_NONE:
		return TABLE_NOT_FOUND;
	case TABLE_REPLY_FAILED:
		break;
	}
	buf_clear(value);
	return TABLE_FAILED;
}

static void
remote_each(void *data,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	(void)data;
	(void)fn;
	(void)arg;
}

#define REMOTE(name, is_whole)						\
	const struct table_kind table_##name = {			\
		.type = #name, .pattern = is_whole, .load = remote_load, \
		.release = remote_release, .find = remote_find,		\
		.each = remote_each					\
	}
REMOTE(ldap, false);
REMOTE(mysql, false);
REMOTE(pgsql, false);
REMOTE(sqlite, false);
REMOTE(redis, false);
REMOTE(memcache, false);
REMOTE(socketmap, true);
REMOTE(tcp, true);

/* -- names in a configuration ------------------------------------------------ */

static bool
name_ends(char c)
{
	return view_space(c) || strchr(",{}()'\"", c) != NULL;
}

void
table_remote_names(struct view value,
    void (*each)(uint32_t service, struct view table, void *arg), void *arg)
{
	struct view word;
	uint32_t service;
	size_t i = 0, end, colon;

	while (i < value.n) {
		if (name_ends(value.p[i])) {
			i++;
			continue;
		}
		for (end = i; end < value.n && !name_ends(value.p[end]); end++)
			;
		word = view_make(value.p + i, end - i);
		i = end;
		while (word.n > 0 && word.p[0] == '!')
			word = view_from(word, 1);
		while (view_starts_nocase(word, "proxy:") ||
		    view_starts_nocase(word, "debug:"))
			word = view_from(word, 6);
		colon = view_find(word, ':');
		service = table_remote_service(view_head(word, colon));
		if (service != 0 && colon + 1 < word.n)
			each(service, word, arg);
	}
}
