/*
 * Changing main.cf.  Everything that is not asked for stays, byte by byte:
 * comments, order, spacing.  The new text goes to main.cf.tmp, which is also
 * the lock, is synced, and takes the place of the old one in one step; a
 * reader sees the old file or the new one.
 */
#include <sys/file.h>
#include <sys/stat.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/conf_source.h"
#include "proxy/postconf.h"

struct change {
	struct view name;
	struct view value;
	unsigned seen;
};

static bool
change_parse(struct postconf *pc, const char *arg, struct change *ret)
{
	struct view text = view_trim(view_of(arg)), rest, word;
	size_t eq = view_find(text, '=');

	if (text.n > 0 && text.p[0] == '#') {
		postconf_error(pc, "-e, -X and -# accept no comment");
		return false;
	}
	if (view_find(text, '\n') < text.n) {
		postconf_error(pc, "-e, -X and -# accept no newline");
		return false;
	}
	if (pc->edit == POSTCONF_SET && eq == text.n) {
		postconf_error(pc, "missing '=' after attribute name: \"%s\"",
		    arg);
		return false;
	}
	if (pc->edit != POSTCONF_SET && eq < text.n) {
		postconf_error(pc, "-X and -# take names: \"%s\"", arg);
		return false;
	}
	ret->name = rest = view_trim(view_head(text, eq));
	ret->value = view_trim(view_from(text, eq + 1));
	word = view_word(&rest, " \t\r\v\f");
	if (word.n == 0 || word.n != ret->name.n ||
	    ret->name.n > CONF_NAME_MAX || ret->value.n > CONF_LINE_MAX) {
		postconf_error(pc, "bad parameter name or value: \"%.100s\"",
		    arg);
		return false;
	}
	return true;
}

static struct change *
change_find(struct change *list, size_t n, struct view line)
{
	struct view name = view_trim(view_head(line, view_find(line, '=')));
	struct change *found = NULL;
	size_t i;

	for (i = 0; i < n; i++)
		if (view_eq(list[i].name, name))
			found = &list[i];	/* the last one wins */
	return found;
}

static bool
put_change(struct buf *out, const struct change *c)
{
	return buf_printf(out, "%.*s =%s", VIEW_ARGS(c->name),
	    c->value.n > 0 ? " " : "") && buf_putv(out, c->value) &&
	    buf_putc(out, '\n');
}

/* A line of a matched entry; first: the one with its name. */
static bool
put_matched(struct buf *out, enum postconf_edit edit, const struct change *c,
    struct view line, bool first)
{
	if (edit == POSTCONF_COMMENT)
		return buf_putc(out, '#') && buf_putv(out, line) &&
		    buf_putc(out, '\n');
	return edit != POSTCONF_SET || !first || put_change(out, c);
}

static bool
edit_text(struct postconf *pc, struct view text, struct change *list,
    size_t n, struct buf *out)
{
	struct conf_lines in = conf_lines_of(text);
	struct change *c = NULL;
	struct view line;
	bool first, ok = true;
	size_t i;

	while (ok && conf_line_physical(&in, &line)) {
		first = !view_space(line.n > 0 ? line.p[0] : '\n');
		if (!conf_line_blank(line) && first) {
			c = change_find(list, n, line);
			if (c != NULL && ++c->seen == 2)
				postconf_warn(pc, "%s/main.cf: multiple "
				    "entries for \"%.*s\"", pc->dir,
				    VIEW_ARGS(c->name));
		}
		if (conf_line_blank(line) || c == NULL)
			ok = buf_putv(out, line) && buf_putc(out, '\n');
		else
			ok = put_matched(out, pc->edit, c, line, first);
	}
	for (i = 0; ok && pc->edit == POSTCONF_SET && i < n; i++)
		if (list[i].seen == 0 &&
		    change_find(list, n, list[i].name) == &list[i])
			ok = put_change(out, &list[i]);
	return ok;
}

