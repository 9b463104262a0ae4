/* Those who connected: who they are, what they may, what they get. */
#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/showq.h"

#define CLIENTS_MAX	64u
#define CLIENTS_OF_USER	16u
#define CLIENTS_RESERVED 16u	/* more, for root */
#define OUT_ENOUGH	(1u << 20)	/* then a list waits */
#define REQUEST_MS	10000		/* to send a request */
#define READ_MS		600000		/* to take any of the answer */
#define SITE_IDS_MAX	10000000u

struct client {
	struct client *next;
	int fd;
	uid_t uid;
	struct event readable, writable, timer;
	bool dead;			/* freed at the end of the turn */
	struct loop_work end;
	bool busy;			/* a request is under way */
	struct buf in;			/* the request, kept while it is */
	struct evbuffer *out;
	struct listing *listing;
	struct order *order;
	struct queue_id *ids;		/* found, to be flushed */
	size_t n_ids;
};

static struct client *clients;
static struct user_list *may_list, *may_flush;

void
client_load(void)
{
	const struct conf *cf = showq.cf;

	may_list = users_load("authorized_mailq_users",
	    cf->authorized_mailq_users, cf->config_directory);
	may_flush = users_load("authorized_flush_users",
	    cf->authorized_flush_users, cf->config_directory);
	users_end_load();
}

unsigned
client_count(void)
{
	const struct client *c;
	unsigned n = 0;

	for (c = clients; c != NULL; c = c->next)
		n++;
	return n;
}

static void
client_free(void *arg)
{
	struct client *c = arg, **p;

	for (p = &clients; *p != c; p = &(*p)->next)
		;
	*p = c->next;
	if (c->listing != NULL)
		listing_stop(c->listing);
	order_free(&c->order);
	open_forget(c);
	dests_forget(c);
	event_del(&c->readable);
	event_del(&c->writable);
	event_del(&c->timer);
	evbuffer_free(c->out);
	buf_free(&c->in);
	free(c->ids);
	close(c->fd);
	free(c);
	if (clients == NULL && role_phase() == PHASE_RETIRING)
		role_exit();
}

/* At the end of the turn: whoever called us may still use it. */
static void
client_close(struct client *c)
{
	c->dead = true;
	loop_soon(&c->end);
}

void
client_end_all(void)
{
	struct client *c;

	for (c = clients; c != NULL; c = c->next)
		client_close(c);
}

/* -- out ------------------------------------------------------------------ */

static void
client_on_write(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	int n;

	(void)what;
	while (evbuffer_get_length(c->out) > 0) {
		n = evbuffer_write(c->out, fd);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			client_close(c);
			return;
		}
		event_add(&c->timer, loop_timeout(READ_MS));
	}
	if (evbuffer_get_length(c->out) > 0)
		event_add(&c->writable, NULL);
	else
		event_add(&c->timer, loop_timeout(c->busy ? READ_MS :
		    REQUEST_MS));
	if (c->listing != NULL && !client_full(c))
		listing_go_on(c->listing);
}

bool
client_full(const struct client *c)
{
	return evbuffer_get_length(c->out) >= OUT_ENOUGH;
}

void
client_add(struct client *c, struct view frames)
{
	if (evbuffer_add(c->out, frames.p, frames.n) != 0)
		fatal("no memory for a list");
	if (evbuffer_get_length(c->out) == frames.n)
		client_on_write(c->fd, 0, c);
}

void
client_results(struct client *c, const struct queue_id *id,
    const uint8_t *result, uint32_t n)
{
	struct buf b;
	size_t at;
	uint32_t i;

	buf_init(&b, 16u + n * 9u);
	(void)frame_begin(&b, REPLY_RESULTS, &at);
	(void)put_u32(&b, n);
	for (i = 0; i < n; i++) {
		(void)put_u64(&b, id[i].n);
		(void)put_u8(&b, result[i]);
	}
	frame_end(&b, at);
	client_add(c, buf_view(&b));
	buf_free(&b);
}

/* The first byte carries the descriptor; all before it has been sent. */
static bool
client_send_fd(struct client *c, char byte, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof control.bytes };
	struct cmsghdr *h = CMSG_FIRSTHDR(&msg);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(h), &fd, sizeof fd);
	return evbuffer_get_length(c->out) == 0 &&
	    sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

void
client_opened(struct client *c, uint64_t text_offset,
    const struct queue_entry *e, int fd)
{
	struct buf b;
	size_t at;

	buf_init(&b, QUEUE_ENTRY_MAX + 64u);
	if (frame_begin(&b, REPLY_OPENED, &at) && put_u64(&b, text_offset) &&
	    queue_entry_put(&b, e)) {
		frame_end(&b, at);
		if (client_send_fd(c, b.p[0], fd))
			client_add(c, view_from(buf_view(&b), 1));
		else
			client_close(c);
	}
	buf_free(&b);
}

