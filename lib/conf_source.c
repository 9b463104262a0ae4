#include <sys/stat.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/conf_source.h"
#include "lib/log.h"

#define ERRORS_SHOWN	50
#define READ_SIZE	16384

void
conf_tell(struct conf_reporter *r, bool error, unsigned line,
    const char *fmt, ...)
{
	struct buf b;
	va_list ap;
	size_t i;

	if (error)
		r->errors++;
	if (r->report == NULL || (error && r->errors > ERRORS_SHOWN))
		return;
	buf_init(&b, CONF_LOGICAL_MAX + 4096);
	if (line > 0)
		(void)buf_printf(&b, "%s:%u: ", r->origin, line);
	else
		(void)buf_printf(&b, "%s: ", r->origin);
	va_start(ap, fmt);
	(void)buf_vprintf(&b, fmt, ap);
	va_end(ap);
	/* The file may hold anything; a terminal shows only this. */
	for (i = 0; i < b.n; i++)
		if ((unsigned char)b.p[i] < ' ' || b.p[i] == 0x7f)
			b.p[i] = b.p[i] == '\t' ? ' ' : '?';
	r->report(error, buf_cstr(&b), r->arg);
	buf_free(&b);
}

bool
conf_read_file(const char *path, struct buf *out)
{
	struct stat st;
	char *to;
	ssize_t n = -1;
	int fd, saved;

	/* Nonblocking, so that a FIFO in the file's place cannot stop us. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return false;
	if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
		(void)close(fd);
		errno = EINVAL;
		return false;
	}
	while ((to = buf_room(out, READ_SIZE)) != NULL) {
		n = read(fd, to, READ_SIZE);
		if (n > 0)
			out->n += (size_t)n;
		else if (n == 0 || errno != EINTR)
			break;
	}
	saved = to == NULL || out->n > CONF_FILE_MAX ? EFBIG : errno;
	(void)close(fd);
	errno = saved;
	return n == 0 && out->n <= CONF_FILE_MAX;
}

struct conf_source *
conf_source_new(const char *origin)
{
	struct conf_source *src = mem_alloc(sizeof *src);

	src->arena = arena_new(CONF_MEMORY_MAX);
	src->origin = arena_copy(src->arena, view_of(origin)).p;
	src->n_slots = 128;
	src->slots = mem_array(src->n_slots, sizeof *src->slots);
	src->defaults = mem_array(conf_params_count, sizeof *src->defaults);
	return src;
}

void
conf_source_free(struct conf_source **src)
{
	if (*src == NULL)
		return;
	free((*src)->list);
	free((*src)->slots);
	free((*src)->defaults);
	free((*src)->interned);
	arena_free(&(*src)->arena);
	free(*src);
	*src = NULL;
}

/* FNV-1a; the names are the administrator's, so no secret is needed. */
static unsigned
name_hash(struct view name)
{
	uint32_t h = 2166136261u;
	size_t i;

	for (i = 0; i < name.n; i++)
		h = (h ^ (unsigned char)name.p[i]) * 16777619u;
	return h;
}

/* The slot that holds name, or the empty one where it would go. */
static size_t
source_slot(const struct conf_source *src, struct view name, unsigned hash)
{
	size_t i = hash & (src->n_slots - 1);
	const struct conf_setting *s;

	while (src->slots[i] != 0) {
		s = &src->list[src->slots[i] - 1];
		if (s->hash == hash && view_eq(s->name, name))
			break;
		i = (i + 1) & (src->n_slots - 1);
	}
	return i;
}

struct conf_setting *
conf_source_find(const struct conf_source *src, struct view name)
{
	size_t i = source_slot(src, name, name_hash(name));

	return src->slots[i] != 0 ? &src->list[src->slots[i] - 1] : NULL;
}

static void
source_grow(struct conf_source *src)
{
	size_t i;

	src->n_slots *= 2;
	free(src->slots);
	src->slots = mem_array(src->n_slots, sizeof *src->slots);
	for (i = 0; i < src->n; i++)
		src->slots[source_slot(src, src->list[i].name,
		    src->list[i].hash)] = (uint32_t)i + 1;
}

struct conf_setting *
conf_source_set(struct conf_source *src, struct view name, struct view value,
    unsigned line)
{
	struct conf_setting *s = conf_source_find(src, name);

	if (s == NULL) {
		if (src->n >= CONF_SETTINGS_MAX)
			return NULL;
		if (src->n == src->cap) {
			src->cap = src->cap == 0 ? 64 : src->cap * 2;
			src->list = mem_resize(src->list, src->cap,
			    sizeof *src->list);
		}
		s = &src->list[src->n++];
		*s = (struct conf_setting){ .name = arena_copy(src->arena,
		    name), .hash = name_hash(name) };
		if (src->n * 2 > src->n_slots)
			source_grow(src);
		else
			src->slots[source_slot(src, s->name, s->hash)] =
			    (uint32_t)src->n;
	}
	s->value = arena_copy(src->arena, value);
	s->text = NULL;
	s->line = line;
	s->computed = s->override = false;
	return s;
}

bool
conf_source_value(const struct conf_source *src, struct view name,
    struct view *ret, unsigned *ret_line)
{
	const struct conf_setting *s = conf_source_find(src, name);
	const struct conf_param *p;

	if (s != NULL) {
		*ret = s->value;
		*ret_line = s->line;
		return true;
	}
	p = conf_param_find(name);
	if (p == NULL)
		return false;
	*ret = view_of(p->def);
	*ret_line = 0;
	return true;
}

static void
source_line(struct conf_source *src, struct view text, unsigned line,
    struct conf_reporter *r)
{
	size_t eq = view_find(text, '=');
	struct view name = view_trim(view_head(text, eq));
	struct view value = view_trim(view_from(text, eq + 1));
	struct view rest = name, word = view_word(&rest, " \t\r\v\f");
	struct conf_setting *old;

	if (eq == text.n || word.n != name.n) {
		conf_tell(r, true, line, "missing '=' after attribute name: "
		    "\"%.*s\"", VIEW_ARGS(view_head(view_trim(text), 100)));
		return;
	}
	if (name.n == 0) {
		conf_tell(r, true, line, "missing attribute name: \"%.*s\"",
		    VIEW_ARGS(view_head(text, 100)));
		return;
	}
	if (name.n > CONF_NAME_MAX || value.n > CONF_LINE_MAX) {
		conf_tell(r, true, line, "%.*s: too long (name %d, value %d "
		    "bytes at most)", VIEW_ARGS(view_head(name, 100)),
		    CONF_NAME_MAX, CONF_LINE_MAX);
		return;
	}
	old = conf_source_find(src, name);
	if (old != NULL && old->line > 0)
		conf_tell(r, false, line, "overriding earlier entry: "
		    "%.*s=%.*s (line %u)", VIEW_ARGS(name),
		    VIEW_ARGS(view_head(old->value, 200)), old->line);
	if (conf_source_set(src, name, value, line) == NULL)
		conf_tell(r, true, line, "more than %d parameters",
		    CONF_SETTINGS_MAX);
}

void
conf_source_read(struct conf_source *src, struct view text,
    struct conf_reporter *r)
{
	struct conf_lines in = conf_lines_of(text);
	enum conf_line kind;
	struct buf b;
	unsigned line = 0;

	buf_init(&b, CONF_LOGICAL_MAX);
	while ((kind = conf_line_next(&in, &b, &line)) != CONF_LINE_NONE) {
		switch (kind) {
		case CONF_LINE_TEXT:
			source_line(src, buf_view(&b), line, r);
			break;
		case CONF_LINE_ORPHAN:
			conf_tell(r, false, line, "logical line must not "
			    "start with whitespace: \"%.*s\"",
			    VIEW_ARGS(view_head(buf_view(&b), 100)));
			break;
		case CONF_LINE_LONG:
			conf_tell(r, true, line, "line over %d bytes",
			    CONF_LINE_MAX);
			break;
		case CONF_LINE_NUL:
			conf_tell(r, true, line, "line with a NUL byte");
			break;
		case CONF_LINE_NONE:
			break;
		}
	}
	buf_free(&b);
}