static bool
same_file(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && lstat(path, &b) == 0 &&
	    a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/*
 * The temporary file, locked.  It may be one that a killed postconf left, or
 * one that another is about to rename: then it is not there any more when we
 * get its lock, and we begin again.
 */
static int
open_temporary(const char *path)
{
	int fd, tries;

	for (tries = 0; tries < 100; tries++) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
		    0600);
		if (fd < 0)
			return -1;
		if (flock(fd, LOCK_EX) == 0 && same_file(fd, path))
			return fd;
		(void)close(fd);
	}
	errno = EAGAIN;
	return -1;
}

static bool
write_all(int fd, struct view v)
{
	ssize_t n;

	if (ftruncate(fd, 0) != 0)
		return false;
	while (v.n > 0) {
		n = write(fd, v.p, v.n);
		if (n < 0 && errno != EINTR)
			return false;
		if (n > 0)
			v = view_from(v, (size_t)n);
	}
	return true;
}

static bool
sync_directory(const char *path)
{
	char *dir = mem_strdup(path), *slash = strrchr(dir, '/');
	bool ok;
	int fd;

	if (slash != NULL)
		*slash = '\0';
	fd = open(dir[0] != '\0' ? dir : "/", O_RDONLY | O_DIRECTORY |
	    O_CLOEXEC);
	ok = fd >= 0 && fsync(fd) == 0;
	if (fd >= 0)
		(void)close(fd);
	free(dir);
	return ok;
}

/* As the old file: owner, group and permissions. */
static bool
keep_owner(int fd, const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 &&
	    fchown(fd, st.st_uid, st.st_gid) == 0 &&
	    fchmod(fd, st.st_mode & 07777) == 0;
}

static void
edit_file(struct postconf *pc, const char *path, const char *temp,
    struct change *list)
{
	struct buf old, new;
	const char *what = NULL;
	int fd = open_temporary(temp);

	if (fd < 0) {
		postconf_error(pc, "%s: %s", temp, strerror(errno));
		return;
	}
	buf_init(&old, CONF_READ_MAX);
	buf_init(&new, CONF_FILE_MAX);
	errno = EFBIG;
	if (!conf_read_file(path, &old))
		what = "read";
	else if (!edit_text(pc, buf_view(&old), list, pc->n_args, &new))
		what = "edit";
	else if (!write_all(fd, buf_view(&new)))
		what = "write";
	else if (!keep_owner(fd, path))
		what = "keep owner";
	else if (fsync(fd) != 0)
		what = "sync";
	else if (rename(temp, path) != 0 || !sync_directory(path))
		what = "rename";
	if (what != NULL) {
		postconf_error(pc, "%s %s: %s", what, path, strerror(errno));
		(void)unlink(temp);
	}
	buf_free(&old);
	buf_free(&new);
	(void)close(fd);
}

/* What is wrong with the new file; nothing about what merely is odd. */
static void
report_errors(bool error, const char *text, void *arg)
{
	if (error)
		postconf_warn(arg, "%s", text);
}

void
postconf_change(struct postconf *pc)
{
	struct change *list = mem_array(pc->n_args, sizeof *list);
	char *path = mem_printf("%s/main.cf", pc->dir), *real, *temp;
	struct conf *cf;
	size_t i;

	for (i = 0; i < pc->n_args && !pc->failed; i++)
		(void)change_parse(pc, pc->args[i], &list[i]);
	/* A symbolic link stays one. */
	real = pc->failed ? NULL : realpath(path, NULL);
	if (real == NULL && !pc->failed)
		postconf_error(pc, "open %s: %s", path, strerror(errno));
	if (real != NULL) {
		temp = mem_printf("%s.tmp", real);
		edit_file(pc, real, temp, list);
		free(temp);
	}
	if (!pc->failed) {
		cf = conf_load(pc->dir, report_errors, pc);
		conf_free(&cf);
	}
	free(real);
	free(path);
	free(list);
}
