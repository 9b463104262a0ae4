#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rules/table_impl.h"

void
table_complain(struct table_loader *l, unsigned line, bool error,
    const char *fmt, ...)
{
	struct buf b;
	va_list ap;

	buf_init(&b, 4096);
	buf_puts(&b, l->origin);
	if (line > 0)
		buf_printf(&b, ":%u", line);
	buf_puts(&b, ": ");
	va_start(ap, fmt);
	if (!buf_vprintf(&b, fmt, ap))
		buf_puts(&b, "a mistake that is too long to show");
	va_end(ap);
	if (error)
		l->errors++;
	if (l->report != NULL)
		l->report(error, buf_cstr(&b), l->arg);
	buf_free(&b);
}

/* -- reading ------------------------------------------------------------- */

static bool
source_read(struct buf *text, int fd)
{
	for (;;) {
		char *room = buf_room(text, 65536);
		ssize_t n;

		if (room == NULL) {
			errno = EFBIG;
			return false;
		}
		n = read(fd, room, 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0;
		text->n += (size_t)n;
	}
}

static bool
source_ready(struct table_source *s, struct table_loader *l)
{
	const char *nul;

	s->rest = buf_view(&s->text);
	nul = s->rest.n > 0 ? memchr(s->rest.p, '\0', s->rest.n) : NULL;
	if (nul != NULL) {
		unsigned line = 1;

		for (const char *p = s->rest.p; p < nul; p++)
			line += *p == '\n';
		table_complain(l, line, true, "there is a NUL byte");
	}
	return nul == NULL;
}

static void
source_init(struct table_source *s)
{
	s->rest = (struct view){ NULL, 0 };
	s->line = 0;
	/* One piece more, so that reading notices the end. */
	buf_init(&s->text, TABLE_FILE_MAX + 65536);
	buf_init(&s->logical, TABLE_LINE_MAX);
}

bool
table_source_file(struct table_source *s, const char *path,
    struct table_loader *l)
{
	struct stat st;
	bool ok = false;
	int fd;

	source_init(s);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd >= 0) {
		if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
		    st.st_size > 0 && st.st_size <= TABLE_FILE_MAX)
			buf_room(&s->text, (size_t)st.st_size + 65536);
		ok = source_read(&s->text, fd);
	}
	if (!ok) {
		int why = errno;

		table_complain(l, 0, true, "%s", strerror(why));
	}
	if (fd >= 0)
		close(fd);
	return ok && source_ready(s, l);
}

bool
table_source_inline(struct table_source *s, struct view spec,
    struct table_loader *l)
{
	struct view inside, word;
	bool group, bad = false, ok = true;

	source_init(s);
	if (spec.n < 2 || table_braces(spec) != spec.n) {
		table_complain(l, 0, true,
		    "braces do not balance; need {{rule} {rule}}");
		return false;
	}
	inside = view_head(view_from(spec, 1), spec.n - 2);
	while (ok && table_inline_word(&inside, &word, &group, &bad)) {
		if (!group) {
			table_complain(l, 0, true,
			    "each rule in the table needs braces: %.*s",
			    VIEW_ARGS(view_head(word, 100)));
			return false;
		}
		ok = buf_putv(&s->text, word) && buf_putc(&s->text, '\n');
	}
	if (bad || !ok) {
		table_complain(l, 0, true, bad ? "braces do not balance" :
		    "the table is too large");
		return false;
	}
	return source_ready(s, l);
}

void
table_source_free(struct table_source *s)
{
	buf_free(&s->text);
	buf_free(&s->logical);
	s->rest = (struct view){ NULL, 0 };
}

/* -- logical lines ------------------------------------------------------- */

static struct view
rtrim(struct view v)
{
	while (v.n > 0 && view_space(v.p[v.n - 1]))
		v.n--;
	return v;
}

/* The next physical line without its newline; not moved past it yet. */
static struct view
physical_line(const struct table_source *s)
{
	return view_head(s->rest, view_find(s->rest, '\n'));
}

static void
physical_skip(struct table_source *s, struct view line)
{
	s->rest = view_from(s->rest, line.n + 1);
	s->line++;
}

