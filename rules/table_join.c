/*
 * Tables made of other tables, and small ones without a file: unionmap:
 * pipemap: debug: randmap: environ: unix: fail:.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/random.h>

#include "lib/conf.h"
#include "lib/log.h"
#include "rules/table_impl.h"

#define JOIN_VALUE_MAX	(1u << 20)

/* -- unionmap: pipemap: debug: --------------------------------------------- */

struct join {
	struct table **list;
	size_t n;
	struct buf part;	/* of unionmap: the answer of one table;
				 * of pipemap: the key for the next */
};

static void
join_add(struct join *j, struct view spec, struct table_loader *l)
{
	struct table *t = table_open_inner(spec, l);

	if (t == NULL)
		return;
	j->list = mem_resize(j->list, j->n + 1, sizeof(struct table *));
	j->list[j->n++] = t;
}

/* The inside of "{a, b}"; false after a report. */
static bool
braces_inside(const char *type, struct view name, struct table_loader *l,
    struct view *ret)
{
	if (name.n < 2 || table_braces(name) != name.n) {
		table_complain(l, 0, true, "need %s:{...}", type);
		return false;
	}
	*ret = view_head(view_from(name, 1), name.n - 2);
	return true;
}

static void *
join_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	struct join *j = mem_alloc(sizeof *j);
	struct view rest, word;

	(void)s;
	buf_init(&j->part, JOIN_VALUE_MAX);
	if (!braces_inside(type, name, l, &rest))
		return j;
	while ((word = conf_word(&rest)).n > 0)
		join_add(j, word, l);
	if (j->n == 0 && l->errors == 0)
		table_complain(l, 0, true, "there is no table in %s:{}",
		    type);
	return j;
}

static void *
debug_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	struct join *j = mem_alloc(sizeof *j);

	(void)type;
	(void)s;
	buf_init(&j->part, 1);
	join_add(j, name, l);
	return j;
}

static void
join_release(void *data)
{
	struct join *j = data;

	for (size_t i = 0; i < j->n; i++)
		table_free(&j->list[i]);
	free(j->list);
	buf_free(&j->part);
	free(j);
}

static bool
join_is_pattern(void *data)
{
	const struct join *j = data;

	for (size_t i = 0; i < j->n; i++)
		if (table_is_pattern(j->list[i]))
			return true;
	return false;
}

static void
join_each(void *data,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	const struct join *j = data;

	for (size_t i = 0; i < j->n; i++)
		table_each_result(j->list[i], fn, arg);
}

static void
pipe_each(void *data,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	const struct join *j = data;

	/* What comes before the last is not a result. */
	table_each_result(j->list[j->n - 1], fn, arg);
}

static enum table_answer
union_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	struct join *j = data;
	bool any = false;
	unsigned line = 0;

	if ((*pos)++ > 0)
		return TABLE_NOT_FOUND;
	for (size_t i = 0; i < j->n; i++) {
		enum table_answer a = table_find(j->list[i], key, &j->part,
		    &line);

		if (a == TABLE_NOT_FOUND)
			continue;
		if (a == TABLE_FAILED || (any && !buf_putc(value, ',')) ||
		    !buf_putv(value, buf_view(&j->part)))
			return TABLE_FAILED;
		any = true;
	}
	if (any)
		*ret_line = j->n == 1 ? line : 0;
	return any ? TABLE_FOUND : TABLE_NOT_FOUND;
}

static enum table_answer
pipe_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	struct join *j = data;
	unsigned line = 0;

	if ((*pos)++ > 0)
		return TABLE_NOT_FOUND;
	for (size_t i = 0; i < j->n; i++) {
		enum table_answer a = table_find(j->list[i], key, value,
		    &line);

		if (a != TABLE_FOUND)
			return a;
		buf_clear(&j->part);
		if (i + 1 < j->n && !buf_putv(&j->part, buf_view(value)))
			return TABLE_FAILED;
		key = buf_view(&j->part);
	}
	*ret_line = line;
	return TABLE_FOUND;
}

static enum table_answer
debug_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	const struct join *j = data;
	const struct table *t = j->list[0];
	enum table_answer a = table_find_from(t, pos, key, value, ret_line);

	if (a == TABLE_FOUND)
		log_info("%s lookup: \"%s\" = \"%s\"", table_name(t),
		    log_safe(key), log_safe(buf_view(value)));
	else
		log_info("%s lookup: \"%s\" = %s", table_name(t),
		    log_safe(key), a == TABLE_FAILED ? "error" :
		    "not found");
	return a;
}

const struct table_kind table_unionmap = {
	.type = "unionmap", .load = join_load, .release = join_release,
	.find = union_find, .each = join_each, .is_pattern = join_is_pattern
};
const struct table_kind table_pipemap = {
	.type = "pipemap", .load = join_load, .release = join_release,
	.find = pipe_find, .each = pipe_each, .is_pattern = join_is_pattern
};
const struct table_kind table_debug = {
	.type = "debug", .load = debug_load, .release = join_release,
	.find = debug_find, .each = join_each, .is_pattern = join_is_pattern
};

