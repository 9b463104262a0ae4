#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/spool_path.h"

struct spool_walk {
	const struct spool *s;
	enum spool_place place;
	DIR *dir;
	char hash;		/* 0: the top directory, else its name */
	unsigned level;		/* next hash directory; 16: no more */
};

static DIR *
spool_opendir(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d;

	if (fd < 0)
		return NULL;
	d = fdopendir(fd);
	if (d == NULL)
		close(fd);
	return d;
}

struct spool_walk *
spool_walk_new(const struct spool *s, enum spool_place place)
{
	struct spool_walk *w = mem_alloc(sizeof *w);

	w->s = s;
	w->place = place;
	w->dir = spool_opendir(s->dir[place], ".");
	if (w->dir == NULL)
		log_warn("cannot read %s: %s", spool_place_names[place],
		    strerror(errno));
	return w;
}

/* A file left by another setting of hash_queue_names goes to its place. */
static bool
spool_put_right(const struct spool_walk *w, const char *name,
    struct queue_id id)
{
	char is[SPOOL_PATH], should[SPOOL_PATH];

	spool_path(w->s, id, w->place, should);
	if (w->hash != '\0')
		snprintf(is, sizeof is, "%c/%.20s", w->hash, name);
	else
		snprintf(is, sizeof is, "%.20s", name);
	if (strcmp(is, should) == 0 || w->s->read_only)
		return true;
	if (renameat(w->s->dir[w->place], is, w->s->dir[w->place],
	    should) == 0)
		return true;
	log_warn("cannot move %s/%s to %s: %s", spool_place_names[w->place],
	    is, should, strerror(errno));
	return false;
}

bool
spool_walk_next(struct spool_walk *w, unsigned max,
    void (*each)(struct queue_id id, enum spool_place place, void *arg),
    void *arg)
{
	char name[2] = "?";
	struct dirent *e;
	struct queue_id id;

	while (max > 0) {
		if (w->dir == NULL) {
			if (w->level >= 16)
				return false;
			name[0] = w->hash = "0123456789ABCDEF"[w->level++];
			w->dir = spool_opendir(w->s->dir[w->place], name);
			continue;
		}
		e = readdir(w->dir);
		if (e == NULL) {
			closedir(w->dir);
			w->dir = NULL;
			continue;
		}
		if (queue_id_parse(view_of(e->d_name), &id)) {
			if (spool_put_right(w, e->d_name, id))
				each(id, w->place, arg);
			max--;
		} else if (e->d_name[0] != '.' && (strlen(e->d_name) > 1 ||
		    strchr("0123456789ABCDEF", e->d_name[0]) == NULL)) {
			log_warn("not a queue file: %s/%s",
			    spool_place_names[w->place],
			    log_safe(view_of(e->d_name)));
		}
	}
	return true;
}

void
spool_walk_free(struct spool_walk **w)
{
	if (*w == NULL)
		return;
	if ((*w)->dir != NULL)
		closedir((*w)->dir);
	free(*w);
	*w = NULL;
}
