#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <unistd.h>
#include <xxhash.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/role.h"
#include "queue/pickup.h"

#define NAMES_MAX	1024u		/* waiting to be looked at */
#define RESCAN_MS	60000
#define LATER_MIN_US	INT64_C(5000000)
#define LATER_MAX_US	INT64_C(1000000000)
#define TROUBLE_MAX	4096u		/* names remembered */
#define TROUBLE_PLACES	8192u		/* a power of two */
#define EVENTS_SIZE	65536u
#define WARNINGS_MAX	100u		/* between two looks */
#define WATCHED	(IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_TO | IN_ONLYDIR)

/* A name that was not taken.  round: the scan that saw it last. */
struct trouble {
	uint64_t key;			/* 0: free place */
	int64_t next_us, delay_us;
	uint32_t round;
	bool warned;
};

static struct {
	int fd, notify;
	void (*ready)(void);
	struct event events, rescan, retry;
	char *names[NAMES_MAX];		/* a ring */
	uint32_t first, n;
	char *current;
	DIR *scan;
	bool again;			/* a scan is wanted after this one */
	bool stopped;
	uint64_t seed;
	uint32_t round;
	struct trouble *troubles;
	uint32_t n_troubles;
	bool told_full;
	uint32_t warnings;
} dir = { .fd = -1, .notify = -1 };

/* -- names in trouble ------------------------------------------------------ */

static uint64_t
trouble_key(const char *name)
{
	uint64_t key = XXH3_64bits_withSeed(name, strlen(name), dir.seed);

	return key != 0 ? key : 1;
}

static struct trouble *
trouble_place(uint64_t key)
{
	uint32_t i = (uint32_t)(key & (TROUBLE_PLACES - 1));

	while (dir.troubles[i].key != 0 && dir.troubles[i].key != key)
		i = (i + 1) & (TROUBLE_PLACES - 1);
	return &dir.troubles[i];
}

/* NULL: there are too many. */
static struct trouble *
trouble_get(const char *name)
{
	uint64_t key = trouble_key(name);
	struct trouble *t = trouble_place(key);

	if (t->key == 0) {
		if (dir.n_troubles == TROUBLE_MAX) {
			if (!dir.told_full)
				log_warn("maildrop: over %u files that cannot "
				    "be taken; the others are not named",
				    TROUBLE_MAX);
			dir.told_full = true;
			return NULL;
		}
		*t = (struct trouble){ .key = key };
		dir.n_troubles++;
	}
	t->round = dir.round;
	return t;
}

/* Forget the names that a whole scan has not seen. */
static void
trouble_sweep(void)
{
	struct trouble *old = dir.troubles;
	uint32_t i;

	dir.troubles = mem_array(TROUBLE_PLACES, sizeof *dir.troubles);
	dir.n_troubles = 0;
	for (i = 0; i < TROUBLE_PLACES; i++)
		if (old[i].key != 0 && old[i].round == dir.round) {
			*trouble_place(old[i].key) = old[i];
			dir.n_troubles++;
		}
	dir.told_full = dir.n_troubles == TROUBLE_MAX;
	free(old);
}

void
dir_later(const char *name)
{
	struct trouble *t = trouble_get(name);

	if (t == NULL)
		return;
	t->delay_us = t->delay_us == 0 ? LATER_MIN_US :
	    t->delay_us * 2 > LATER_MAX_US ? LATER_MAX_US : t->delay_us * 2;
	t->next_us = clock_mono().us + t->delay_us;
	if (!event_pending(&dir.retry, EV_TIMEOUT, NULL))
		event_add(&dir.retry, loop_timeout(t->delay_us / 1000 + 1));
}

void
dir_never(const char *name)
{
	struct trouble *t = trouble_get(name);

	if (t != NULL)
		t->next_us = INT64_MAX;
}

void
dir_warn(const char *name, uid_t uid, const char *why)
{
	struct trouble *t = trouble_get(name);

	if (t == NULL || t->warned)
		return;
	t->warned = true;
	/* Whoever makes ever new ones shall not fill the log. */
	if (++dir.warnings == WARNINGS_MAX + 1)
		log_warn("maildrop: many files that cannot be taken; the "
		    "others are not named for a while");
	if (dir.warnings > WARNINGS_MAX)
		return;
	log_warn("maildrop/%s: uid=%u: %s", log_safe(view_of(name)),
	    (unsigned)uid, why);
}

void
dir_forget(const char *name)
{
	struct trouble *t = trouble_place(trouble_key(name));

	/* The place stays, so that others are found; a sweep frees it. */
	if (t->key != 0) {
		t->next_us = t->delay_us = 0;
		t->warned = false;
	}
}