/* -- randmap: -------------------------------------------------------------- */

struct choice {
	struct view *list;
	size_t n;
	char *text;
};

static void *
choice_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	struct choice *c = mem_alloc(sizeof *c);
	struct view rest, word;
	bool group, bad = false;

	(void)s;
	c->text = mem_copy(name);
	if (!braces_inside(type, view_make(c->text, name.n), l, &rest))
		return c;
	while (table_inline_word(&rest, &word, &group, &bad)) {
		c->list = mem_resize(c->list, c->n + 1, sizeof *c->list);
		c->list[c->n++] = word;
	}
	if (bad)
		table_complain(l, 0, true, "braces do not balance");
	else if (c->n == 0)
		table_complain(l, 0, true, "the table is empty");
	return c;
}

static void
choice_release(void *data)
{
	struct choice *c = data;

	free(c->list);
	free(c->text);
	free(c);
}

static enum table_answer
choice_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	const struct choice *c = data;
	uint32_t n = 0;

	(void)key;
	if ((*pos)++ > 0)
		return TABLE_NOT_FOUND;
	/* What is picked is no secret; without random bytes the first. */
	if (getrandom(&n, sizeof n, 0) != sizeof n)
		n = 0;
	return table_found(value, c->list[n % c->n], 0, ret_line);
}

static void
choice_each(void *data,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	const struct choice *c = data;

	for (size_t i = 0; i < c->n; i++)
		fn(c->list[i], 0, arg);
}

const struct table_kind table_randmap = {
	.type = "randmap", .load = choice_load, .release = choice_release,
	.find = choice_find, .each = choice_each
};

/* -- environ: fail: -------------------------------------------------------- */

static void *
nothing_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	(void)type;
	(void)name;
	(void)s;
	(void)l;
	return mem_alloc(1);
}

static void
nothing_each(void *data,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	(void)data;
	(void)fn;
	(void)arg;
}

static enum table_answer
environ_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	const char *text;
	char name[256];

	(void)data;
	if ((*pos)++ > 0 || key.n == 0 || key.n >= sizeof name ||
	    view_find(key, '\0') < key.n || view_find(key, '=') < key.n)
		return TABLE_NOT_FOUND;
	memcpy(name, key.p, key.n);
	name[key.n] = '\0';
	text = getenv(name);
	if (text == NULL)
		return TABLE_NOT_FOUND;
	return table_found(value, view_of(text), 0, ret_line);
}

const struct table_kind table_environ = {
	.type = "environ", .load = nothing_load, .release = free,
	.find = environ_find, .each = nothing_each
};

static enum table_answer
fail_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	(void)data;
	(void)pos;
	(void)key;
	(void)value;
	(void)ret_line;
	return TABLE_FAILED;
}

const struct table_kind table_fail = {
	.type = "fail", .load = nothing_load, .release = free,
	.find = fail_find, .each = nothing_each
};

/* -- unix: ----------------------------------------------------------------- */

static void
unix_put(struct memory_table *m, const char *name, const struct buf *line)
{
	/* The first of two entries of one name is the one that counts. */
	(void)memory_add(m, view_of(name), buf_view(line), 0, false);
}

static void
unix_users(struct memory_table *m)
{
	const struct passwd *pw;
	struct buf line;

	buf_init(&line, 65536);
	setpwent();
	while ((pw = getpwent()) != NULL) {
		buf_clear(&line);
		if (buf_printf(&line, "%s:%s:%u:%u:%s:%s:%s", pw->pw_name,
		    "x", pw->pw_uid, pw->pw_gid, pw->pw_gecos, pw->pw_dir,
		    pw->pw_shell))
			unix_put(m, pw->pw_name, &line);
	}
	endpwent();
	buf_free(&line);
}

static void
unix_groups(struct memory_table *m)
{
	const struct group *gr;
	struct buf line;

	buf_init(&line, 1u << 20);
	setgrent();
	while ((gr = getgrent()) != NULL) {
		buf_clear(&line);
		if (!buf_printf(&line, "%s:%s:%u:", gr->gr_name, "x",
		    gr->gr_gid))
			continue;
		for (size_t i = 0; gr->gr_mem[i] != NULL; i++)
			(void)buf_printf(&line, "%s%s", i > 0 ? "," : "",
			    gr->gr_mem[i]);
		unix_put(m, gr->gr_name, &line);
	}
	endgrent();
	buf_free(&line);
}

/*
 * All accounts are read now: inside the jail there is no /etc/passwd, and
 * what stands behind the C library's lookups may want to connect somewhere.
 * A directory service that does not list its accounts is not seen.
 */
static void *
unix_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	struct memory_table *m = memory_new(true);

	(void)type;
	(void)s;
	if (view_is(name, "passwd.byname"))
		unix_users(m);
	else if (view_is(name, "group.byname"))
		unix_groups(m);
	else
		table_complain(l, 0, true, "unknown table; there are "
		    "unix:passwd.byname and unix:group.byname");
	return m;
}

const struct table_kind table_unix = {
	.type = "unix", .load = unix_load, .release = memory_release,
	.find = memory_find, .each = nothing_each
};
