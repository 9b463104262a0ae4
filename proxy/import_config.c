#include <stdarg.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/import_config_impl.h"

#define PLACES_MAX	64u	/* listed above one setting */

struct import_setting {
	char *name, *value;
	struct import_place places[PLACES_MAX];
	size_t n_places, more;
	struct buf remark;
	struct import_setting *next;
};

struct import_table {
	struct import_config *config;
	struct import_file *file;
	char *type, *spec;
	struct import_place last;
	char **keys;		/* hash set of keys in lower case */
	size_t n, slots;
};

struct import_config *
import_config_new(void)
{
	struct import_config *c = mem_alloc(sizeof *c);

	c->end = &c->first;
	return c;
}

static void
table_free_all(struct import_table *t)
{
	size_t i;

	for (i = 0; i < t->slots; i++)
		free(t->keys[i]);
	free(t->keys);
	free(t->type);
	free(t->spec);
	free(t);
}

void
import_config_free(struct import_config **c)
{
	struct import_config *old = *c;
	struct import_setting *s;
	size_t i;

	*c = NULL;
	if (old == NULL)
		return;
	while ((s = old->first) != NULL) {
		old->first = s->next;
		buf_free(&s->remark);
		free(s->name);
		free(s->value);
		free(s);
	}
	for (i = 0; i < old->n_tables; i++)
		table_free_all(old->tables[i]);
	for (i = 0; i < old->n_files; i++) {
		buf_free(&old->files[i]->text);
		free(old->files[i]->name);
		free(old->files[i]);
	}
	import_names_free(&old->names);
	free(old);
}

/* -- settings -------------------------------------------------------------- */

static struct import_setting *
setting_find(const struct import_config *c, const char *name)
{
	struct import_setting *s;

	for (s = c->first; s != NULL; s = s->next)
		if (strcmp(s->name, name) == 0)
			return s;
	return NULL;
}

/* NULL: there are too many. */
static struct import_setting *
setting_make(struct import_config *c, const char *name)
{
	struct import_setting *s = setting_find(c, name);

	if (s != NULL)
		return s;
	if (c->n_settings == IMPORT_SETTINGS_MAX) {
		c->full = true;
		return NULL;
	}
	s = mem_alloc(sizeof *s);
	s->name = mem_strdup(name);
	buf_init(&s->remark, 8192);
	*c->end = s;
	c->end = &s->next;
	c->n_settings++;
	return s;
}

static void
setting_place(struct import_config *c, struct import_setting *s,
    struct import_place at)
{
	size_t i;

	if (at.file == NULL)
		return;
	for (i = 0; i < s->n_places; i++)
		if (s->places[i].line == at.line &&
		    strcmp(s->places[i].file, at.file) == 0)
			return;
	at.file = import_name(&c->names, at.file);
	if (s->n_places < PLACES_MAX)
		s->places[s->n_places++] = at;
	else
		s->more++;
}

/* A value is one line: what would end it becomes a blank. */
static char *__attribute__((format(printf, 2, 0)))
setting_text(struct import_config *c, const char *fmt, va_list ap)
{
	struct buf b;
	char *text;

	buf_init(&b, IMPORT_VALUE_MAX);
	if (!buf_vprintf(&b, fmt, ap))
		c->full = true;
	for (size_t i = 0; i < b.n; i++)
		if ((unsigned char)b.p[i] < ' ' || b.p[i] == 127)
			b.p[i] = ' ';
	text = mem_copy(view_trim(buf_view(&b)));
	buf_free(&b);
	return text;
}

void
import_set(struct import_config *c, const char *name, struct import_place at,
    const char *fmt, ...)
{
	struct import_setting *s = setting_make(c, name);
	va_list ap;

	if (s == NULL)
		return;
	va_start(ap, fmt);
	free(s->value);
	s->value = setting_text(c, fmt, ap);
	va_end(ap);
	setting_place(c, s, at);
}

static bool
list_has(struct view list, struct view item)
{
	struct view next;

	while (list.n > 0) {
		next = view_trim(view_head(list, view_find(list, ',')));
		list = view_from(list, view_find(list, ',') + 1);
		if (view_eq(next, item))
			return true;
	}
	return false;
}

