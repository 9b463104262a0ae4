/*
 * A delivery's own process, which starts as root.  Until it has become
 * somebody it opens nothing: it has a text, the fields of the delivery, and
 * the tables that were opened before.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/write_all.h"
#include "queue/local.h"

static bool
agent_read(int fd, struct buf *b)
{
	struct stat st;
	char *to;
	ssize_t k;

	if (fstat(fd, &st) != 0 || (uint64_t)st.st_size > LOCAL_ORDER_MAX)
		return false;
	while (b->n < (size_t)st.st_size) {
		to = buf_room(b, (size_t)st.st_size - b->n);
		k = to == NULL ? -1 : pread(fd, to,
		    (size_t)st.st_size - b->n, (off_t)b->n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		b->n += (size_t)k;
	}
	return true;
}

/* -- what stands above the text --------------------------------------------- */

static void
job_field(struct buf *out, const char *name, struct view addr, bool angle)
{
	(void)buf_printf(out, "%s: %s", name, angle ? "<" : "");
	(void)address_quote(addr, out);
	(void)buf_puts(out, angle ? ">\n" : "\n");
}

void
job_header(const struct job *j, bool delivered_to, struct buf *out)
{
	struct view orig = j->rcpt->orig;

	job_field(out, "Return-Path", j->order->env.sender, true);
	job_field(out, "X-Original-To", orig.n > 0 ? orig : j->rcpt->addr,
	    false);
	if (delivered_to)
		job_field(out, "Delivered-To", j->rcpt->addr, false);
}

/* -- a process within ------------------------------------------------------- */

static void
agent_hear(int fd, struct arena *a, struct fate *ret)
{
	struct cursor c;
	struct buf b;
	ssize_t n;
	char *to;

	buf_init(&b, FATE_BYTES_MAX + 65536);
	while ((to = buf_room(&b, 16384)) != NULL &&
	    ((n = read(fd, to, 16384)) > 0 || (n < 0 && errno == EINTR)))
		if (n > 0)
			b.n += (size_t)n;
	c = cursor_of(arena_copy(a, buf_view(&b)));
	if (!fate_get(&c, a, ret) || !cursor_done(&c))
		fate_set(ret, RCPT_DEFERRED, "4.3.0", "delivery process "
		    "failed");
	buf_free(&b);
}

/* Before it is missed: what is stuck in the system is given up.  Processes
 * within do not inherit it. */
static unsigned agent_seconds;

static void
agent_limit(uint64_t ms)
{
	uint64_t s = ms / 10 * 9 / 1000;

	agent_seconds = s < 1 ? 1 : s > INT32_MAX ? INT32_MAX : (unsigned)s;
	(void)alarm(agent_seconds);
}

void
agent_as(agent_fn *fn, const struct job *j, void *arg, struct arena *a,
    struct fate *ret)
{
	struct fate f = { 0 };
	int pair[2], status;
	struct buf b;
	pid_t pid;

	if (pipe2(pair, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
		fate_errno(ret, "4.3.0", errno, "cannot fork");
		return;
	}
	if (pid == 0) {
		(void)close(pair[0]);
		(void)alarm(agent_seconds);
		fn(j, arg, a, &f);
		buf_init(&b, FATE_BYTES_MAX + 65536);
		if (fate_put(&b, &f))
			(void)write_all(pair[1], buf_view(&b));
		log_flush();
		_exit(0);
	}
	(void)close(pair[1]);
	agent_hear(pair[0], a, ret);
	(void)close(pair[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
}

/* -- one recipient ---------------------------------------------------------- */

/* The local part in lower case, and in it the extension. */
static void
job_split(struct job *j, struct buf *lower)
{
	struct view name = address_local(j->rcpt->addr), ext;
	size_t i;

	buf_clear(lower);
	for (i = 0; i < name.n; i++)
		(void)buf_putc(lower, (char)tolower((unsigned char)
		    name.p[i]));
	name = buf_view(lower);
	/* A name alone is one that may hold an '@'. */
	ext = view_find(name, '@') < name.n ? view_make("", 0) :
	    addr_extension(&local.keys, name);
	j->user = view_head(name, name.n - ext.n);
	j->extension = view_from(ext, 1);
}

static void
agent_recipient(const struct order *o, const struct service *s, uint32_t i,
    struct arena *a, struct fate *f)
{
	struct job j = { .order = o, .rcpt = &o->env.rcpts[o->rcpts[i]] };
	struct buf lower;

	buf_init(&lower, ADDRESS_MAX + 1);
	job_split(&j, &lower);
	if (strcmp(s->command, "virtual") == 0)
		virtual_deliver(&j, f);
	else
		alias_deliver(&j, a, f);
	buf_free(&lower);
}

/* Without a role a delivery is forgotten, and comes again. */
static bool
agent_is_wanted(int report)
{
	struct pollfd p = { .fd = report };

	return poll(&p, 1, 0) == 0;
}

static void
agent_say(const struct order *o, uint32_t i, const struct fate *f,
    int report)
{
	struct buf b;

	buf_init(&b, FATE_BYTES_MAX + 64);
	if (!put_u32(&b, i) || !fate_put(&b, f) ||
	    !write_all(report, buf_view(&b)))
		log_warn("%s: the report of a delivery is lost: it may come "
		    "again", o->id);
	buf_free(&b);
	log_flush();
}

/* All recipients at once. */
static void
agent_pipe(const struct order *o, const struct service *s, int report)
{
	struct fate f = { 0 };
	uint32_t i;

	if (!agent_is_wanted(report))
		return;
	pipe_deliver(o, s, &f);
	for (i = 0; i < o->n; i++)
		agent_say(o, i, &f, report);
}

/* A process of its own for each: one that has become somebody stays that. */
static void
agent_fork(const struct order *o, const struct service *s, uint32_t i,
    struct arena *a, int report)
{
	struct fate f = { 0 };
	int status;
	pid_t pid = o->n > 1 ? fork() : 0;

	if (pid > 0) {
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		return;
	}
	if (pid == 0)
		(void)alarm(agent_seconds);
	if (pid < 0)
		fate_errno(&f, "4.3.0", errno, "cannot fork");
	else
		agent_recipient(o, s, i, a, &f);
	agent_say(o, i, &f, report);
	if (pid == 0)
		_exit(0);
}

static const struct service *
agent_service(struct view transport)
{
	size_t i;

	for (i = 0; i < local.services->n; i++)
		if (view_is(transport, local.services->list[i].name) &&
		    service_is_local(&local.services->list[i]))
			return &local.services->list[i];
	return NULL;
}

void
agent_run(int text, int fields, int report)
{
	struct arena *a = arena_new(ORDER_ARENA);
	const struct service *s;
	struct order o;
	struct buf body;
	uint32_t i;

	log_child(STDERR_FILENO + 2);
	buf_init(&body, LOCAL_ORDER_MAX);
	if (!agent_read(fields, &body) ||
	    !order_read(buf_view(&body), text, a, &o) ||
	    (s = agent_service(o.transport)) == NULL)
		_exit(1);
	agent_limit(o.limit);
	if (strcmp(s->command, "pipe") == 0) {
		agent_pipe(&o, s, report);
		_exit(0);
	}
	for (i = 0; i < o.n && agent_is_wanted(report); i++)
		agent_fork(&o, s, i, a, report);
	_exit(0);
}
