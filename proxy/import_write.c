#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "lib/write_all.h"
#include "proxy/import_config_impl.h"
#include "rules/table.h"

static char *
write_path(const struct import_write *w, const struct import_file *f,
    const char *suffix)
{
	return mem_printf("%s/%s%s", w->dir, f->name, suffix);
}

static bool
path_exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 || errno != ENOENT;
}

/* Without force: is every name free?  All that are not are told. */
static bool
write_free(const struct import_config *c, const struct import_write *w)
{
	bool ok = true;
	char *path;
	size_t i;

	for (i = 0; i < c->n_files; i++) {
		path = write_path(w, c->files[i], "");
		if (path_exists(path)) {
			log_error("%s exists; --force replaces it", path);
			ok = false;
		}
		free(path);
		path = write_path(w, c->files[i], TABLE_INDEX_SUFFIX);
		if (c->files[i]->indexed && path_exists(path)) {
			log_error("%s exists; --force replaces it", path);
			ok = false;
		}
		free(path);
	}
	return ok;
}

/* In whole, then under its name. */
static bool
write_file(const struct import_write *w, struct import_file *f)
{
	char *path = write_path(w, f, ""), *temp = mem_printf(
	    "%s/.%s.%ld", w->dir, f->name, (long)getpid());
	int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
	    O_CLOEXEC, 0600);
	bool had = path_exists(path);
	bool ok = fd >= 0;

	if (ok) {
		ok = write_all(fd, buf_view(&f->text)) &&
		    fchmod(fd, f->mode) == 0 && fsync(fd) == 0;
		if (close(fd) != 0)
			ok = false;
		/* link() never replaces anything */
		if (ok && w->force)
			ok = rename(temp, path) == 0;
		else if (ok)
			ok = link(temp, path) == 0;
	}
	if (!ok)
		log_error("cannot write %s: %s", path, strerror(errno));
	else
		f->written = !had;
	if (fd >= 0)
		(void)unlink(temp);
	free(temp);
	free(path);
	return ok;
}

static void
write_undo(const struct import_config *c, const struct import_write *w)
{
	char *path;
	size_t i;

	for (i = 0; i < c->n_files; i++) {
		if (!c->files[i]->written)
			continue;
		path = write_path(w, c->files[i], "");
		(void)unlink(path);
		free(path);
		if (!c->files[i]->indexed)
			continue;
		path = write_path(w, c->files[i], TABLE_INDEX_SUFFIX);
		(void)unlink(path);
		free(path);
	}
}

/* As postmap would: opened, a table is built when its text is newer. */
static bool
write_build(const struct import_write *w, const struct import_file *f)
{
	char *spec = mem_printf("lmdb:%s/%s", w->dir, f->name);
	struct table *t = table_open(view_of(spec), w->dir, log_report, NULL);
	bool ok = t != NULL;

	table_free(&t);
	free(spec);
	return ok;
}

static bool
write_all_files(struct import_config *c, const struct import_write *w)
{
	int dir;
	size_t i;

	for (i = 0; i < c->n_files; i++)
		if (!write_file(w, c->files[i]))
			return false;
	for (i = 0; i < c->n_files; i++)
		if (c->files[i]->indexed && !write_build(w, c->files[i]))
			return false;
	dir = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fsync(dir) != 0) {
		log_error("%s: %s", w->dir, strerror(errno));
		i = 0;
	}
	if (dir >= 0)
		(void)close(dir);
	return i > 0;
}

static void
write_tell(const struct import_config *c, const struct import_write *w)
{
	char *path;
	size_t i;

	if (!path_exists(w->dir))
		printf("would make the directory %s\n", w->dir);
	for (i = 0; i < c->n_files; i++) {
		path = write_path(w, c->files[i], "");
		printf("would %s %s%s\n", !path_exists(path) ? "write" :
		    w->force ? "replace" : "not touch, and so refuse: there "
		    "is", path, c->files[i]->indexed ? ", and build its index" :
		    "");
		free(path);
	}
}

bool
import_config_write(struct import_config *c, const struct import_write *w)
{
	bool made;

	/* last, so that no main.cf names what is not there */
	if (!import_main_cf(c, w->title, import_file(c, "main.cf", 0644)))
		c->full = true;
	if (c->full) {
		log_error("the new configuration is too large");
		return false;
	}
	if (w->dry_run) {
		write_tell(c, w);
		return true;
	}
	made = mkdir(w->dir, 0755) == 0;
	if (!made && errno != EEXIST) {
		log_error("cannot make %s: %s", w->dir, strerror(errno));
		return false;
	}
	if (!w->force && !write_free(c, w))
		return false;
	if (write_all_files(c, w))
		return true;
	write_undo(c, w);
	if (made)
		(void)rmdir(w->dir);
	return false;
}