static bool
dir_too_early(const char *name)
{
	struct trouble *t = trouble_place(trouble_key(name));

	if (t->key == 0)
		return false;
	t->round = dir.round;
	return t->next_us > clock_mono().us;
}

/* -- names ----------------------------------------------------------------- */

static bool
names_add(const char *name)
{
	if (dir.n == NAMES_MAX)
		return false;
	dir.names[(dir.first + dir.n++) % NAMES_MAX] = mem_strdup(name);
	return true;
}

/* Go on with the scan while there is room. */
static void
scan_go_on(void)
{
	struct dirent *d;

	while (dir.scan != NULL && dir.n < NAMES_MAX) {
		d = readdir(dir.scan);
		if (d != NULL) {
			if (strcmp(d->d_name, ".") != 0 &&
			    strcmp(d->d_name, "..") != 0 &&
			    !dir_too_early(d->d_name))
				(void)names_add(d->d_name);
			continue;
		}
		(void)closedir(dir.scan);
		dir.scan = NULL;
		trouble_sweep();
		if (dir.again)
			dir_rescan();
	}
}

void
dir_rescan(void)
{
	int fd;

	if (dir.stopped)
		return;
	dir.again = dir.scan != NULL;
	if (dir.again)
		return;
	fd = openat(dir.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir.scan = fd >= 0 ? fdopendir(fd) : NULL;
	if (dir.scan == NULL) {
		log_error("cannot read maildrop: %s", strerror(errno));
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	dir.round++;
	scan_go_on();
}

const char *
dir_next(void)
{
	free(dir.current);
	dir.current = NULL;
	if (dir.stopped)
		return NULL;
	if (dir.n == 0)
		scan_go_on();
	if (dir.n == 0)
		return NULL;
	dir.current = dir.names[dir.first];
	dir.first = (dir.first + 1) % NAMES_MAX;
	dir.n--;
	return dir.current;
}

/* -- what tells of new ones ------------------------------------------------ */

static void
dir_on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	dir_rescan();
	if (arg == &dir.rescan) {
		event_add(&dir.rescan, loop_timeout(RESCAN_MS));
		dir.warnings = 0;
	}
	dir.ready();
}

static void
dir_on_event(const struct inotify_event *e)
{
	if ((e->mask & IN_IGNORED) != 0) {
		/* A new process watches the directory that is there now. */
		log_warn("maildrop was removed");
		role_exit();
	}
	if ((e->mask & IN_Q_OVERFLOW) != 0)
		dir_rescan();
	else if (e->len > 0 && !dir_too_early(e->name) && !names_add(e->name))
		dir.again = true;
}

static void
dir_on_notify(evutil_socket_t fd, short what, void *arg)
{
	static char bytes[EVENTS_SIZE]
	    __attribute__((aligned(__alignof__(struct inotify_event))));
	struct inotify_event e;
	const char *p;
	ssize_t n;

	(void)what;
	(void)arg;
	while ((n = read(fd, bytes, sizeof bytes)) > 0)
		for (p = bytes; p < bytes + n; p += sizeof e + e.len) {
			memcpy(&e, p, sizeof e);
			dir_on_event((const void *)p);
		}
	if (dir.again && dir.scan == NULL)
		dir_rescan();
	dir.ready();
}

void
dir_load(const struct conf *cf)
{
	char *path = mem_printf("%s/maildrop", cf->queue_directory);

	dir.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir.fd < 0)
		fatal("cannot open %s: %s", path, strerror(errno));
	dir.notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (dir.notify < 0 ||
	    inotify_add_watch(dir.notify, path, WATCHED) < 0)
		/* Without it mail waits for the next look, a minute at most. */
		log_warn("cannot watch %s: %s", path, strerror(errno));
	if (getrandom(&dir.seed, sizeof dir.seed, 0) != sizeof dir.seed)
		fatal("getrandom: %s", strerror(errno));
	dir.troubles = mem_array(TROUBLE_PLACES, sizeof *dir.troubles);
	free(path);
}

bool
dir_lock(void)
{
	return flock(dir.fd, LOCK_EX | LOCK_NB) == 0;
}

void
dir_start(void (*ready)(void))
{
	dir.ready = ready;
	event_assign(&dir.events, loop_base(), dir.notify,
	    EV_READ | EV_PERSIST, dir_on_notify, NULL);
	if (dir.notify >= 0)
		event_add(&dir.events, NULL);
	evtimer_assign(&dir.retry, loop_base(), dir_on_timer, &dir.retry);
	evtimer_assign(&dir.rescan, loop_base(), dir_on_timer, &dir.rescan);
	event_add(&dir.rescan, loop_timeout(RESCAN_MS));
}

void
dir_stop(void)
{
	dir.stopped = true;
}

int
dir_fd(void)
{
	return dir.fd;
}
