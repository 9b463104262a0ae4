#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/chan.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"

#define CHAN_MAGIC	0x4348414eu
#define HEAD		8u	/* u32 length, u16 type, u8 descriptors, u8 0 */
#define READ_SIZE	65536u
#define SEND_FDS	64u	/* descriptors in one sendmsg */

struct chan_fd {
	size_t at;		/* position in out of the message's first byte */
	int fd;
};

struct chan {
	uint32_t magic;
	int fd;
	enum role_kind self, peer;
	pid_t peer_pid;
	chan_on_msg *on_msg;
	chan_on_close *on_close;
	void *arg;
	struct event read_event, write_event;
	struct loop_work flush;

	struct buf in;
	int *in_fds;
	size_t n_in_fds, cap_in_fds;

	struct buf out;
	size_t begun;		/* where the open message starts */
	uint8_t begun_fds;
	bool open_msg;
	struct chan_fd *out_fds;
	size_t n_out_fds, cap_out_fds;

	bool secret;		/* passwords travel on it */
	bool closed;		/* on_close was or will be called */
	bool busy;		/* inside a handler */
	bool freed;		/* chan_free() came inside a handler */
};

enum role_phase chan_phase = PHASE_STARTING;
void (*chan_on_blame)(pid_t pid, const char *why);

static void chan_write(void *arg);

static void
chan_close_soon(struct chan *c)
{
	c->closed = true;
	event_del(&c->read_event);
	event_del(&c->write_event);
	loop_soon(&c->flush);
}

void
chan_blame(struct chan *c, const char *why)
{
	log_warn("%s[%d] broke the rules: %s", role_kind_name(c->peer),
	    (int)c->peer_pid, why);
	if (chan_on_blame != NULL)
		chan_on_blame(c->peer_pid, why);
	if (!c->closed)
		chan_close_soon(c);
}

bool
chan_check(struct chan *c, const struct chan_in *m)
{
	char why[80];
	struct buf b;

	if (cursor_done(&m->body))
		return true;
	buf_init(&b, sizeof why);
	(void)buf_printf(&b, "bad fields in message %s",
	    msg_rules[m->type].name);
	chan_blame(c, buf_cstr(&b));
	buf_free(&b);
	return false;
}

/*
 * One complete message at the start of p.  Returns its length, 0 if more is
 * needed; after a violation the channel is closed.
 */
static size_t
chan_one(struct chan *c, const char *p, size_t n)
{
	struct cursor h = cursor_of(view_make(p, n));
	const struct msg_rule *rule;
	struct chan_in m = { .fd = { -1, -1 } };
	uint32_t length;
	unsigned type, fds, i;

	if (n < HEAD)
		return 0;
	length = cursor_u32(&h);
	type = cursor_u16(&h);
	fds = cursor_u8(&h);
	if (length < HEAD || length > CHAN_MSG_MAX || type == MSG_NONE ||
	    type >= MSG_TYPES) {
		chan_blame(c, "malformed message");
		return 0;
	}
	rule = &msg_rules[type];
	if ((rule->from & 1u << c->peer) == 0 ||
	    (rule->to & 1u << c->self) == 0 ||
	    (rule->when & 1u << chan_phase) == 0 || rule->fds != fds) {
		chan_blame(c, rule->name);
		return 0;
	}
	if (n < length)
		return 0;
	if (c->n_in_fds < fds) {
		chan_blame(c, "message without its descriptors");
		return 0;
	}
	for (i = 0; i < fds; i++)
		m.fd[i] = c->in_fds[i];
	if (fds > 0) {
		c->n_in_fds -= fds;
		memmove(c->in_fds, c->in_fds + fds,
		    c->n_in_fds * sizeof *c->in_fds);
	}
	m.type = type;
	m.body = cursor_of(view_make(p + HEAD, length - HEAD));
	c->on_msg(c, &m, c->arg);
	for (i = 0; i < fds; i++)
		if (m.fd[i] >= 0)
			close(m.fd[i]);
	return length;
}

