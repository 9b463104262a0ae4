#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "queue/spool_path.h"

/*
 * Directory syncs are shared: a thread whose file is ready waits for a sync
 * that began after that moment, whoever runs it.  So a hundred files that
 * become ready while one sync runs need one more, not a hundred.
 */
struct dir_sync {
	pthread_mutex_t lock;
	pthread_cond_t done;
	uint64_t started, finished;
	bool running;
	int failed;		/* errno of the last one that failed */
	uint64_t failed_at;
};

static struct dir_sync dir_syncs[PLACES] = {
	[PLACE_INCOMING] = { .lock = PTHREAD_MUTEX_INITIALIZER,
		.done = PTHREAD_COND_INITIALIZER },
	[PLACE_ACTIVE] = { .lock = PTHREAD_MUTEX_INITIALIZER,
		.done = PTHREAD_COND_INITIALIZER },
	[PLACE_DEFERRED] = { .lock = PTHREAD_MUTEX_INITIALIZER,
		.done = PTHREAD_COND_INITIALIZER },
	[PLACE_CORRUPT] = { .lock = PTHREAD_MUTEX_INITIALIZER,
		.done = PTHREAD_COND_INITIALIZER },
	[PLACE_HOLD] = { .lock = PTHREAD_MUTEX_INITIALIZER,
		.done = PTHREAD_COND_INITIALIZER },
};

int
spool_sync_fd(int fd)
{
	return fsync(fd) == 0 ? 0 : errno;
}

static int
spool_sync_shared(const struct spool *s, enum spool_place place)
{
	struct dir_sync *d = &dir_syncs[place];
	uint64_t mine, run;
	int rc;

	pthread_mutex_lock(&d->lock);
	mine = d->started + 1;
	while (d->finished < mine) {
		if (d->running) {
			pthread_cond_wait(&d->done, &d->lock);
			continue;
		}
		d->running = true;
		run = ++d->started;
		pthread_mutex_unlock(&d->lock);
		rc = spool_sync_fd(s->dir[place]);
		pthread_mutex_lock(&d->lock);
		d->running = false;
		d->finished = run;
		if (rc != 0) {
			d->failed = rc;
			d->failed_at = run;
		}
		pthread_cond_broadcast(&d->done);
	}
	/* One failure is enough to distrust all that waited for it. */
	rc = d->failed_at >= mine ? d->failed : 0;
	pthread_mutex_unlock(&d->lock);
	return rc;
}

int
spool_sync_dir(const struct spool *s, struct queue_id id,
    enum spool_place place)
{
	char path[SPOOL_PATH];
	int fd, rc;

	if ((s->hashed & 1u << place) == 0)
		return spool_sync_shared(s, place);
	spool_path(s, id, place, path);
	path[1] = '\0';
	fd = openat(s->dir[place], path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	rc = spool_sync_fd(fd);
	close(fd);
	return rc;
}

int
spool_sync_place(const struct spool *s, enum spool_place place)
{
	char name[2] = "?";
	const char *c;
	int fd, rc = 0;

	if ((s->hashed & 1u << place) == 0)
		return spool_sync_fd(s->dir[place]);
	for (c = "0123456789ABCDEF"; rc == 0 && *c != '\0'; c++) {
		name[0] = *c;
		fd = openat(s->dir[place], name,
		    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return errno;
		rc = spool_sync_fd(fd);
		close(fd);
	}
	return rc;
}
