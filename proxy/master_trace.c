/*
 * Files for traces of TLS sessions (lib/tls_watch.h).  The roles that want them
 * cannot make files, and the limit is one for all of them; so master makes each
 * file and gives its descriptor away.  It neither reads nor writes one.
 *
 * A role that was taken over can have as many files as tls_trace_rate_limit
 * says, in a directory that is root's alone, and chooses no part of their names
 * but an address.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/mem.h"
#include "lib/netaddr.h"
#include "proxy/master.h"

#define DIRECTORY	"tlstrace"	/* below queue_directory */
#define FILES_MAX	1000u		/* with those that are there */
#define UNIQUE		6u
#define DAY_MS		86400000
#define RETRY_MS	60000		/* when none can be made */

/* The unit of time that is counted. */
static struct {
	struct mono since;
	uint64_t n;
	bool begun;
} now;

/* ms until the next may be made; 0: now. */
static int64_t
trace_wait(const struct conf *cf)
{
	struct mono t = clock_mono();
	int64_t ms = mono_since(now.since, t) / 1000;

	if (!now.begun || ms >= cf->anvil_rate_time_unit) {
		now.begun = true;
		now.since = t;
		now.n = 0;
		ms = 0;
	}
	if (cf->tls_trace_rate_limit <= 0 ||
	    now.n < (uint64_t)cf->tls_trace_rate_limit)
		return 0;
	return cf->anvil_rate_time_unit - ms;
}

/* -1 with errno. */
static int
trace_directory(void)
{
	struct stat st;
	int fd;

	(void)mkdir(DIRECTORY, 0700);
	fd = open(DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	/* Nobody else may choose what a name there is. */
	if (fstat(fd, &st) == 0 && st.st_uid == geteuid() &&
	    (st.st_mode & (S_IWGRP | S_IWOTH)) == 0)
		return fd;
	(void)close(fd);
	errno = EPERM;
	return -1;
}

static bool
trace_full(int directory)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	size_t n = 0;

	if (d == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return false;
	}
	while (n < FILES_MAX + 2 && readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n >= FILES_MAX + 2;	/* "." and ".." */
}

static char *
trace_name(const struct instance *i, const struct netaddr *addr)
{
	static const char letters[] = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"
	    "abcdefghijkmnopqrstuvwxyz";
	const struct team *t = config_team(i->m->now, i->kind, i->service);
	struct wall w = clock_wall();
	time_t s = (time_t)(w.us / 1000000);
	unsigned char unique[UNIQUE + 1];
	char text[NETADDR_TEXT], when[32];
	struct tm tm;
	size_t k;

	if (getrandom(unique, UNIQUE, 0) != (ssize_t)UNIQUE)
		fatal("getrandom: %s", strerror(errno));
	for (k = 0; k < UNIQUE; k++)
		unique[k] = (unsigned char)letters[unique[k] %
		    (sizeof letters - 1)];
	unique[UNIQUE] = '\0';
	(void)localtime_r(&s, &tm);
	(void)strftime(when, sizeof when, "%Y%m%d%H%M%S", &tm);
	return mem_printf("%s-%s.%06u-%s-%s", i->kind == ROLE_RELAY &&
	    t != NULL && t->entry->lmtp ? "lmtp" : plan_log_name(i->kind),
	    when, (unsigned)(w.us % 1000000), addr->family != 0 ?
	    netaddr_text(addr, text) : "local", (const char *)unique);
}

/* -1: that was logged. */
static int
trace_open(const char *name)
{
	int directory = trace_directory(), fd = -1;

	if (directory < 0) {
		log_warn("%s: %s", DIRECTORY, strerror(errno));
		return -1;
	}
	if (trace_full(directory))
		log_warn("no TLS trace: there are %u files in %s", FILES_MAX,
		    DIRECTORY);
	else {
		fd = openat(directory, name, O_WRONLY | O_APPEND | O_CREAT |
		    O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0)
			log_warn("%s/%s: %s", DIRECTORY, name,
			    strerror(errno));
	}
	(void)close(directory);
	return fd;
}

void
trace_want(struct instance *i, uint32_t tag, struct view address)
{
	int64_t ms = trace_wait(i->m->now->cf);
	struct netaddr addr = { 0 };
	char *name = NULL, *path;
	struct buf *b;
	int fd = -1;

	if (address.n > 0 && !netaddr_from_bytes(address, &addr)) {
		chan_blame(i->control, "bad address of a trace");
		return;
	}
	if (ms == 0) {
		name = trace_name(i, &addr);
		fd = trace_open(name);
		ms = RETRY_MS;
	}
	b = chan_begin(i->control, fd >= 0 ? MSG_TLS_TRACE_FILE :
	    MSG_TLS_TRACE_NONE);
	(void)put_u32(b, tag);
	if (fd >= 0) {
		now.n++;
		path = mem_printf("%s/%s", DIRECTORY, name);
		(void)put_view(b, view_of(path));
		free(path);
		chan_put_fd(i->control, fd, false);
	} else
		(void)put_u32(b, (uint32_t)(ms < DAY_MS ? ms : DAY_MS));
	chan_end(i->control);
	free(name);
}
