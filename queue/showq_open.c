/* The text of a message for postcat: from qmgr's memory, or its file. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/showq.h"

struct opening {
	struct opening *next;
	struct client *client;
	struct queue_id id;
	uint32_t tag;
	struct chan *asking;
};

static struct opening *openings;

static void
opening_free(struct opening *o)
{
	struct opening **p;

	for (p = &openings; *p != o; p = &(*p)->next)
		;
	*p = o->next;
	free(o);
}

static int
opening_file(const struct opening *o, struct client *c)
{
	struct queue_entry e;
	struct spool_file f;
	enum spool_place p;
	struct buf bytes;
	struct wall next;
	int fd, rc = ENOENT, last;

	buf_init(&bytes, SPOOL_TAIL_MAX + 2 * HISTORY_MAX);
	for (p = PLACE_INCOMING; p < PLACES; p++) {
		fd = spool_open_file(&showq.spool, o->id, p);
		if (fd < 0)
			continue;
		last = spool_peek_fd(fd, o->id, &bytes, &f, &next);
		if (last == 0) {
			queue_entry_of_file(&e, &f, p, next);
			client_opened(c, SPOOL_TEXT_OFFSET, &e, fd);
		}
		close(fd);
		rc = last;
		if (rc == 0)
			break;
	}
	buf_free(&bytes);
	return rc;
}

/* Nobody has it in memory. */
static void
opening_finish(struct opening *o)
{
	struct client *c = o->client;
	int rc = opening_file(o, c);

	opening_free(o);
	if (rc == 0)
		client_end(c, REPLY_OK, NULL);
	else
		client_end(c, REPLY_FAILED, rc == EBADMSG ?
		    "not a complete queue file" : strerror(rc));
}

static void
opening_ask(struct opening *o, struct chan *c)
{
	struct buf *b;

	o->asking = c;
	if (c == NULL) {
		opening_finish(o);
		return;
	}
	o->tag = manager_tag();
	b = chan_begin(c, MSG_QUEUE_OPEN);
	put_u32(b, o->tag);
	put_u64(b, o->id.n);
	chan_end(c);
}

void
open_start(struct client *c, struct queue_id id)
{
	struct opening *o = mem_alloc(sizeof *o);

	o->client = c;
	o->id = id;
	o->next = openings;
	openings = o;
	opening_ask(o, manager_first());
}

void
open_forget(const struct client *c)
{
	struct opening *o, *next;

	for (o = openings; o != NULL; o = next) {
		next = o->next;
		if (o->client == c)
			opening_free(o);
	}
}

void
open_answer(uint32_t tag, struct chan_in *in)
{
	struct opening *o;
	struct client *client;
	struct queue_entry e;
	struct arena *a;
	uint64_t offset;
	bool ok;

	for (o = openings; o != NULL && (o->tag != tag || o->asking == NULL);
	    o = o->next)
		;
	if (o == NULL)
		return;
	if (in->type == MSG_QUEUE_OPEN_NONE) {
		opening_ask(o, manager_next(o->asking));
		return;
	}
	offset = cursor_u64(&in->body);
	ok = queue_entry_get(&in->body, &e) && cursor_done(&in->body) &&
	    e.id.n == o->id.n;
	if (ok) {
		a = arena_new(queue_entry_room(&e));
		ok = queue_entry_decode(&e, a);
		arena_free(&a);
	}
	if (!ok) {
		chan_blame(o->asking, "bad message");
		return;
	}
	client = o->client;
	opening_free(o);
	client_opened(client, offset, &e, in->fd[0]);
	client_end(client, REPLY_OK, NULL);
}

void
open_lost(const struct chan *c)
{
	struct opening *o, *next;

	for (o = openings; o != NULL; o = next) {
		next = o->next;
		if (o->asking == c)
			opening_ask(o, manager_next(c));
	}
}
