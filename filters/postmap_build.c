#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <unistd.h>

#include "filters/postmap.h"
#include "lib/log.h"
#include "rules/table_update.h"

/* -- who we are ------------------------------------------------------------ */

/*
 * Whoever owns a directory could exchange files in it while root works there:
 * then we work with his rights.  In a directory that anybody may write to we
 * have those of the owner of the text.
 */
static void
become_owner(const struct postmap *pm, const char *path)
{
	const char *slash = strrchr(path, '/');
	struct stat dir, text;
	char *name;

	if (geteuid() != 0 || pm->keep_root || slash == NULL)
		return;
	name = mem_copy(view_make(path, (size_t)(slash - path) + 1));
	if (stat(name, &dir) != 0)
		fatal("open %s: %s", path, strerror(errno));
	free(name);
	if (dir.st_uid == 0 && !table_trusted(&dir) &&
	    stat(path, &text) == 0)
		dir = text;
	if (dir.st_uid == 0)
		return;
	if (setgroups(0, NULL) != 0 || setegid(dir.st_gid) != 0 ||
	    seteuid(dir.st_uid) != 0)
		fatal("cannot become the owner of %s: %s", path,
		    strerror(errno));
}

static void
become_root(const struct postmap *pm)
{
	(void)pm;
	if (getuid() == 0 && geteuid() != 0 &&
	    (seteuid(0) != 0 || setegid(0) != 0))
		fatal("cannot become root again: %s", strerror(errno));
}

/* -- building -------------------------------------------------------------- */

/* Postfix writes "file, line n:"; here a mistake has one form everywhere. */
static void
build_report(bool error, const char *text, void *arg)
{
	(void)error;
	(void)arg;
	log_warn("%s", text);
}

static struct memory_table *
build_read(const struct postmap *pm, const char *path, struct stat *st)
{
	struct table_loader l = { .origin = path, .report = postmap_report };
	struct memory_table *m = memory_new(pm->style.exact);
	struct table_source s = { 0 };

	/* Standard input is not looked at: "postmap f < f" is harmless. */
	if (stat(path, st) != 0)
		fatal("open %s: %s", path, strerror(errno));
	if (!S_ISREG(st->st_mode))
		fatal("open %s: not a regular file", path);
	if (!table_source_file(&s, path, &l))
		fatal("open %s", path);
	l.report = build_report;
	table_read_entries(&s, &l, pm->aliases ? FORMAT_ALIASES : FORMAT_MAP,
	    pm->duplicates, true, m);
	table_source_free(&s);
	return m;
}

static struct memory_table *
build_read_input(const struct postmap *pm)
{
	struct table_loader l = { .origin = "stdin",
	    .report = build_report };
	struct memory_table *m = memory_new(pm->style.exact);
	struct table_source s = { 0 };

	if (!table_source_file(&s, "/dev/stdin", &l))
		fatal("cannot read standard input");
	table_read_entries(&s, &l, pm->aliases ? FORMAT_ALIASES : FORMAT_MAP,
	    pm->duplicates, true, m);
	table_source_free(&s);
	return m;
}

void
postmap_build(const struct postmap *pm, const char *spec)
{
	const char *path = postmap_index(spec);
	struct table_loader l = { .origin = path, .report = postmap_report };
	struct memory_table *m;
	struct stat st;

	if (pm->incremental) {
		/* Read as ourselves: the file may be ours alone. */
		m = build_read_input(pm);
		become_owner(pm, path);
		if (table_update(path, m, &pm->style, pm->duplicates, &l) ==
		    TABLE_NO_INDEX)
			(void)table_build(path, m, &pm->style,
			    stat(path, &st) == 0 ? &st : NULL, &l);
	} else {
		become_owner(pm, path);
		m = build_read(pm, path, &st);
		(void)table_build(path, m, &pm->style, &st, &l);
	}
	memory_release(m);
	become_root(pm);
}

/* -- removing -------------------------------------------------------------- */

struct removal {
	const struct postmap *pm;
	char **specs;
	int n;
	bool found;
};

static void
remove_key(struct view key, void *arg)
{
	struct removal *r = arg;

	for (int i = 0; i < r->n; i++) {
		const char *path = postmap_index(r->specs[i]);
		struct table_loader l = { .origin = path,
		    .report = postmap_report };
		bool found;

		become_owner(r->pm, path);
		if (table_remove(path, key, &r->pm->style, &found, &l) ==
		    TABLE_NO_INDEX)
			fatal("open database %s%s: %s", path,
			    TABLE_INDEX_SUFFIX, strerror(ENOENT));
		r->found = r->found || found;
		become_root(r->pm);
	}
}

bool
postmap_remove(const struct postmap *pm, char **specs, int n)
{
	struct removal r = { pm, specs, n, false };

	if (strcmp(pm->remove, "-") == 0)
		postmap_lines(remove_key, &r);
	else
		remove_key(view_of(pm->remove), &r);
	return r.found;
}
