#include <errno.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/master.h"
#include "rules/conf_files.h"
#include "rules/table.h"

#define POLL_MS		1000	/* inotify misses network file systems */
#define SETTLE_MS	300	/* an editor writes more than once */
#define FILES_MAX	1000u
#define BIT(kind)	(1u << (kind))
#define EVENTS	(IN_CLOSE_WRITE | IN_MODIFY | IN_MOVED_TO | IN_CREATE | \
	IN_DELETE | IN_MOVED_FROM | IN_ATTRIB | IN_DELETE_SELF)

/* What tells one state of a file from another. */
struct watch_stamp {
	bool exists;
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

struct watch_file {
	char *path;
	uint32_t roles;		/* WATCH_ALL, bits of roles */
	struct watch_stamp stamp;
	bool index;		/* of a table: only whether it is the same */
	bool changed;
	bool kept;		/* while a new list is made */
};

struct watch {
	struct master *m;
	struct watch_file *list;
	size_t n;
	struct mono changed;	/* when the last change was seen */
	int inotify;		/* -1: none, polling only */
	struct event readable, poll, settle;
};

static struct watch_stamp
watch_stamp(const char *path)
{
	struct watch_stamp s = { 0 };
	struct stat st;

	if (stat(path, &st) != 0)
		return s;
	s.exists = true;
	s.dev = st.st_dev;
	s.ino = st.st_ino;
	s.size = st.st_size;
	s.mtime = st.st_mtim;
	s.ctime = st.st_ctim;
	return s;
}

static bool
watch_same(const struct watch_stamp *a, const struct watch_stamp *b)
{
	return a->exists == b->exists && a->dev == b->dev &&
	    a->ino == b->ino && a->size == b->size &&
	    a->mtime.tv_sec == b->mtime.tv_sec &&
	    a->mtime.tv_nsec == b->mtime.tv_nsec &&
	    a->ctime.tv_sec == b->ctime.tv_sec &&
	    a->ctime.tv_nsec == b->ctime.tv_nsec;
}

/* What is changed inside an index, readers notice without us; another file
 * in its place they do not, and one that was cut off is of no use. */
static bool
watch_same_index(const struct watch_stamp *a, const struct watch_stamp *b)
{
	return a->exists == b->exists && a->dev == b->dev &&
	    a->ino == b->ino && b->size >= a->size;
}

/* Look at every file; true if one has changed since it was read. */
static bool
watch_scan(struct watch *w)
{
	struct watch_stamp s;
	bool any = false;
	size_t i;

	for (i = 0; i < w->n; i++) {
		s = watch_stamp(w->list[i].path);
		if (w->list[i].index && watch_same_index(
		    &w->list[i].stamp, &s)) {
			w->list[i].stamp = s;
		} else if (!watch_same(&s, &w->list[i].stamp)) {
			w->list[i].stamp = s;
			w->list[i].changed = true;
			w->changed = loop_now();
		}
		any = any || w->list[i].changed;
	}
	return any;
}

/*
 * Only a file that has been quiet for a while is read: half a rule file is
 * worse than the old one.  If it is half all the same, the change that
 * completes it brings us here again.
 */
static void
watch_look(struct watch *w)
{
	uint32_t roles = 0;
	int64_t quiet;
	size_t i;

	if (!watch_scan(w) || w->m->stop_stage != STOP_NOT)
		return;
	quiet = mono_since(w->changed, loop_now()) / 1000;
	if (quiet < SETTLE_MS || w->m->turn.active) {
		event_add(&w->settle, loop_timeout(SETTLE_MS));
		return;
	}
	for (i = 0; i < w->n; i++)
		if (w->list[i].changed) {
			roles |= w->list[i].roles;
			w->list[i].changed = false;
			log_info("changed: %s", w->list[i].path);
		}
	turn_ask(w->m, roles);
}

/*
 * Build stale indexes before roles open them, so that they do not all do it,
 * and so that all have the same file open.  Mistakes are theirs to report.
 */
void
watch_build(struct master *m)
{
	struct watch *w = m->watch;
	char *path;
	size_t i;

	for (i = 0; i < w->n; i++) {
		if (!w->list[i].index)
			continue;
		path = mem_copy(view_make(w->list[i].path,
		    strlen(w->list[i].path) - strlen(TABLE_INDEX_SUFFIX)));
		if (table_rebuild(path)) {
			log_info("built: %s", w->list[i].path);
			w->list[i].stamp = watch_stamp(w->list[i].path);
			w->list[i].changed = false;
		}
		free(path);
	}
}

void
watch_accept(struct master *m)
{
	struct watch *w = m->watch;
	size_t i;

	(void)watch_scan(w);
	for (i = 0; i < w->n; i++)
		w->list[i].changed = false;
}

static void
watch_on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct watch *w = arg;