void
client_end(struct client *c, enum reply_status status, const char *text)
{
	struct buf b;
	size_t at;

	buf_init(&b, 4096);
	(void)frame_begin(&b, REPLY_END, &at);
	(void)put_u8(&b, (uint8_t)status);
	(void)put_view(&b, view_head(view_of(text), 1024));
	frame_end(&b, at);
	c->busy = false;
	free(c->ids);
	c->ids = NULL;
	c->n_ids = 0;
	client_add(c, buf_view(&b));
	buf_free(&b);
	event_add(&c->readable, NULL);
	event_add(&c->timer, loop_timeout(REQUEST_MS));
}

/* -- requests ------------------------------------------------------------- */

static void
list_found(struct view frames, void *arg)
{
	client_add(arg, frames);
}

static bool
list_full(void *arg)
{
	return client_full(arg);
}

static void
list_done(void *arg)
{
	struct client *c = arg;

	c->listing = NULL;
	client_end(c, REPLY_OK, NULL);
}

static void
request_list(struct client *c, struct cursor *r)
{
	struct list_def def = { .memory = true, .found = list_found,
		.full = list_full, .done = list_done, .arg = c };

	if (!match_get(r, &def.match) || !cursor_done(r)) {
		client_close(c);
		return;
	}
	c->listing = listing_start(&def);
}

static void
op_done(struct order *o, void *arg)
{
	struct client *c = arg;
	bool asked = order_asked(o);

	if (asked && order_count(o) <= REQUEST_IDS)
		client_results(c, order_ids(o), order_results(o),
		    order_count(o));
	order_free(&c->order);
	if (asked)
		client_end(c, REPLY_OK, NULL);
	else
		client_end(c, REPLY_FAILED, "no queue manager is running");
}

static void
request_op(struct client *c, struct cursor *r)
{
	uint8_t op = cursor_u8(r);
	uint32_t n = cursor_u32(r), i;
	struct queue_id *id;

	if (op < QUEUE_HOLD || op > QUEUE_EXPIRE || n > REQUEST_IDS) {
		client_close(c);
		return;
	}
	id = mem_array(n + 1u, sizeof *id);
	for (i = 0; i < n; i++)
		id[i].n = cursor_u64(r);
	if (!cursor_done(r)) {
		free(id);
		client_close(c);
		return;
	}
	c->order = order_start((enum queue_op)op, id, n, op_done, c);
}

static void
flush_done(struct order *o, void *arg)
{
	struct client *c = arg;
	const uint8_t *result = order_results(o);
	bool asked = order_asked(o), missing = order_count(o) == 1 &&
	    c->n_ids == 0 && result[0] == QUEUE_NOT_FOUND;

	order_free(&c->order);
	if (!asked)
		client_end(c, REPLY_FAILED, "no queue manager is running");
	else if (missing)
		client_end(c, REPLY_FAILED, "no such deferred message");
	else
		client_end(c, REPLY_OK, NULL);
}

static void
flush_found(struct view frames, void *arg)
{
	struct client *c = arg;
	struct queue_entry e;
	struct cursor r;
	uint8_t type;
	bool bad;
	size_t n;

	while ((n = frame_get(frames, REPLY_MAX, &type, &r, &bad)) > 0) {
		frames = view_from(frames, n);
		if (!queue_entry_get(&r, &e) || c->n_ids == SITE_IDS_MAX)
			continue;
		if ((c->n_ids & (c->n_ids + 1)) == 0)
			c->ids = mem_resize(c->ids, c->n_ids * 2 + 2,
			    sizeof *c->ids);
		c->ids[c->n_ids++] = e.id;
	}
}

static void
flush_site(void *arg)
{
	struct client *c = arg;
	struct queue_id *ids = c->ids;

	c->listing = NULL;
	c->ids = NULL;
	if (c->n_ids == 0) {
		free(ids);
		client_end(c, REPLY_OK, NULL);
		return;
	}
	c->order = order_start(QUEUE_FLUSH, ids, (uint32_t)c->n_ids,
	    flush_done, c);
}

static void
request_flush(struct client *c, struct cursor *r)
{
	struct list_def def = { .found = flush_found, .done = flush_site,
		.arg = c };
	uint8_t what = cursor_u8(r);
	struct view arg = cursor_view(r);
	struct queue_id *id = NULL;

	if (!cursor_done(r) || arg.n > MATCH_TEXT_MAX)
		what = 0;
	switch (what) {
	case FLUSH_ALL:
		c->order = order_start(QUEUE_FLUSH_ALL, NULL, 0, flush_done,
		    c);
		break;
	case FLUSH_ID:
		id = mem_alloc(sizeof *id);
		if (queue_id_parse(arg, id)) {
			c->order = order_start(QUEUE_FLUSH, id, 1, flush_done,
			    c);
			break;
		}
		free(id);
		client_end(c, REPLY_FAILED, "that is no queue id");
		break;
	case FLUSH_SITE:
		def.match.places = 1u << PLACE_DEFERRED;
		/* "[host]": the next hop itself, as in a transport table. */
		if (arg.n > 0 && arg.p[0] == '[')
			def.match.nexthop = arg;
		else
			def.match.site = arg;
		c->listing = listing_start(&def);
		break;
	default:
		client_close(c);
		break;
	}
}