/* As table_source_next(), but a line that is too long comes back cut. */
static bool
logical_line(struct table_source *s, struct table_loader *l,
    unsigned *ret_first, bool *ret_too_long)
{
	unsigned first = 0;

	buf_clear(&s->logical);
	*ret_too_long = false;
	while (s->rest.n > 0) {
		struct view line = physical_line(s), text = view_trim(line);

		if (text.n == 0 || text.p[0] == '#') {
			physical_skip(s, line);
			if (text.n > 0 && s->comment != NULL)
				s->comment(view_from(text, 1), s->line,
				    s->comment_arg);
			continue;
		}
		if (first != 0 && !view_space(line.p[0]))
			break;
		physical_skip(s, line);
		if (first == 0 && view_space(line.p[0])) {
			table_complain(l, s->line, true, "a logical line "
			    "must not start with white space");
			continue;
		}
		if (first == 0)
			first = s->line;
		if (!buf_putv(&s->logical, line))
			*ret_too_long = true;
	}
	*ret_first = first;
	return first != 0;
}

bool
table_source_next(struct table_source *s, struct table_loader *l,
    struct view *ret, unsigned *ret_line)
{
	unsigned first;
	bool too_long;

	while (logical_line(s, l, &first, &too_long)) {
		if (too_long) {
			table_complain(l, first, true, "the line is longer "
			    "than %u bytes", TABLE_LINE_MAX);
			continue;
		}
		*ret = rtrim(buf_view(&s->logical));
		*ret_line = first;
		return true;
	}
	return false;
}

/* -- words --------------------------------------------------------------- */

bool
table_keyword(struct view *rest, const char *word)
{
	struct view after;

	if (!view_starts_nocase(*rest, word))
		return false;
	after = view_from(*rest, strlen(word));
	if (after.n > 0 && isalnum((unsigned char)after.p[0]))
		return false;
	while (after.n > 0 && view_space(after.p[0]))
		after = view_from(after, 1);
	*rest = after;
	return true;
}

bool
table_negation(struct view *rest)
{
	bool negate = false;

	for (; rest->n > 0; *rest = view_from(*rest, 1)) {
		if (rest->p[0] == '!')
			negate = !negate;
		else if (!view_space(rest->p[0]))
			break;
	}
	return negate;
}

size_t
table_braces(struct view text)
{
	size_t depth = 0;

	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] == '{')
			depth++;
		else if (text.p[i] == '}' && depth > 0 && --depth == 0)
			return i + 1;
		if (depth == 0)
			return 0;
	}
	return 0;
}

bool
table_inline_word(struct view *rest, struct view *ret, bool *ret_group,
    bool *ret_bad)
{
	while (rest->n > 0 && (rest->p[0] == ',' || view_space(rest->p[0])))
		*rest = view_from(*rest, 1);
	if (rest->n == 0)
		return false;
	*ret_group = rest->p[0] == '{';
	if (*ret_group) {
		size_t n = table_braces(*rest);

		if (n == 0) {
			*ret_bad = true;
			return false;
		}
		*ret = view_trim(view_head(view_from(*rest, 1), n - 2));
		*rest = view_from(*rest, n);
		if (rest->n > 0 && rest->p[0] != ',' &&
		    !view_space(rest->p[0])) {
			*ret_bad = true;
			return false;
		}
		return true;
	}
	*ret = view_word(rest, ", \t\r\n\v\f");
	return true;
}

/* -- if and endif -------------------------------------------------------- */

bool
table_block_open(struct table_blocks *b, size_t rule, unsigned line,
    struct table_loader *l)
{
	if (b->depth == TABLE_NESTING_MAX) {
		table_complain(l, line, true, "if is nested over %u deep",
		    TABLE_NESTING_MAX);
		return false;
	}
	b->rule[b->depth] = rule;
	b->line[b->depth++] = line;
	return true;
}

bool
table_block_close(struct table_blocks *b, struct view after, unsigned line,
    struct table_loader *l, size_t *ret_rule)
{
	if (after.n > 0)
		table_complain(l, line, true, "text after endif (lines "
		    "between if and endif must not start with white space)");
	if (b->depth == 0) {
		table_complain(l, line, true, "endif without if");
		return false;
	}
	*ret_rule = b->rule[--b->depth];
	return true;
}

void
table_blocks_end(const struct table_blocks *b, struct table_loader *l)
{
	for (unsigned i = 0; i < b->depth; i++)
		table_complain(l, b->line[i], true, "if without endif");
}