/* Nothing of what was there stays behind what is. */
static void
chan_wipe(const struct chan *c, struct buf *b)
{
	if (c->secret && b->cap > b->n)
		explicit_bzero(b->p + b->n, b->cap - b->n);
}

static void
chan_destroy(struct chan *c)
{
	size_t i;

	ensure(c->magic == CHAN_MAGIC);
	event_del(&c->read_event);
	event_del(&c->write_event);
	loop_forget(&c->flush);
	close(c->fd);
	for (i = 0; i < c->n_in_fds; i++)
		close(c->in_fds[i]);
	for (i = 0; i < c->n_out_fds; i++)
		close(c->out_fds[i].fd);
	free(c->in_fds);
	free(c->out_fds);
	buf_clear(&c->in);
	buf_clear(&c->out);
	chan_wipe(c, &c->in);
	chan_wipe(c, &c->out);
	buf_free(&c->in);
	buf_free(&c->out);
	c->magic = 0;
	free(c);
}

static void
chan_take_fds(struct chan *c, struct msghdr *mh)
{
	struct cmsghdr *cm;
	size_t n, i;
	int fd;

	for (cm = CMSG_FIRSTHDR(mh); cm != NULL; cm = CMSG_NXTHDR(mh, cm)) {
		if (cm->cmsg_level != SOL_SOCKET ||
		    cm->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof fd;
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(cm) + i * sizeof fd, sizeof fd);
			if (c->n_in_fds == c->cap_in_fds) {
				c->cap_in_fds = c->cap_in_fds * 2 + 4;
				c->in_fds = mem_resize(c->in_fds,
				    c->cap_in_fds, sizeof *c->in_fds);
			}
			c->in_fds[c->n_in_fds++] = fd;
		}
	}
}

/* Handle the complete messages at p; returns the bytes used. */
static size_t
chan_messages(struct chan *c, const char *p, size_t n)
{
	size_t used = 0, k;

	c->busy = true;
	while (!c->closed && !c->freed &&
	    (k = chan_one(c, p + used, n - used)) > 0)
		used += k;
	c->busy = false;
	return used;
}

static void
chan_read(evutil_socket_t fd, short what, void *arg)
{
	/*
	 * Shared by all channels of the process.  Handlers run inside
	 * chan_read() but never call it, so the buffer is free again when the
	 * next channel becomes readable; an incomplete rest is kept in c->in.
	 */
	static char shared[READ_SIZE];
	struct chan *c = arg;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(SEND_FDS * sizeof(int))];
	} control;
	struct iovec iov;
	struct msghdr mh = { 0 };
	ssize_t n;
	size_t used;

	(void)what;
	ensure(c->magic == CHAN_MAGIC);
	if (c->in.n == 0) {
		iov = (struct iovec){ shared, sizeof shared };
	} else {
		iov.iov_base = buf_room(&c->in, READ_SIZE);
		iov.iov_len = READ_SIZE;
		ensure(iov.iov_base != NULL);
	}
	mh.msg_iov = &iov;
	mh.msg_iovlen = 1;
	mh.msg_control = control.space;
	mh.msg_controllen = sizeof control.space;
	n = recvmsg(fd, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		chan_close_soon(c);
		return;
	}
	if (mh.msg_controllen > 0)
		chan_take_fds(c, &mh);
	if ((mh.msg_flags & MSG_CTRUNC) != 0) {
		log_warn("descriptors from %s[%d] were lost: too many open "
		    "files", role_kind_name(c->peer), (int)c->peer_pid);
		chan_close_soon(c);
		return;
	}
	if (c->in.n == 0) {
		used = chan_messages(c, shared, (size_t)n);
		if (!c->freed && !c->closed && used < (size_t)n &&
		    !buf_put(&c->in, shared + used, (size_t)n - used))
			panic("channel input over its maximum");
		if (c->secret)
			explicit_bzero(shared, (size_t)n);
	} else {
		c->in.n += (size_t)n;
		used = chan_messages(c, c->in.p, c->in.n);
		if (!c->freed) {
			buf_consume(&c->in, used);
			chan_wipe(c, &c->in);
			if (c->in.n == 0)
				buf_free(&c->in);
		}
	}
	if (c->freed)
		chan_destroy(c);
}