static bool
client_owner(const struct client *c)
{
	return c->uid == 0 || c->uid == geteuid();
}

static bool
client_may(const struct client *c, uint8_t type)
{
	switch (type) {
	case REQUEST_LIST:
	case REQUEST_DESTS:
		return client_owner(c) || users_allow(may_list, c->uid);
	case REQUEST_FLUSH:
		return client_owner(c) || users_allow(may_flush, c->uid);
	default:
		return client_owner(c);
	}
}

static void
client_request(struct client *c, uint8_t type, struct cursor *r)
{
	struct queue_id id;

	c->busy = true;
	event_add(&c->timer, loop_timeout(READ_MS));
	if (!client_may(c, type)) {
		log_warn("user id %u may not %s", (unsigned)c->uid,
		    type == REQUEST_LIST || type == REQUEST_DESTS ?
		    "list the queue" : type == REQUEST_FLUSH ?
		    "flush the queue" : "change the queue");
		client_end(c, REPLY_REFUSED, NULL);
		return;
	}
	switch (type) {
	case REQUEST_LIST:
		request_list(c, r);
		break;
	case REQUEST_DESTS:
		dests_start(c);
		break;
	case REQUEST_FLUSH:
		request_flush(c, r);
		break;
	case REQUEST_OP:
		request_op(c, r);
		break;
	case REQUEST_OPEN:
		id.n = cursor_u64(r);
		if (cursor_done(r))
			open_start(c, id);
		else
			client_close(c);
		break;
	default:
		client_close(c);
		break;
	}
}

/* A request that is there as a whole; views in it are kept until its end. */
static void
client_work(struct client *c)
{
	struct view in = buf_view(&c->in);
	struct cursor r;
	uint8_t type;
	size_t n;
	bool bad;

	n = frame_get(in, REQUEST_MAX, &type, &r, &bad);
	/* Nobody sends a second one before the answer to the first. */
	if (bad || (n > 0 && n < in.n))
		client_close(c);
	else if (n > 0)
		client_request(c, type, &r);
	else
		event_add(&c->readable, NULL);
}

static void
client_on_read(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	char *to;
	ssize_t n;

	(void)what;
	if (c->busy || c->dead)
		return;
	/* The last request was answered: its bytes are not needed any more. */
	if (c->in.n > 0 && frame_get(buf_view(&c->in), REQUEST_MAX,
	    &(uint8_t){ 0 }, &(struct cursor){ 0 }, &(bool){ false }) > 0)
		buf_clear(&c->in);
	to = buf_room(&c->in, 4096);
	if (to == NULL) {
		client_close(c);
		return;
	}
	n = recv(fd, to, 4096, MSG_DONTWAIT);
	if (n > 0) {
		c->in.n += (size_t)n;
		client_work(c);
	} else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		event_add(&c->readable, NULL);
	} else {
		client_close(c);
	}
}

static void
client_on_time(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;

	(void)fd;
	(void)what;
	/* A long list from a cold disk is nobody's fault. */
	if (c->busy && evbuffer_get_length(c->out) == 0)
		event_add(&c->timer, loop_timeout(READ_MS));
	else
		client_close(c);
}

static bool
client_too_many(uid_t uid)
{
	const struct client *c;
	unsigned all = 0, same = 0;

	for (c = clients; c != NULL; c = c->next) {
		all++;
		same += c->uid == uid;
	}
	if (uid == 0)
		return all >= CLIENTS_MAX + CLIENTS_RESERVED;
	return all >= CLIENTS_MAX || same >= CLIENTS_OF_USER;
}

void
client_accept(int listening)
{
	struct ucred peer;
	socklen_t n = sizeof peer;
	struct client *c;
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) != 0 ||
	    client_too_many(peer.uid)) {
		close(fd);
		return;
	}
	c = mem_alloc(sizeof *c);
	c->fd = fd;
	c->uid = peer.uid;
	c->out = evbuffer_new();
	if (c->out == NULL)
		fatal("no memory for a client");
	buf_init(&c->in, REQUEST_MAX + 8192u);
	c->end.fn = client_free;
	c->end.arg = c;
	event_assign(&c->readable, loop_base(), fd, EV_READ, client_on_read,
	    c);
	event_assign(&c->writable, loop_base(), fd, EV_WRITE, client_on_write,
	    c);
	evtimer_assign(&c->timer, loop_base(), client_on_time, c);
	event_add(&c->readable, NULL);
	event_add(&c->timer, loop_timeout(REQUEST_MS));
	c->next = clients;
	clients = c;
}
