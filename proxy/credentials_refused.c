#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "lib/mem.h"
#include "proxy/credentials_refused.h"

struct refused {
	char *host, *user, *secret, *said;
	uint16_t port;
	struct mono since;
	TAILQ_ENTRY(refused) link;
};

/* Latest first. */
static TAILQ_HEAD(refused_list, refused) list = TAILQ_HEAD_INITIALIZER(list);
static size_t n_refused;

static void
refused_free(struct refused *r)
{
	TAILQ_REMOVE(&list, r, link);
	n_refused--;
	explicit_bzero(r->secret, strlen(r->secret));
	free(r->secret);
	free(r->host);
	free(r->user);
	free(r->said);
	free(r);
}

static struct refused *
refused_get(const struct refused_login *l)
{
	struct refused *r;

	TAILQ_FOREACH(r, &list, link)
		if (r->port == l->port && view_is_nocase(l->host, r->host) &&
		    view_is(l->user, r->user) && view_is(l->secret, r->secret))
			break;
	return r;
}

void
refused_put(const struct refused_login *l, struct view said, struct mono now)
{
	struct refused *r = refused_get(l);

	if (r != NULL)
		refused_free(r);
	else if (n_refused == REFUSED_MAX)
		refused_free(TAILQ_LAST(&list, refused_list));
	r = mem_alloc(sizeof *r);
	r->host = mem_copy(l->host);
	r->user = mem_copy(l->user);
	r->secret = mem_copy(l->secret);
	r->said = mem_copy(said);
	r->port = l->port;
	r->since = now;
	TAILQ_INSERT_HEAD(&list, r, link);
	n_refused++;
}

const char *
refused_find(const struct refused_login *l, int64_t limit_ms,
    struct mono now)
{
	struct refused *r = refused_get(l);

	if (r == NULL)
		return NULL;
	if (mono_since(r->since, now) / 1000 < limit_ms)
		return r->said;
	refused_free(r);
	return NULL;
}

void
refused_clear(void)
{
	struct refused *r, *next;

	for (r = TAILQ_FIRST(&list); r != NULL; r = next) {
		next = TAILQ_NEXT(r, link);
		refused_free(r);
	}
}
