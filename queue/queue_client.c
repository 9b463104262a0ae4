#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/queue_client.h"

#define DEFAULT_CONFIG	"/etc/postern"
#define READ_SIZE	262144u

struct queue_client {
	int fd;
	struct buf out, in;
	size_t at, used;	/* of in: the next frame, its bytes */
	size_t request;
	int passed;		/* descriptor that came; -1 */
};

void
queue_fatal(int status, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	(void)fflush(stdout);
	fprintf(stderr, "%s: fatal: %s\n", program_invocation_short_name,
	    text);
	exit(status);
}

static void
conf_silent(bool error, const char *text, void *arg)
{
	if (error)
		(void)buf_printf(arg, "%s; ", text);
}

struct conf *
queue_conf(const char *option)
{
	const char *dir = option;
	struct conf *cf;
	struct buf why;
	char *full;

	/* Nobody but root may point a command elsewhere by its environment;
	 * but no command of ours has more rights than its caller. */
	if (dir == NULL || dir[0] == '\0')
		dir = getenv("MAIL_CONFIG");
	if (dir == NULL || dir[0] == '\0')
		dir = DEFAULT_CONFIG;
	full = realpath(dir, NULL);
	if (full == NULL)
		queue_fatal(EXIT_SYSTEM, "configuration directory %s: %s", dir,
		    strerror(errno));
	buf_init(&why, 4096);
	cf = conf_load(full, conf_silent, &why);
	if (cf == NULL)
		queue_fatal(EXIT_SYSTEM, "%s", buf_cstr(&why));
	free(full);
	buf_free(&why);
	return cf;
}

struct queue_client *
queue_connect(const struct conf *cf)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX,
		.sun_path = REQUEST_SOCKET };
	int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), saved;
	struct queue_client *c;

	if (fd < 0)
		queue_fatal(EXIT_SYSTEM, "socket: %s", strerror(errno));
	/* A socket's path is short, a queue directory's may be long. */
	if (chdir(cf->queue_directory) != 0 ||
	    connect(fd, (struct sockaddr *)&un, sizeof un) != 0) {
		saved = errno;
		close(fd);
		fd = -1;
		errno = saved;
	}
	saved = errno;
	if (here >= 0) {
		(void)!fchdir(here);
		close(here);
	}
	errno = saved;
	if (fd < 0)
		return NULL;
	c = mem_alloc(sizeof *c);
	c->fd = fd;
	c->passed = -1;
	buf_init(&c->out, REQUEST_MAX + FRAME_HEAD);
	buf_init(&c->in, REPLY_MAX + READ_SIZE + 64u);
	return c;
}

void
queue_disconnect(struct queue_client **cp)
{
	struct queue_client *c = *cp;

	*cp = NULL;
	if (c == NULL)
		return;
	close(c->fd);
	if (c->passed >= 0)
		close(c->passed);
	buf_free(&c->out);
	buf_free(&c->in);
	free(c);
}

struct buf *
queue_request(struct queue_client *c, enum request_type type)
{
	buf_clear(&c->out);
	(void)frame_begin(&c->out, (uint8_t)type, &c->request);
	return &c->out;
}

void
queue_send(struct queue_client *c)
{
	struct view v;
	ssize_t n;

	frame_end(&c->out, c->request);
	for (v = buf_view(&c->out); v.n > 0; v = view_from(v, (size_t)n)) {
		n = send(c->fd, v.p, v.n, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			n = 0;
		if (n < 0)
			return;		/* the reply will be missing */
	}
}

/* More input, and the descriptor that may come with it. */
static bool
client_read(struct queue_client *c)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char *to = buf_room(&c->in, READ_SIZE);
	struct iovec iov = { to, READ_SIZE };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof control.bytes };
	struct cmsghdr *h;
	ssize_t n;

	if (to == NULL)
		return false;
	do
		n = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return false;
	c->in.n += (size_t)n;
	h = CMSG_FIRSTHDR(&msg);
	if (h != NULL && h->cmsg_level == SOL_SOCKET &&
	    h->cmsg_type == SCM_RIGHTS &&
	    h->cmsg_len == CMSG_LEN(sizeof(int))) {
		if (c->passed >= 0)
			close(c->passed);
		memcpy(&c->passed, CMSG_DATA(h), sizeof c->passed);
	}
	return true;
}

enum reply_type
queue_reply(struct queue_client *c, struct cursor *ret, int *ret_fd)
{
	struct view in;
	uint8_t type = REPLY_NONE;
	size_t n;
	bool bad;

	c->at += c->used;
	c->used = 0;
	for (;;) {
		in = view_from(buf_view(&c->in), c->at);
		n = frame_get(in, REPLY_MAX, &type, ret, &bad);
		if (n > 0)
			break;
		/* Seldom: so that what is moved is less than what is read. */
		buf_consume(&c->in, c->at);
		c->at = 0;
		if (bad || !client_read(c))
			return REPLY_NONE;
	}
	c->used = n;
	if (type == REPLY_OPENED && ret_fd != NULL) {
		*ret_fd = c->passed;
		c->passed = -1;
	}
	return type < REPLY_TYPES ? (enum reply_type)type : REPLY_NONE;
}