static void
chan_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	chan_write(arg);
}

/*
 * Send what is queued.  Descriptors go with the first byte of their message
 * or earlier; the receiver takes them in order, so only the order matters.
 */
static bool
chan_send_some(struct chan *c)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(SEND_FDS * sizeof(int))];
	} control;
	int fds[SEND_FDS];
	struct iovec iov;
	struct msghdr mh = { 0 };
	struct cmsghdr *cm;
	size_t nfds = 0, end = c->out.n, i;
	ssize_t n;

	while (nfds < c->n_out_fds && nfds < SEND_FDS) {
		fds[nfds] = c->out_fds[nfds].fd;
		nfds++;
	}
	/* Not beyond a message whose descriptors do not fit any more. */
	if (nfds < c->n_out_fds)
		end = c->out_fds[nfds].at;
	if (end == 0)
		end = c->out.n;
	iov = (struct iovec){ c->out.p, end };
	mh.msg_iov = &iov;
	mh.msg_iovlen = 1;
	if (nfds > 0) {
		memset(&control, 0, sizeof control);
		mh.msg_control = control.space;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(cm), fds, nfds * sizeof(int));
	}
	n = sendmsg(c->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return false;
	for (i = 0; i < nfds; i++)
		close(fds[i]);
	c->n_out_fds -= nfds;
	if (c->n_out_fds > 0)
		memmove(c->out_fds, c->out_fds + nfds,
		    c->n_out_fds * sizeof *c->out_fds);
	for (i = 0; i < c->n_out_fds; i++)
		c->out_fds[i].at -= (size_t)n < c->out_fds[i].at ?
		    (size_t)n : c->out_fds[i].at;
	buf_consume(&c->out, (size_t)n);
	chan_wipe(c, &c->out);
	return true;
}

static void
chan_write(void *arg)
{
	struct chan *c = arg;

	ensure(c->magic == CHAN_MAGIC && !c->open_msg);
	while (!c->closed && c->out.n > 0) {
		if (chan_send_some(c))
			continue;
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN || errno == ENOBUFS ||
		    errno == ETOOMANYREFS) {
			event_add(&c->write_event, errno == EAGAIN ? NULL :
			    &(struct timeval){ 0, 10000 });
			return;
		}
		/* What the peer sent before it went is still read. */
		if (errno != EPIPE && errno != ECONNRESET)
			log_warn("cannot write to %s[%d]: %s",
			    role_kind_name(c->peer), (int)c->peer_pid,
			    strerror(errno));
		buf_clear(&c->out);
		chan_wipe(c, &c->out);
		return;
	}
	if (c->out.n == 0 && c->out.cap > READ_SIZE)
		buf_free(&c->out);
	if (c->closed && c->on_close != NULL) {
		chan_on_close *f = c->on_close;

		c->on_close = NULL;
		f(c, c->arg);
	}
}

struct chan *
chan_new(int fd, enum role_kind self, enum role_kind peer, pid_t peer_pid,
    chan_on_msg *on_msg, chan_on_close *on_close, void *arg)
{
	struct chan *c = mem_alloc(sizeof *c);
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		fatal("channel to %s: %s", role_kind_name(peer),
		    strerror(errno));
	c->magic = CHAN_MAGIC;
	c->fd = fd;
	c->self = self;
	c->peer = peer;
	c->peer_pid = peer_pid;
	c->on_msg = on_msg;
	c->on_close = on_close;
	c->arg = arg;
	c->flush = (struct loop_work){ .fn = chan_write, .arg = c };
	buf_init(&c->in, CHAN_MSG_MAX + READ_SIZE);
	buf_init(&c->out, CHAN_OUT_MAX);
	event_assign(&c->read_event, loop_base(), fd, EV_READ | EV_PERSIST,
	    chan_read, c);
	event_assign(&c->write_event, loop_base(), fd, EV_WRITE,
	    chan_writable, c);
	event_add(&c->read_event, NULL);
	return c;
}