	(void)fd;
	(void)what;
	watch_look(w);
	event_add(&w->poll, loop_timeout(POLL_MS));
}

static void
watch_on_settle(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	watch_look(arg);
}

static void
watch_on_inotify(evutil_socket_t fd, short what, void *arg)
{
	char events[4096] __attribute__((aligned(8)));

	(void)what;
	/* What exactly happened, and whether to one of ours, stat() tells. */
	while (read(fd, events, sizeof events) > 0)
		;
	watch_look(arg);
}

void
watch_init(struct master *m)
{
	struct watch *w = mem_alloc(sizeof *w);

	w->m = m;
	m->watch = w;
	w->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	event_assign(&w->poll, loop_base(), -1, 0, watch_on_poll, w);
	event_assign(&w->settle, loop_base(), -1, 0, watch_on_settle, w);
	event_add(&w->poll, loop_timeout(POLL_MS));
	if (w->inotify < 0)
		return;
	event_assign(&w->readable, loop_base(), w->inotify,
	    EV_READ | EV_PERSIST, watch_on_inotify, w);
	event_add(&w->readable, NULL);
}

static void
watch_directory_of(struct watch *w, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir;

	if (w->inotify < 0 || slash == NULL)
		return;
	/* A directory that is watched already stays so; those of files no
	 * longer in use cost a wakeup now and then. */
	dir = mem_copy(view_make(path, slash == path ? 1 :
	    (size_t)(slash - path)));
	(void)inotify_add_watch(w->inotify, dir, EVENTS);
	free(dir);
}

static void
watch_add(struct watch *w, const char *path, uint32_t roles, bool only_new)
{
	struct watch_file *f;
	size_t i;

	for (i = 0; i < w->n; i++)
		if (strcmp(w->list[i].path, path) == 0)
			break;
	if (i < w->n) {
		f = &w->list[i];
		if (!f->kept)
			f->roles = roles;
		else if (!only_new)
			f->roles |= roles;
		f->kept = true;
		return;
	}
	if (w->n == FILES_MAX) {
		log_warn("more than %u files to watch: changes of %s need "
		    "`postern reload`", FILES_MAX, path);
		return;
	}
	w->list = mem_resize(w->list, w->n + 1, sizeof *w->list);
	w->list[w->n++] = (struct watch_file){ .path = mem_strdup(path),
		.roles = roles, .kept = true, .stamp = watch_stamp(path),
		.index = view_ends_nocase(view_of(path),
		    view_of(TABLE_INDEX_SUFFIX)) };
	watch_directory_of(w, path);
}

static void
watch_each(const char *file, enum role_kind kind, void *arg)
{
	watch_add(arg, file, BIT(kind), false);
}

static void
watch_each_all(const char *file, enum role_kind kind, void *arg)
{
	(void)kind;
	watch_add(arg, file, WATCH_ALL, true);
}

static void
watch_config(struct watch *w, const struct config *c, conf_each_file *each)
{
	size_t i;

	for (i = 0; i < c->n_teams; i++)
		conf_files(c->teams[i].cf, w->m->config_dir,
		    c->teams[i].entry->kind, each, w);
}

void
watch_set(struct master *m, const struct config *now,
    const struct config *more)
{
	static const char *const own[] = { "main.cf", "master.cf" };
	struct watch *w = m->watch;
	char *path;
	size_t i, k;

	for (i = 0; i < w->n; i++)
		w->list[i].kept = false;
	for (i = 0; i < sizeof own / sizeof own[0]; i++) {
		path = mem_printf("%s/%s", m->config_dir, own[i]);
		watch_add(w, path, WATCH_ALL, false);
		free(path);
	}
	watch_config(w, now, watch_each);
	if (more != NULL)
		watch_config(w, more, watch_each_all);
	for (i = k = 0; i < w->n; i++) {
		if (w->list[i].kept)
			w->list[k++] = w->list[i];
		else
			free(w->list[i].path);
	}
	w->n = k;
}