enum reply_status
queue_end(struct cursor *end, struct view *ret_text)
{
	uint8_t status = cursor_u8(end);

	*ret_text = cursor_view(end);
	return cursor_done(end) && status >= REPLY_OK &&
	    status <= REPLY_FAILED ? (enum reply_status)status : REPLY_FAILED;
}

static enum reply_status
client_finish(struct cursor *end, const char **ret_error)
{
	static char text[1100];
	struct view v;
	enum reply_status s = queue_end(end, &v);

	snprintf(text, sizeof text, "%s", log_safe(v));
	*ret_error = text;
	return s;
}

enum reply_status
queue_list(struct queue_client *c, const struct queue_match *m,
    queue_each *each, void *arg, const char **ret_error)
{
	struct queue_entry e;
	enum reply_type type;
	struct arena *a;
	struct cursor r;

	(void)match_put(queue_request(c, REQUEST_LIST), m);
	queue_send(c);
	while ((type = queue_reply(c, &r, NULL)) == REPLY_ENTRY) {
		if (!queue_entry_get(&r, &e) || !cursor_done(&r))
			continue;
		a = arena_new(queue_entry_room(&e));
		if (queue_entry_decode(&e, a))
			each(&e, arg);
		arena_free(&a);
	}
	if (type == REPLY_END)
		return client_finish(&r, ret_error);
	*ret_error = "lost connection with the queue lister";
	return REPLY_FAILED;
}

enum reply_status
queue_order(struct queue_client *c, enum queue_op op,
    const struct queue_id *id, uint32_t n, uint8_t *result,
    const char **ret_error)
{
	enum reply_type type;
	struct cursor r;
	struct buf *b;
	uint32_t i, k;

	memset(result, QUEUE_FAILED, n);
	b = queue_request(c, REQUEST_OP);
	(void)put_u8(b, (uint8_t)op);
	(void)put_u32(b, n);
	for (i = 0; i < n; i++)
		(void)put_u64(b, id[i].n);
	queue_send(c);
	while ((type = queue_reply(c, &r, NULL)) == REPLY_RESULTS) {
		k = cursor_u32(&r);
		for (i = 0; i < k && i < n; i++) {
			if (cursor_u64(&r) != id[i].n)
				break;
			result[i] = cursor_u8(&r);
		}
	}
	if (type == REPLY_END)
		return client_finish(&r, ret_error);
	*ret_error = "lost connection with the queue lister";
	return REPLY_FAILED;
}

/* -- options --------------------------------------------------------------- */

static void
option_age(const char *name, const char *text, int64_t *ret)
{
	if (!match_age(text, ret))
		queue_fatal(EXIT_USAGE, "--%s: no time: %s", name,
		    log_safe(view_of(text)));
}

static struct view
option_pattern(const char *name, const char *text)
{
	if (strlen(text) > MATCH_TEXT_MAX)
		queue_fatal(EXIT_USAGE, "--%s: too long", name);
	return view_of(text);
}

void
queue_option(struct queue_match *m, enum match_code code, const char *value)
{
	switch (code) {
	case MATCH_SENDER:
		m->by_sender = true;
		m->sender = option_pattern("sender", value);
		break;
	case MATCH_RECIPIENT:
		m->recipient = option_pattern("recipient", value);
		break;
	case MATCH_NEXT_HOP:
		m->nexthop = option_pattern("next-hop", value);
		break;
	case MATCH_OLDER:
		option_age("older", value, &m->older_us);
		break;
	case MATCH_NEWER:
		option_age("newer", value, &m->newer_us);
		break;
	case MATCH_REASON:
		m->reason = option_pattern("reason", value);
		break;
	}
}

/* -- without the system --------------------------------------------------- */

struct scan {
	const struct spool *s;
	const struct queue_match *match;
	const struct router *router;
	queue_each *each;
	void *arg;
	struct buf bytes;
	unsigned bad;
};

static void
scan_name(struct queue_id id, enum spool_place place, void *arg)
{
	struct scan *s = arg;
	struct queue_entry e;
	struct spool_file f;
	struct wall next;
	struct arena *a;
	int rc;

	rc = spool_peek(s->s, id, place, &s->bytes, &f, &next);
	if (rc != 0) {
		if (rc != ENOENT)
			s->bad++;
		return;
	}
	queue_entry_of_file(&e, &f, place, next);
	a = arena_new(queue_entry_room(&e));
	if (!queue_entry_decode(&e, a))
		s->bad++;
	else if (match_entry(s->match, &e, s->router, clock_wall()))
		s->each(&e, s->arg);
	arena_free(&a);
}

unsigned
queue_scan(const struct spool *sp, const struct queue_match *m,
    const struct router *router, queue_each *each, void *arg)
{
	struct scan s = { .s = sp, .match = m, .router = router,
		.each = each, .arg = arg };
	struct spool_walk *w;
	enum spool_place p;

	buf_init(&s.bytes, SPOOL_TAIL_MAX + 2 * HISTORY_MAX);
	for (p = PLACE_INCOMING; p <= PLACE_HOLD; p++) {
		if (!match_place(m, p))
			continue;
		w = spool_walk_new(sp, p);
		while (spool_walk_next(w, 1000, scan_name, &s))
			;
		spool_walk_free(&w);
	}
	buf_free(&s.bytes);
	return s.bad;
}