void
import_add(struct import_config *c, const char *name, struct import_place at,
    const char *fmt, ...)
{
	struct import_setting *s = setting_make(c, name);
	char *item, *old;
	va_list ap;

	if (s == NULL)
		return;
	va_start(ap, fmt);
	item = setting_text(c, fmt, ap);
	va_end(ap);
	setting_place(c, s, at);
	old = s->value;
	if (old == NULL || old[0] == '\0') {
		s->value = item;
		free(old);
		return;
	}
	if (!list_has(view_of(old), view_of(item))) {
		if (strlen(old) + strlen(item) + 2 > IMPORT_VALUE_MAX)
			c->full = true;
		else {
			s->value = mem_printf("%s, %s", old, item);
			free(old);
		}
	}
	free(item);
}

void
import_remark(struct import_config *c, const char *name, const char *fmt, ...)
{
	struct import_setting *s = setting_make(c, name);
	va_list ap;
	char *text;

	if (s == NULL)
		return;
	va_start(ap, fmt);
	text = setting_text(c, fmt, ap);
	va_end(ap);
	if (!buf_printf(&s->remark, "# %s\n", log_safe(view_of(text))))
		c->full = true;
	free(text);
}

const char *
import_value(const struct import_config *c, const char *name)
{
	struct import_setting *s = setting_find(c, name);

	return s != NULL ? s->value : NULL;
}

/* -- files and tables ------------------------------------------------------ */

static struct import_file *
file_make(struct import_config *c, const char *name, mode_t mode)
{
	struct import_file *f;
	size_t i;

	for (i = 0; i < c->n_files; i++)
		if (strcmp(c->files[i]->name, name) == 0)
			return c->files[i];
	ensure(c->n_files < IMPORT_FILES_MAX);
	ensure(strchr(name, '/') == NULL);
	f = mem_alloc(sizeof *f);
	f->name = mem_strdup(name);
	f->mode = mode;
	buf_init(&f->text, IMPORT_FILE_MAX);
	c->files[c->n_files++] = f;
	return f;
}

struct buf *
import_file(struct import_config *c, const char *name, mode_t mode)
{
	return &file_make(c, name, mode)->text;
}

static bool
type_indexed(const char *type)
{
	static const char *const types[] = { "hash", "btree", "lmdb", "dbm",
		"cdb" };
	size_t i;

	for (i = 0; i < sizeof types / sizeof types[0]; i++)
		if (strcmp(types[i], type) == 0)
			return true;
	return false;
}

struct import_table *
import_table_find(const struct import_config *c, const char *name)
{
	size_t i;

	for (i = 0; i < c->n_tables; i++)
		if (strcmp(c->tables[i]->file->name, name) == 0)
			return c->tables[i];
	return NULL;
}

struct import_table *
import_table(struct import_config *c, const char *type, const char *name)
{
	struct import_table *t = import_table_find(c, name);

	if (t != NULL) {
		ensure(strcmp(t->type, type) == 0);
		return t;
	}
	t = mem_alloc(sizeof *t);
	t->config = c;
	t->file = file_make(c, name, 0644);
	t->file->indexed = type_indexed(type);
	t->type = mem_strdup(type);
	t->spec = mem_printf("%s:$config_directory/%s", type, name);
	c->tables[c->n_tables++] = t;
	return t;
}

static size_t
key_hash(const char *key)
{
	size_t h = 5381;

	for (; *key != '\0'; key++)
		h = h * 33 ^ (unsigned char)*key;
	return h;
}

/* Takes key; false: it is there. */
static bool
table_claim(struct import_table *t, char *key)
{
	char **old = t->keys;
	size_t i, at, n = t->slots;

	if (t->n * 2 >= t->slots) {
		t->slots = n == 0 ? 64 : n * 2;
		t->keys = mem_array(t->slots, sizeof *t->keys);
		for (i = 0; i < n; i++) {
			if (old[i] == NULL)
				continue;
			at = key_hash(old[i]) % t->slots;
			while (t->keys[at] != NULL)
				at = (at + 1) % t->slots;
			t->keys[at] = old[i];
		}
		free(old);
	}
	at = key_hash(key) % t->slots;
	for (; t->keys[at] != NULL; at = (at + 1) % t->slots)
		if (strcmp(t->keys[at], key) == 0) {
			free(key);
			return false;
		}
	t->keys[at] = key;
	t->n++;
	return true;
}

