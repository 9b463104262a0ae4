#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/lookup_request.h"

#define REQUEST_MAGIC	0x4c4f4f4bu

/* A question to the DNS on behalf of a request. */
struct lookup_question {
	struct lookup_request *request;
	enum dns_type type;
	uint32_t which;
	struct dns_question *dns;
	TAILQ_ENTRY(lookup_question) link;
};

static TAILQ_HEAD(, lookup_request) requests =
    TAILQ_HEAD_INITIALIZER(requests);

static void
request_free(struct lookup_request *r)
{
	struct lookup_question *q;

	ensure(r->magic == REQUEST_MAGIC);
	while ((q = TAILQ_FIRST(&r->open)) != NULL) {
		TAILQ_REMOVE(&r->open, q, link);
		dns_cancel(&q->dns);
		free(q);
	}
	event_del(&r->timer);
	TAILQ_REMOVE(&requests, r, link);
	r->kind->open--;
	r->magic = 0;
	free(r);
}

static void
request_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct lookup_request *r = arg;

	(void)fd;
	(void)what;
	r->kind->finish(r, true);
	request_free(r);
}

struct lookup_request *
request_new(struct lookup_kind *kind, struct chan *chan, uint32_t tag)
{
	struct lookup_request *r;

	if (kind->open >= kind->max)
		return NULL;
	r = mem_alloc(kind->size);
	r->magic = REQUEST_MAGIC;
	r->kind = kind;
	r->chan = chan;
	r->tag = tag;
	TAILQ_INIT(&r->open);
	evtimer_assign(&r->timer, loop_base(), request_on_timer, r);
	event_add(&r->timer, loop_timeout(kind->timeout));
	TAILQ_INSERT_TAIL(&requests, r, link);
	kind->open++;
	return r;
}

void
request_begun(struct lookup_request *r)
{
	ensure(r->magic == REQUEST_MAGIC);
	if (!TAILQ_EMPTY(&r->open))
		return;
	r->kind->finish(r, false);
	request_free(r);
}

static void
request_on_answer(const struct dns_answer *a, void *arg)
{
	struct lookup_question *q = arg;
	struct lookup_request *r = q->request;

	TAILQ_REMOVE(&r->open, q, link);
	r->kind->answered(r, q->type, q->which, a);
	free(q);
	request_begun(r);
}

void
request_ask_of(struct lookup_request *r, const char *name,
    enum dns_type type, enum dns_source source, uint32_t which)
{
	static const struct dns_answer failed = { .status = DNS_FAILED };
	struct lookup_question *q = mem_alloc(sizeof *q);

	q->request = r;
	q->type = type;
	q->which = which;
	q->dns = dns_ask(name, type, source, request_on_answer, q);
	if (q->dns != NULL) {
		TAILQ_INSERT_TAIL(&r->open, q, link);
		return;
	}
	free(q);
	r->kind->answered(r, type, which, &failed);
}

void
request_ask(struct lookup_request *r, const char *name, enum dns_type type,
    uint32_t which)
{
	request_ask_of(r, name, type, DNS_AND_HOSTS, which);
}

void
request_forget_all(const struct chan *chan)
{
	struct lookup_request *r, *next;

	for (r = TAILQ_FIRST(&requests); r != NULL; r = next) {
		next = TAILQ_NEXT(r, link);
		if (r->chan != chan)
			continue;
		if (r->kind->dropped != NULL)
			r->kind->dropped(r);
		request_free(r);
	}
}

size_t
request_count(void)
{
	const struct lookup_request *r;
	size_t n = 0;

	TAILQ_FOREACH(r, &requests, link)
		n++;
	return n;
}
