/* The client's side of a trial. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/postern_trial_impl.h"

#define TALK_MS		300000
#define LINE_OUT_MAX	4096u

void
trial_text(struct view file, struct buf *out)
{
	struct view line;
	size_t end;

	/* The first line of a message in a mailbox file. */
	if (file.n > 5 && memcmp(file.p, "From ", 5) == 0)
		file = view_from(file, view_find(file, '\n') + 1);
	while (file.n > 0) {
		end = view_find(file, '\n');
		line = view_head(file, end);
		file = view_from(file, end + 1);
		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		if (line.n > 0 && line.p[0] == '.')
			(void)buf_putc(out, '.');
		(void)buf_putv(out, line);
		(void)buf_puts(out, "\r\n");
	}
	(void)buf_puts(out, ".\r\n");
}

static void
talk_end(struct trial *t)
{
	t->gone = true;
	event_del(&t->io);
	close(t->fd);
	t->fd = -1;
	trial_stop_waiting(t);
}

static void talk_event(evutil_socket_t fd, short what, void *arg);

static void
talk_want(struct trial *t, short what)
{
	event_del(&t->io);
	event_assign(&t->io, loop_base(), t->fd, what, talk_event, t);
	event_add(&t->io, NULL);
}

static void
talk_write(struct trial *t)
{
	size_t sent = 0;
	ssize_t n;

	while (sent < t->out.n) {
		n = send(t->fd, t->out.p + sent, t->out.n - sent,
		    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n <= 0)
			break;
		sent += (size_t)n;
	}
	buf_consume(&t->out, sent);
	talk_want(t, t->out.n > 0 ? EV_READ | EV_WRITE : EV_READ);
}

static void __attribute__((format(printf, 3, 4)))
talk_say(struct trial *t, enum trial_step step, const char *fmt, ...)
{
	struct buf line;
	va_list ap;

	t->step = step;
	buf_init(&line, LINE_OUT_MAX);
	va_start(ap, fmt);
	(void)buf_vprintf(&line, fmt, ap);
	va_end(ap);
	if (t->o.on_talk != NULL)
		t->o.on_talk("C", buf_view(&line), t->o.arg);
	(void)buf_putv(&t->out, buf_view(&line));
	(void)buf_puts(&t->out, "\r\n");
	buf_free(&line);
	talk_write(t);
}

static void
talk_quit(struct trial *t)
{
	t->step = TRIAL_QUIT;
	(void)buf_puts(&t->out, "QUIT\r\n");
	talk_write(t);
}

static void
talk_mail(struct trial *t)
{
	if (t->m->size > 0)
		talk_say(t, TRIAL_MAIL, "MAIL FROM:<%.*s> SIZE=%llu",
		    VIEW_ARGS(t->m->from), (unsigned long long)t->m->size);
	else
		talk_say(t, TRIAL_MAIL, "MAIL FROM:<%.*s>",
		    VIEW_ARGS(t->m->from));
}

static void
talk_rcpt(struct trial *t)
{
	const struct trial_message *m = t->m;

	if (t->rcpt < m->n_to) {
		talk_say(t, TRIAL_RCPT, "RCPT TO:<%.*s>",
		    VIEW_ARGS(m->to[t->rcpt]));
		t->rcpt++;
	} else if (m->has_text && t->accepted > 0) {
		talk_say(t, TRIAL_DATA, "DATA");
	} else {
		talk_quit(t);
	}
}

/* A reply is complete; t->reply holds it. */
static void
talk_reply(struct trial *t)
{
	char class = t->reply.n > 0 ? t->reply.p[0] : '5';

	trial_logs(t);
	if (t->o.on_talk != NULL && t->step != TRIAL_QUIT)
		t->o.on_talk("S", buf_view(&t->reply), t->o.arg);
	if (t->step == TRIAL_RCPT) {
		t->accepted += class == '2';
		talk_rcpt(t);
		return;
	}
	if (class != '2' && class != '3') {
		talk_quit(t);
		return;
	}
	switch (t->step) {
	case TRIAL_GREETING:
		talk_say(t, TRIAL_EHLO, "EHLO %s", t->m->helo);
		break;
	case TRIAL_EHLO:
		talk_mail(t);
		break;
	case TRIAL_MAIL:
		talk_rcpt(t);
		break;
	case TRIAL_DATA:
		t->step = TRIAL_TEXT;
		(void)buf_putv(&t->out, t->m->text);
		talk_write(t);
		break;
	case TRIAL_TEXT:
		talk_quit(t);
		break;
	case TRIAL_RCPT:
	case TRIAL_IDLE:
	case TRIAL_QUIT:
		break;
	}
}

