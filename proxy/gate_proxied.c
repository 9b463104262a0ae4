#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/gate_header.h"
#include "proxy/gate_proxied.h"

struct proxied {
	int fd;
	struct event io, timer;
	struct netaddr remote, local;
	struct buf in;			/* of the header, nothing more */
	proxied_hook *hook;
	proxied_gone *gone;
	void *who;
};

static unsigned waiting;
static uint64_t refused;

static void
proxied_free(struct proxied *p)
{
	event_del(&p->io);
	event_del(&p->timer);
	buf_free(&p->in);
	free(p);
	waiting--;
}

static void
proxied_refuse(struct proxied *p, const char *why)
{
	char addr[NETADDR_TEXT];
	proxied_gone *gone = p->gone;
	void *who = p->who;

	log_warn("no client from proxy [%s]: %s",
	    netaddr_text(&p->remote, addr), why);
	refused++;
	close(p->fd);
	proxied_free(p);
	gone(who);
}

static void
proxied_know(struct proxied *p)
{
	struct proxied done = *p;

	proxied_free(p);
	done.hook(done.who, done.fd, &done.remote, &done.local);
}

/* What is there is looked at, and what is the header's is taken out. */
static void
proxied_event(evutil_socket_t fd, short what, void *arg)
{
	struct proxied *p = arg;
	static char all[GATE_HEADER_MAX + 1];
	size_t have = p->in.n, used;
	enum gate_header is;
	ssize_t n;

	(void)what;
	if (have > 0)
		memcpy(all, p->in.p, have);
	n = recv(fd, all + have, sizeof all - have, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		proxied_refuse(p, "lost connection");
		return;
	}
	is = gate_header_read(view_make(all, have + (size_t)n), &used,
	    &p->remote, &p->local);
	if (is == GATE_HEADER_BAD) {
		proxied_refuse(p, "bad header");
		return;
	}
	/* It was there a moment ago. */
	n = recv(fd, all + have, used - have, MSG_DONTWAIT);
	if (n < 0 || (size_t)n != used - have) {
		proxied_refuse(p, "lost connection");
		return;
	}
	if (is != GATE_HEADER_MORE)
		proxied_know(p);
	else if (!buf_putv(&p->in, view_make(all + have, (size_t)n)))
		panic("a header over its maximum");
}

static void
proxied_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	proxied_refuse(arg, "timeout");
}

void
proxied_wait(int fd, const struct netaddr *remote,
    const struct netaddr *local, int64_t ms, proxied_hook *hook,
    proxied_gone *gone, void *who)
{
	struct proxied *p = mem_alloc(sizeof *p);

	*p = (struct proxied){ .fd = fd, .remote = *remote, .local = *local,
		.hook = hook, .gone = gone, .who = who };
	buf_init(&p->in, GATE_HEADER_MAX);
	event_assign(&p->io, loop_base(), fd, EV_READ | EV_PERSIST,
	    proxied_event, p);
	event_assign(&p->timer, loop_base(), -1, 0, proxied_late, p);
	waiting++;
	if (waiting > PROXIED_MAX) {
		proxied_refuse(p, "too many wait");
		return;
	}
	/* For all of it: bytes that come one by one do not help. */
	event_add(&p->timer, loop_timeout(ms));
	event_add(&p->io, NULL);
}

unsigned
proxied_waiting(void)
{
	return waiting;
}

uint64_t
proxied_refused(void)
{
	return refused;
}