/* Would it be read as it was written? */
static bool
row_good(struct view key, struct view value)
{
	size_t i;

	if (key.n == 0 || key.n > 500 || value.n == 0 || key.p[0] == '#')
		return false;
	for (i = 0; i < key.n; i++)
		if ((unsigned char)key.p[i] <= ' ' || key.p[i] == '"' ||
		    key.p[i] == 127)
			return false;
	for (i = 0; i < value.n; i++)
		if ((unsigned char)value.p[i] < ' ' && value.p[i] != '\t')
			return false;
	return view_eq(value, view_trim(value));
}

bool
import_row(struct import_table *t, struct import_place at, struct view key,
    struct view value)
{
	struct buf *b = &t->file->text;
	char *lower;

	if (!row_good(key, value))
		return false;
	lower = mem_copy(key);
	for (size_t i = 0; lower[i] != '\0'; i++)
		if (lower[i] >= 'A' && lower[i] <= 'Z')
			lower[i] += 'a' - 'A';
	if (!table_claim(t, lower))
		return false;
	if (at.file != NULL && (t->last.file == NULL ||
	    at.line != t->last.line || strcmp(at.file, t->last.file) != 0) &&
	    !buf_printf(b, "# %s:%u\n", at.file, at.line))
		return false;
	at.file = import_name(&t->config->names, at.file);
	t->last = at;
	return buf_printf(b, "%.*s\t%.*s\n", VIEW_ARGS(key),
	    VIEW_ARGS(value));
}

size_t
import_table_rows(const struct import_table *t)
{
	return t->n;
}

const char *
import_table_spec(const struct import_table *t)
{
	return t->spec;
}

/* -- main.cf --------------------------------------------------------------- */

static bool
main_places(const struct import_setting *s, struct buf *out)
{
	size_t i;
	bool ok = true;

	for (i = 0; i < s->n_places && ok; i++) {
		/* lines of one file together */
		if (i > 0 && strcmp(s->places[i].file,
		    s->places[i - 1].file) == 0) {
			ok = s->places[i].line == 0 ||
			    buf_printf(out, ", %u", s->places[i].line);
			continue;
		}
		ok = buf_printf(out, "%s# %s", i > 0 ? "\n" : "",
		    s->places[i].file) && (s->places[i].line == 0 ||
		    buf_printf(out, ":%u", s->places[i].line));
	}
	if (ok && s->more > 0)
		ok = buf_printf(out, " and %zu more", s->more);
	return ok && (s->n_places == 0 || buf_putc(out, '\n'));
}

bool
import_main_cf(const struct import_config *c, const char *title,
    struct buf *out)
{
	const struct import_setting *s;
	struct view rest, item;

	if (!buf_printf(out, "# %s\n# Each setting is behind the lines it "
	    "comes from; what could not be carried\n# over is listed in the "
	    "report beside this file.\n", title))
		return false;
	for (s = c->first; s != NULL; s = s->next) {
		if (s->value == NULL)
			continue;
		if (!buf_putc(out, '\n') || !main_places(s, out) ||
		    !buf_putv(out, buf_view(&s->remark)))
			return false;
		rest = view_of(s->value);
		if (rest.n < 78 - strlen(s->name) || view_has(rest, '{')) {
			if (!buf_printf(out, "%s = %s\n", s->name, s->value))
				return false;
			continue;
		}
		/* a long list: an item on a line */
		if (!buf_printf(out, "%s =", s->name))
			return false;
		while (rest.n > 0) {
			item = view_trim(view_head(rest,
			    view_find(rest, ',')));
			rest = view_from(rest, view_find(rest, ',') + 1);
			if (!buf_printf(out, "\n\t%.*s%s", VIEW_ARGS(item),
			    rest.n > 0 ? "," : ""))
				return false;
		}
		if (!buf_putc(out, '\n'))
			return false;
	}
	return true;
}
