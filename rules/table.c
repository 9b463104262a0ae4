#include <stdlib.h>

#include "lib/conf.h"
#include "lib/log.h"
#include "rules/table_impl.h"

#define TABLE_MAGIC	0x7ab1e001u

struct table {
	unsigned magic;
	const struct table_kind *kind;
	char *name;		/* "type:name" as given */
	char *file;
	void *data;
};

static const struct table_kind *const kinds[] = {
	&table_static, &table_inline, &table_texthash, &table_cidr,
	&table_regexp, &table_pcre
};

/*
 * Set once, before tables are opened: a setting of the process rather than
 * of one table, so that no caller in between has to carry it.
 */
static uint32_t match_limit = 1000000;

void
table_pattern_limits(uint32_t limit)
{
	match_limit = limit;
}

uint32_t
table_match_limit(void)
{
	return match_limit;
}

static const struct table_kind *
kind_find(struct view type)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (view_is(type, kinds[i]->type))
			return kinds[i];
	return NULL;
}

static void
kind_unknown(struct table_loader *l, struct view type)
{
	static const char *const indexed[] = { "hash", "btree", "dbm", "lmdb",
	    "cdb", "sdbm" };
	const char *hint = "";

	for (size_t i = 0; i < sizeof(indexed) / sizeof(indexed[0]); i++)
		if (view_is(type, indexed[i]))
			hint = "; texthash reads the same source file";
	table_complain(l, 0, true, "unknown table type \"%.*s\" (there are "
	    "static, inline, texthash, cidr, regexp, pcre%s)",
	    VIEW_ARGS(view_head(type, 40)), hint);
}

static char *
path_resolve(struct view name, const char *config_dir)
{
	if (name.p[0] == '/' || config_dir == NULL || config_dir[0] == '\0')
		return mem_copy(name);
	return mem_printf("%s/%.*s", config_dir, VIEW_ARGS(name));
}

static void
table_load(struct table *t, struct view name, const char *config_dir,
    struct table_loader *l)
{
	struct table_source s = { 0 };
	bool ready = true;

	if (t->kind->source && name.p[0] != '{') {
		t->file = path_resolve(name, config_dir);
		l->origin = t->file;
		ready = table_source_file(&s, t->file, l);
	} else if (t->kind->source) {
		ready = table_source_inline(&s, name, l);
	}
	if (ready)
		t->data = t->kind->load(t->kind->type, name, &s, l);
	if (t->kind->source)
		table_source_free(&s);
}

struct table *
table_open(struct view spec, const char *config_dir, table_report *report,
    void *arg)
{
	size_t colon = view_find(spec, ':');
	struct view name = view_from(spec, colon + 1);
	struct table *t = mem_alloc(sizeof(*t));
	struct table_loader l = { .report = report, .arg = arg };

	t->magic = TABLE_MAGIC;
	t->name = mem_copy(spec);
	l.origin = t->name;
	if (memchr(t->name, '\0', spec.n) != NULL)
		table_complain(&l, 0, true, "there is a NUL byte");
	else if (colon == spec.n)
		table_complain(&l, 0, true, "the type of the table is "
		    "missing, as in texthash:/file/name");
	else if ((t->kind = kind_find(view_head(spec, colon))) == NULL)
		kind_unknown(&l, view_head(spec, colon));
	else if (name.n == 0)
		table_complain(&l, 0, true, "the name of the table is "
		    "missing");
	else
		table_load(t, name, config_dir, &l);
	if (l.errors > 0) {
		table_free(&t);
		return NULL;
	}
	ensure(t->data != NULL);
	return t;
}

void
table_free(struct table **tp)
{
	struct table *t = *tp;

	if (t == NULL)
		return;
	ensure(t->magic == TABLE_MAGIC);
	if (t->kind != NULL && t->data != NULL)
		t->kind->release(t->data);
	t->magic = 0;
	free(t->name);
	free(t->file);
	free(t);
	*tp = NULL;
}

const char *
table_name(const struct table *t)
{
	return t->name;
}

const char *
table_file(const struct table *t)
{
	return t->file;
}

const char *
table_origin(const struct table *t)
{
	return t->file != NULL ? t->file : t->name;
}

bool
table_is_pattern(const struct table *t)
{
	return t->kind->pattern;
}

enum table_answer
table_find_from(const struct table *t, size_t *pos, struct view key,
    struct buf *value, unsigned *ret_line)
{
	ensure(t->magic == TABLE_MAGIC);
	buf_clear(value);
	return t->kind->find(t->data, pos, key, value, ret_line);
}

enum table_answer
table_find(const struct table *t, struct view key, struct buf *value,
    unsigned *ret_line)
{
	size_t pos = 0;

	return table_find_from(t, &pos, key, value, ret_line);
}

uint64_t
table_limit_hits(const struct table *t)
{
	return t->kind->limit_hits != NULL ? t->kind->limit_hits(t->data) : 0;
}

void
table_each_result(const struct table *t,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	t->kind->each(t->data, fn, arg);
}

bool
table_check_samples(const struct table *t, table_report *report, void *arg)
{
	struct table_loader l = { .origin = table_origin(t), .report = report,
	    .arg = arg };

	return t->kind->samples == NULL || t->kind->samples(t->data, &l);
}

/* -- lists --------------------------------------------------------------- */

bool
table_list_open(const char *specs, const char *config_dir,
    struct table_list *ret, table_report *report, void *arg)
{
	struct table_list l = { 0 };
	struct view rest = view_of(specs), word;
	bool ok = true;

	while ((word = conf_word(&rest)).n > 0) {
		struct table *t = table_open(word, config_dir, report, arg);

		if (t == NULL) {
			ok = false;
			continue;
		}
		l.list = mem_resize(l.list, l.n + 1,
		    sizeof(struct table *));
		l.list[l.n++] = t;
	}
	if (!ok) {
		table_list_free(&l);
		return false;
	}
	*ret = l;
	return true;
}

void
table_list_free(struct table_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		table_free(&l->list[i]);
	free(l->list);
	*l = (struct table_list){ 0 };
}

enum table_answer
table_list_find(const struct table_list *l, struct view key,
    struct buf *value, const struct table **ret_table, unsigned *ret_line)
{
	for (size_t i = 0; i < l->n; i++) {
		unsigned line;
		enum table_answer answer = table_find(l->list[i], key, value,
		    &line);

		if (answer == TABLE_NOT_FOUND)
			continue;
		*ret_table = l->list[i];
		if (answer == TABLE_FOUND)
			*ret_line = line;
		return answer;
	}
	return TABLE_NOT_FOUND;
}
