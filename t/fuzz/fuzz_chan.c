/*
 * Any bytes on a channel: the first says who is on each side and in which
 * phase, the rest arrives in two pieces.  Whatever comes, messages reach the
 * handler only if the list allows them, and reading their fields stays inside.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/chan.h"
#include "lib/envelope.h"
#include "lib/log.h"
#include "lib/loop.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct arena *a;
	struct envelope e;
	struct view v;

	(void)arg;
	ensure((msg_rules[m->type].from & 1u << chan_peer(c)) != 0);
	ensure((msg_rules[m->type].when & 1u << chan_phase) != 0);
	(void)cursor_u64(&m->body);
	(void)cursor_u8(&m->body);
	v = cursor_view(&m->body);
	a = arena_new(v.n * 16 + 65536);
	if (envelope_get(v, a, &e))
		ensure(e.nrcpts > 0);
	arena_free(&a);
	(void)chan_check(c, m);
}

static void
on_close(struct chan *c, void *arg)
{
	(void)c;
	++*(unsigned *)arg;
}

static void
quiet(pid_t pid, const char *why)
{
	(void)pid;
	(void)why;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned closed = 0;
	struct chan *c;
	size_t half;
	int s[2];

	if (size < 2 || size > 60000)
		return 0;
	if (chan_on_blame == NULL)
		log_to(LOG_SINK_FILE, open("/dev/null", O_WRONLY), 0);
	ensure(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	chan_on_blame = quiet;
	chan_phase = PHASE_STARTING + data[0] % 3;
	c = chan_new(s[1], ROLE_MASTER + data[0] / 3 % 8,
	    ROLE_MASTER + data[1] % 8, 1, on_msg, on_close, &closed);
	data += 2;
	size -= 2;
	half = size / 2;
	ensure(write(s[0], data, half) == (ssize_t)half);
	event_base_loop(loop_base(), EVLOOP_NONBLOCK);
	ensure(write(s[0], data + half, size - half) ==
	    (ssize_t)(size - half));
	event_base_loop(loop_base(), EVLOOP_NONBLOCK);
	close(s[0]);
	chan_free(&c);
	return 0;
}
