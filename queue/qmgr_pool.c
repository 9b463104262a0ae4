/*
 * The pools of nexthop_pools at work: which servers a delivery is given, what
 * relays say of them, and what an administrator wants.  Who is drained stands
 * in private/pools below queue_directory, one "drain POOL SERVER" in a line;
 * who is down is found out anew after a restart.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/qmgr.h"
#include "queue/sched_pool.h"

#define STATE_FILE	"pools"
#define STATE_NEW	"pools.new"
#define STATE_MAX	(1u << 20)	/* all servers of all pools fit */
#define SHOW_MAX	(2u << 20)

static struct pools *pools;
static int state_dir = -1;

/* -- the file -------------------------------------------------------------- */

static void
state_line(struct view line)
{
	struct view verb = view_word(&line, " "), name = view_word(&line, " ");

	line = view_trim(line);
	/* What is not configured any more is forgotten with the next change. */
	if (view_is(verb, "drain") && pools_drain(pools, name, line, true))
		log_info("pool %s: server %s is drained", log_safe(name),
		    log_safe(line));
}

static void
state_read(void)
{
	int fd = openat(state_dir, STATE_FILE, O_RDONLY | O_NOFOLLOW |
	    O_CLOEXEC);
	struct view rest, line;
	char *text;
	ssize_t n;

	if (fd < 0) {
		if (errno != ENOENT)
			log_warn("private/%s: %s", STATE_FILE,
			    strerror(errno));
		return;
	}
	text = mem_alloc(STATE_MAX);
	n = read(fd, text, STATE_MAX);
	if (n < 0)
		log_warn("private/%s: %s", STATE_FILE, strerror(errno));
	rest = view_make(text, n > 0 ? (size_t)n : 0);
	while (rest.n > 0) {
		line = view_head(rest, view_find(rest, '\n'));
		rest = view_from(rest, line.n + 1);
		state_line(line);
	}
	free(text);
	close(fd);
}

static void
state_put(const struct pool_facts *f, void *arg)
{
	if (f->drained)
		(void)buf_printf(arg, "drain %s %s\n", f->pool, f->hop);
}

/* The old file or the new one, whatever happens.  0 or an error number. */
static int
state_write(void)
{
	struct buf b;
	int fd, rc = 0;

	fd = openat(state_dir, STATE_NEW, O_WRONLY | O_CREAT | O_TRUNC |
	    O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno;
	buf_init(&b, STATE_MAX);
	pools_each(pools, loop_now(), state_put, &b);
	if (write(fd, b.p, b.n) != (ssize_t)b.n)
		rc = errno != 0 ? errno : ENOSPC;
	if (rc == 0 && fsync(fd) != 0)
		rc = errno;
	close(fd);
	buf_free(&b);
	if (rc == 0 && renameat(state_dir, STATE_NEW, state_dir,
	    STATE_FILE) != 0)
		rc = errno;
	if (rc == 0 && fsync(state_dir) != 0)
		rc = errno;
	return rc;
}

void
qpool_load(void)
{
	const struct conf *cf = qmgr.cf;
	char *why = NULL, *path;

	pools = pools_parse(cf->nexthop_pools,
	    cf->nexthop_pool_minimal_backoff,
	    cf->nexthop_pool_maximal_backoff, &why);
	if (pools == NULL)
		fatal("nexthop_pools: %s", why);
	path = mem_printf("%s/private", cf->queue_directory);
	state_dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
	    O_CLOEXEC);
	if (state_dir >= 0)
		state_read();
	else if (cf->nexthop_pools[0] != '\0')
		log_warn("%s: %s", path, strerror(errno));
	free(path);
}

/* -- deliveries ------------------------------------------------------------ */

const char *
qpool_unusable(const struct dest *d)
{
	struct view name;

	if (!pools_name(view_of(dest_nexthop(d)), &name))
		return NULL;
	switch (pools_usable(pools, name)) {
	case POOL_UNKNOWN:
		return "no such pool in nexthop_pools";
	case POOL_DRAINED:
		return "all servers of the pool are drained";
	case POOL_SERVERS:
		break;
	}
	return NULL;
}

void
qpool_put_nexthop(struct buf *b, const struct dest *d)
{
	struct view name, nexthop = view_of(dest_nexthop(d));
	struct buf list;

	buf_init(&list, POOL_LIST_MAX);
	if (pools_name(nexthop, &name) && pools_order(pools, name, loop_now(),
	    &list) == POOL_SERVERS)
		nexthop = buf_view(&list);
	put_view(b, nexthop);
	buf_free(&list);
}