static void
talk_line(struct trial *t, struct view line)
{
	/* After the last word of ours only the end is waited for. */
	if (t->step == TRIAL_QUIT)
		return;
	if (t->line.n == 0)
		buf_clear(&t->reply);
	if (t->reply.n > 0)
		(void)buf_putc(&t->reply, '\n');
	(void)buf_putv(&t->reply, line);
	t->line.n = 0;
	if (line.n > 3 && line.p[3] == '-')
		(void)buf_putc(&t->line, '-');
	else
		talk_reply(t);
}

static void
talk_event(evutil_socket_t fd, short what, void *arg)
{
	struct trial *t = arg;
	struct view in;
	size_t end;
	ssize_t n;
	char *to;

	if ((what & EV_WRITE) != 0)
		talk_write(t);
	to = buf_room(&t->in, 4096);
	if (to == NULL) {
		trial_fail(t, "a reply without end");
		return;
	}
	n = recv(fd, to, 4096, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		talk_want(t, t->out.n > 0 ? EV_READ | EV_WRITE : EV_READ);
		return;
	}
	if (n <= 0) {
		trial_logs(t);
		talk_end(t);
		return;
	}
	t->in.n += (size_t)n;
	talk_want(t, t->out.n > 0 ? EV_READ | EV_WRITE : EV_READ);
	while (in = buf_view(&t->in), (end = view_find(in, '\n')) < in.n) {
		talk_line(t, view_head(in, end > 0 && in.p[end - 1] == '\r' ?
		    end - 1 : end));
		buf_consume(&t->in, end + 1);
	}
}

static void
talk_connect(struct trial *t, int fd)
{
	struct sockaddr_storage remote = { 0 }, local = { 0 };
	struct netaddr a = t->m->client, here;
	socklen_t remote_n, local_n;
	struct buf *b;

	a.port = 40000;
	remote_n = netaddr_to_sockaddr(&a, &remote);
	ensure(netaddr_parse(view_of("127.0.0.1"), &here));
	here.port = 25;
	local_n = netaddr_to_sockaddr(&here, &local);
	b = chan_begin(t->gate, MSG_CLIENT);
	put_u32(b, 1);
	put_view(b, view_make(&remote, remote_n));
	put_view(b, view_make(&local, local_n));
	chan_put_fd(t->gate, fd, false);
	chan_end(t->gate);
}

const char *
trial_run(struct trial *t, const struct trial_message *m)
{
	int pair[2];

	if (t->failed)
		return NULL;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	    pair) != 0)
		fatal("socketpair: %s", strerror(errno));
	buf_init(&t->in, 65536);
	buf_init(&t->out, m->text.n + 65536);
	buf_init(&t->line, 16);
	buf_free(&t->reply);
	buf_init(&t->reply, TRIAL_REPLY_MAX);
	t->m = m;
	t->fd = pair[0];
	t->step = TRIAL_GREETING;
	t->rcpt = t->accepted = 0;
	t->over = t->gone = false;
	event_assign(&t->io, loop_base(), t->fd, EV_READ, talk_event, t);
	event_add(&t->io, NULL);
	talk_connect(t, pair[1]);
	(void)(trial_wait(t, &t->gone, TALK_MS) &&
	    trial_wait(t, &t->over, TALK_MS));
	if (t->fd >= 0)
		talk_end(t);
	buf_free(&t->in);
	buf_free(&t->out);
	buf_free(&t->line);
	return t->failed ? NULL : buf_cstr(&t->reply);
}

void
trial_smtp_free(struct trial *t)
{
	buf_free(&t->reply);
}