void
chan_free(struct chan **cp)
{
	struct chan *c = *cp;

	if (c == NULL)
		return;
	*cp = NULL;
	ensure(c->magic == CHAN_MAGIC && !c->freed);
	c->on_close = NULL;
	if (!c->closed && c->out.n > 0)
		chan_write(c);
	if (c->busy) {
		/* chan_read() is on the stack and frees it. */
		c->freed = true;
		event_del(&c->read_event);
		event_del(&c->write_event);
		loop_forget(&c->flush);
		return;
	}
	chan_destroy(c);
}

struct buf *
chan_begin(struct chan *c, enum msg_type type)
{
	ensure(c->magic == CHAN_MAGIC && !c->open_msg);
	c->open_msg = true;
	c->begun = c->out.n;
	c->begun_fds = 0;
	if (!put_u32(&c->out, 0) || !put_u16(&c->out, (uint16_t)type) ||
	    !put_u16(&c->out, 0))
		fatal("%s[%d] does not read its messages",
		    role_kind_name(c->peer), (int)c->peer_pid);
	return &c->out;
}

void
chan_put_fd(struct chan *c, int fd, bool keep)
{
	ensure(c->open_msg && c->begun_fds < CHAN_FDS_MAX);
	if (keep) {
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			fatal("cannot duplicate a descriptor: %s",
			    strerror(errno));
	}
	if (c->n_out_fds == c->cap_out_fds) {
		c->cap_out_fds = c->cap_out_fds * 2 + 4;
		c->out_fds = mem_resize(c->out_fds, c->cap_out_fds,
		    sizeof *c->out_fds);
	}
	c->out_fds[c->n_out_fds++] = (struct chan_fd){ c->begun, fd };
	c->begun_fds++;
}

void
chan_end(struct chan *c)
{
	size_t length = c->out.n - c->begun;
	unsigned char *p = (unsigned char *)c->out.p + c->begun;
	unsigned type = p[4] | (unsigned)p[5] << 8;

	ensure(c->open_msg && length <= CHAN_MSG_MAX);
	ensure(type < MSG_TYPES && msg_rules[type].fds == c->begun_fds);
	p[0] = (unsigned char)length;
	p[1] = (unsigned char)(length >> 8);
	p[2] = (unsigned char)(length >> 16);
	p[3] = (unsigned char)(length >> 24);
	p[6] = c->begun_fds;
	c->open_msg = false;
	if (!c->closed)
		loop_soon(&c->flush);
}

void
chan_send(struct chan *c, enum msg_type type)
{
	chan_begin(c, type);
	chan_end(c);
}

void
chan_drain(struct chan *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLOUT };
	unsigned tries;

	for (tries = 0; tries < 100 && !c->closed && c->out.n > 0; tries++)
		if (!chan_send_some(c)) {
			if (errno != EAGAIN && errno != EINTR)
				return;
			(void)poll(&p, 1, 100);
		}
}

enum role_kind
chan_peer(const struct chan *c)
{
	return c->peer;
}

pid_t
chan_peer_pid(const struct chan *c)
{
	return c->peer_pid;
}

void *
chan_arg(const struct chan *c)
{
	return c->arg;
}

void
chan_secret(struct chan *c)
{
	c->secret = true;
	/* It does not move while little waits. */
	ensure(buf_room(&c->out, READ_SIZE) != NULL);
}

size_t
chan_unsent(const struct chan *c)
{
	return c->out.n;
}