struct heard {
	struct view pool, hop;
};

static void
heard_log(const struct pool_facts *f, void *arg)
{
	const struct heard *h = arg;

	if (!view_is(h->pool, f->pool) || !view_is_nocase(h->hop, f->hop))
		return;
	if (strcmp(f->state, "up") == 0)
		log_info("pool %s: server %s is up", f->pool, f->hop);
	else
		log_warn("pool %s: server %s is down, and tried again in "
		    "%lld s: %s", f->pool, f->hop,
		    (long long)((f->retry_ms + 500) / 1000),
		    log_safe(view_of(f->why)));
}

void
qpool_heard(struct chan *relay, struct chan_in *in)
{
	struct heard h = { .pool = cursor_view(&in->body) };
	struct view why;
	uint8_t news;

	h.hop = cursor_view(&in->body);
	news = cursor_u8(&in->body);
	why = cursor_view(&in->body);
	if (!chan_check(relay, in))
		return;
	if (news < HOP_UP || news > HOP_TROUBLE) {
		chan_blame(relay, "bad news of a server");
		return;
	}
	if (pools_heard(pools, h.pool, h.hop, (enum hop_news)news, why,
	    loop_now()))
		pools_each(pools, loop_now(), heard_log, &h);
}

/* -- reports and orders ---------------------------------------------------- */

static void
pool_show(const struct pool_facts *f, void *arg)
{
	struct buf *b = arg;

	(void)buf_printf(b, "pool %s server %s state=%s%s weight=%u%s "
	    "chosen=%llu", f->pool, f->hop, f->drained ? "drained," : "",
	    f->state, f->weight, f->backup ? " backup" : "",
	    (unsigned long long)f->chosen);
	if (f->retry_ms > 0)
		(void)buf_printf(b, " next=%llds",
		    (long long)(f->retry_ms / 1000));
	if (f->why != NULL)
		(void)buf_printf(b, " error: %s", log_safe(view_of(f->why)));
	(void)buf_puts(b, "\n");
}

void
qpool_status(struct buf *b)
{
	pools_each(pools, loop_now(), pool_show, b);
}

struct summary {
	struct view pool;
	struct buf *out;
};

static void
pool_sum(const struct pool_facts *f, void *arg)
{
	struct summary *s = arg;

	if (view_is(s->pool, f->pool) &&
	    (f->drained || strcmp(f->state, "up") != 0))
		(void)buf_printf(s->out, "%s%s %s", s->out->n > 0 ? ", " : "",
		    f->hop, f->drained ? "drained" : f->state);
}

void
qpool_summary(const char *nexthop, struct buf *out)
{
	struct summary s = { .out = out };

	if (pools_name(view_of(nexthop), &s.pool))
		pools_each(pools, loop_now(), pool_sum, &s);
}

/* NULL, or why not. */
static const char *
pool_order(struct view command, struct buf *lines)
{
	struct view verb = view_word(&command, " ");
	struct view name = view_word(&command, " ");
	bool drain = view_is(verb, "drain");
	int rc;

	command = view_trim(command);
	if (view_is(verb, "show")) {
		qpool_status(lines);
		return NULL;
	}
	if (!drain && !view_is(verb, "ready"))
		return "expected show, drain or ready";
	if (!pools_drain(pools, name, command, drain))
		return "no such server in nexthop_pools";
	log_info("pool %s: server %s is %s", log_safe(name),
	    log_safe(command), drain ? "drained" : "ready");
	rc = state_dir < 0 ? ENOENT : state_write();
	if (rc == 0)
		return NULL;
	log_error("private/%s cannot be written: %s", STATE_FILE,
	    strerror(rc));
	return "done, but not over a restart: see the log";
}

void
qpool_command(struct chan_in *in)
{
	uint32_t tag = cursor_u32(&in->body);
	struct view command = cursor_view(&in->body);
	struct buf lines, *b;
	const char *error;

	if (!chan_check(role_control(), in))
		return;
	buf_init(&lines, SHOW_MAX);
	error = pool_order(command, &lines);
	b = chan_begin(role_control(), MSG_POOL_IS);
	put_u32(b, tag);
	put_view(b, buf_view(&lines));
	put_view(b, view_of(error != NULL ? error : ""));
	chan_end(role_control());
	buf_free(&lines);
	/* Mail that finds a server now need not wait. */
	loop_soon(&qmgr.schedule);
}
