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

/* In alphabetical order: for people. */
static const struct table_kind *const kinds[] = {
	&table_btree, &table_cdb, &table_cidr, &table_dbm, &table_debug,
	&table_environ, &table_fail, &table_hash, &table_inline, &table_ldap,
	&table_lmdb, &table_memcache, &table_mysql, &table_pcre, &table_pgsql,
	&table_pipemap, &table_randmap, &table_redis, &table_regexp,
	&table_sdbm, &table_socketmap, &table_sqlite, &sendmail_access,
	&sendmail_cw, &sendmail_domaintable, &sendmail_genericstable,
	&sendmail_mailertable,
	&sendmail_relay_domains, &sendmail_virtusertable, &table_static,
	&table_tcp, &table_texthash, &table_unionmap, &table_unix
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

static struct {
	const struct pattern_sets *sets;
	const struct literal_databases *database;
	const char *cache;
} together;

void
table_pattern_sets(const struct pattern_sets *how,
    const struct literal_databases *database, const char *cache)
{
	together.sets = how;
	together.database = database;
	together.cache = cache != NULL && cache[0] != '\0' ? cache : NULL;
}

const struct pattern_sets *
table_pattern_sets_used(void)
{
	return together.sets;
}

const struct literal_databases *
table_literal_databases(void)
{
	return together.database;
}

const char *
table_pattern_cache(void)
{
	return together.cache;
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
	struct buf known;

	buf_init(&known, 1000);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		(void)buf_printf(&known, "%s, ", kinds[i]->type);
	table_complain(l, 0, true, "unknown table type \"%.*s\" (there are "
	    "%sproxy)", VIEW_ARGS(view_head(type, 40)), buf_cstr(&known));
	buf_free(&known);
}

static char *
path_resolve(struct view name, const char *config_dir)
{
	if (name.p[0] == '/' || config_dir == NULL || config_dir[0] == '\0')
		return mem_copy(name);
	return mem_printf("%s/%.*s", config_dir, VIEW_ARGS(name));
}

static void
table_load(struct table *t, struct view name, struct table_loader *l)
{
	struct table_source s = { 0 };
	bool ready = true;

	if (t->kind->file || (t->kind->source && name.p[0] != '{')) {
		t->file = path_resolve(name, l->config_dir);
		l->origin = t->file;
		name = view_of(t->file);
	}
	if (t->kind->source && t->file != NULL)
		ready = table_source_file(&s, t->file, l);
	else if (t->kind->source)
		ready = table_source_inline(&s, name, l);
	if (ready)
		t->data = t->kind->load(t->kind->type, name, &s, l);
	if (t->kind->source)
		table_source_free(&s);
}

/* proxy: is a process of Postfix's; here each role reads for itself. */
static struct view
spec_without_proxy(struct view spec)
{
	while (spec.n > 6 && memcmp(spec.p, "proxy:", 6) == 0)
		spec = view_from(spec, 6);
	return spec;
}

static struct table *
table_open_with(struct view spec, struct table_loader *l)
{
	struct view inner = spec_without_proxy(spec);
	size_t colon = view_find(inner, ':');
	struct view name = view_from(inner, colon + 1);
	struct table *t = mem_alloc(sizeof(*t));

	t->magic = TABLE_MAGIC;
	t->name = mem_copy(spec);
	l->origin = t->name;
	if (memchr(t->name, '\0', spec.n) != NULL)
		table_complain(l, 0, true, "there is a NUL byte");
	else if (colon == inner.n)
		table_complain(l, 0, true, "the type of the table is "
		    "missing, as in texthash:/file/name");
	else if ((t->kind = kind_find(view_head(inner, colon))) == NULL)
		kind_unknown(l, view_head(inner, colon));
	else if (name.n == 0 && t->kind != &table_environ)
		table_complain(l, 0, true, "the name of the table is "
		    "missing");
	else
		table_load(t, name, l);
	if (l->errors > 0) {
		table_free(&t);
		return NULL;
	}
	ensure(t->data != NULL);
	return t;
}

struct table *
table_open(struct view spec, const char *config_dir, table_report *report,
    void *arg)
{
	struct table_loader l = { .report = report, .arg = arg,
	    .config_dir = config_dir };

	return table_open_with(spec, &l);
}

struct table *
table_open_inner(struct view spec, struct table_loader *l)
{
	struct table_loader inner = { .report = l->report, .arg = l->arg,
	    .config_dir = l->config_dir, .depth = l->depth + 1 };
	struct table *t = NULL;

	if (inner.depth > TABLE_DEPTH_MAX)
		table_complain(l, 0, true, "tables are nested over %u deep",
		    TABLE_DEPTH_MAX);
	else if ((t = table_open_with(spec, &inner)) == NULL)
		l->errors++;
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
	return t->kind->is_pattern != NULL ? t->kind->is_pattern(t->data) :
	    t->kind->pattern;
}

const struct table_kind *
table_kind_of(const struct table *t)
{
	return t->kind;
}

void *
table_data_of(const struct table *t)
{
	return t->data;
}

enum table_answer
table_found(struct buf *value, struct view text, unsigned line,
    unsigned *ret_line)
{
	if (!buf_putv(value, text)) {
		buf_clear(value);
		return TABLE_FAILED;
	}
	*ret_line = line;
	return TABLE_FOUND;
}

/* A body of a message has many lines: of patterns only what matched. */
static void
table_trace(const struct table *t, struct view key, enum table_answer a,
    struct view value, unsigned line)
{
	key = view_head(key, 200);
	if (a == TABLE_FOUND && line > 0)
		log_trace("table %s: \"%s\": %s; rule=%s:%u", t->name,
		    log_safe(key), log_safe(value), table_origin(t), line);
	else if (a == TABLE_FOUND)
		log_trace("table %s: \"%s\": %s", t->name, log_safe(key),
		    log_safe(value));
	else if (a == TABLE_FAILED)
		log_trace("table %s: \"%s\": no answer", t->name,
		    log_safe(key));
	else if (!table_is_pattern(t))
		log_trace("table %s: \"%s\": not found", t->name,
		    log_safe(key));
}

enum table_answer
table_find_from(const struct table *t, size_t *pos, struct view key,
    struct buf *value, unsigned *ret_line)
{
	unsigned line = 0;
	enum table_answer a;

	ensure(t->magic == TABLE_MAGIC);
	buf_clear(value);
	a = t->kind->find(t->data, pos, key, value, &line);
	if (a == TABLE_FOUND)
		*ret_line = line;
	if (log_tracing())
		table_trace(t, key, a, buf_view(value), line);
	return a;
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

	return t->kind->samples != NULL ? t->kind->samples(t->data, &l) :
	    table_samples(t, &l);
}

/* -- names ---------------------------------------------------------------- */

const char *
table_kind_name(size_t i)
{
	return i < sizeof(kinds) / sizeof(kinds[0]) ? kinds[i]->type : NULL;
}

const struct table_kind *
table_spec_kind(struct view spec, const char *config_dir, char **ret_file)
{
	struct view inner = spec_without_proxy(spec);
	size_t colon = view_find(inner, ':');
	struct view name = view_from(inner, colon + 1);
	const struct table_kind *kind = kind_find(view_head(inner, colon));

	if (kind == NULL || name.n == 0 || name.p[0] == '{' ||
	    (!kind->source && !kind->indexed))
		return NULL;
	*ret_file = path_resolve(name, config_dir);
	return kind;
}

static void
spec_files(struct view spec, const char *config_dir, unsigned depth,
    void (*each)(const char *file, void *arg), void *arg)
{
	struct view name, rest, word;
	const struct table_kind *kind;
	size_t colon;
	char *path, *index;

	spec = spec_without_proxy(spec);
	colon = view_find(spec, ':');
	name = view_from(spec, colon + 1);
	kind = kind_find(view_head(spec, colon));
	if (kind == NULL || name.n == 0 || depth > TABLE_DEPTH_MAX)
		return;
	if (kind == &table_debug) {
		spec_files(name, config_dir, depth + 1, each, arg);
	} else if (kind == &table_unix) {
		each(view_is(name, "group.byname") ? "/etc/group" :
		    "/etc/passwd", arg);
	} else if (kind == &table_unionmap || kind == &table_pipemap) {
		if (name.p[0] != '{' || name.p[name.n - 1] != '}')
			return;
		rest = view_head(view_from(name, 1), name.n - 2);
		while ((word = conf_word(&rest)).n > 0)
			spec_files(word, config_dir, depth + 1, each, arg);
	} else if (kind->file || (kind->source && name.p[0] != '{')) {
		path = path_resolve(name, config_dir);
		each(path, arg);
		if (kind->indexed) {
			index = mem_printf("%s.lmdb", path);
			each(index, arg);
			free(index);
		}
		free(path);
	}
}

void
table_spec_files(struct view spec, const char *config_dir,
    void (*each)(const char *file, void *arg), void *arg)
{
	spec_files(spec, config_dir, 0, each, arg);
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
