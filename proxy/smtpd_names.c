/* Names of clients: a cache, and questions to lookup. */
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_link.h"

#define CACHE_SIZE	4096u
#define CACHE_US	60000000
#define LINKS_MAX	32u

struct names_link {
	struct chan *c;
	uint32_t generation;
	uint32_t asked;		/* not yet answered */
};

static struct {
	struct server *sv;
	struct names_link *link[LINKS_MAX];
	unsigned n, turn;
	uint32_t generation;	/* the newest */
	struct {
		struct netaddr addr;
		struct mono until;
		char *name, *reverse;
		enum name_status status;
	} *cache;
} names;

void
names_init(struct server *sv)
{
	names.sv = sv;
	names.cache = mem_array(CACHE_SIZE, sizeof *names.cache);
}

/* One place per address: a newcomer takes the place of what was there. */
static size_t
names_place(const struct netaddr *a)
{
	struct view v = netaddr_bytes(a);
	uint32_t h = 2166136261u;
	size_t i;

	for (i = 0; i < v.n; i++)
		h = (h ^ (unsigned char)v.p[i]) * 16777619u;
	return (h ^ h >> 15) % CACHE_SIZE;
}

static void
names_keep(const struct netaddr *a, enum name_status status,
    struct view name, struct view reverse)
{
	size_t i = names_place(a);

	free(names.cache[i].name);
	free(names.cache[i].reverse);
	names.cache[i].addr = *a;
	names.cache[i].until.us = loop_now().us + CACHE_US;
	names.cache[i].name = mem_copy(name);
	names.cache[i].reverse = mem_copy(reverse);
	names.cache[i].status = status;
}

static void
names_drop(struct names_link *l)
{
	unsigned i;

	for (i = 0; names.link[i] != l; i++)
		ensure(i + 1 < names.n);
	names.link[i] = names.link[--names.n];
	chan_free(&l->c);
	free(l);
}

static void
names_on_name(struct names_link *l, struct chan_in *m)
{
	uint32_t tag = cursor_u32(&m->body);
	enum name_status status = cursor_u8(&m->body);
	struct view name = cursor_view(&m->body);
	struct view reverse = cursor_view(&m->body);
	struct session *s;

	if (!chan_check(l->c, m))
		return;
	if (status < NAME_OK || status > NAME_TEMPFAIL) {
		chan_blame(l->c, "bad status of a name");
		return;
	}
	s = session_asked(tag, WAIT_NAME);
	if (s == NULL)
		return;
	if (status != NAME_OK || name.n == 0)
		name = view_of("unknown");
	/* A temporary failure may be over in a moment. */
	if (status != NAME_TEMPFAIL)
		names_keep(&s->addr, status, name, reverse);
	session_named(s, status, name, reverse);
}

static void
names_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct names_link *l = arg;

	(void)c;
	if (l->asked > 0)
		l->asked--;
	if (m->type == MSG_FACT_IS)
		session_told(l, l->c, m);
	else
		names_on_name(l, m);
	if (l->asked == 0 && l->generation < names.generation)
		names_drop(l);
}

static void
names_on_close(struct chan *c, void *arg)
{
	struct server *sv = names.sv;
	struct session *s;
	uint32_t i;

	(void)c;
	names_drop(arg);
	/* Who asked over it asks another one, or does without a name. */
	for (i = 0; i < sv->cap; i++) {
		s = sv->sessions[i];
		if (s == NULL || s->asked != arg)
			continue;
		if (s->wait == WAIT_FACT) {
			session_fact(s, view_of(""));
		} else if (s->wait == WAIT_NAME) {
			s->wait = WAIT_NONE;
			names_find(s);
		}
	}
}

void
names_peer(const struct role_peer *peer, int fd)
{
	struct names_link *l;
	unsigned i;

	if (names.n == LINKS_MAX || peer->generation < names.generation) {
		close(fd);
		return;
	}
	l = mem_alloc(sizeof *l);
	l->generation = names.generation = peer->generation;
	l->c = chan_new(fd, ROLE_SMTPD, ROLE_LOOKUP, peer->pid, names_on_msg,
	    names_on_close, l);
	names.link[names.n++] = l;
	for (i = names.n; i-- > 0; )
		if (names.link[i]->asked == 0 &&
		    names.link[i]->generation < names.generation)
			names_drop(names.link[i]);
}

static struct names_link *
names_pick(void)
{
	unsigned i;
	struct names_link *l;

	for (i = 0; i < names.n; i++) {
		l = names.link[names.turn++ % names.n];
		if (l->generation == names.generation)
			return l;
	}
	return NULL;
}

void
session_told(const void *asked, struct chan *c, struct chan_in *m)
{
	uint32_t tag = cursor_u32(&m->body);
	struct view answer = cursor_view(&m->body);
	struct session *s;

	if (!chan_check(c, m))
		return;
	s = session_asked(tag, WAIT_FACT);
	if (s != NULL && s->asked == asked)
		session_fact(s, answer);
}

static void
names_tag(struct session *s, struct names_link *l)
{
	(void)session_ask(s, l);
	l->asked++;
}

void
names_find(struct session *s)
{
	const struct view unknown = view_of("unknown");
	size_t i = names_place(&s->addr);
	struct names_link *l = names_pick();
	struct buf *b;

	if (names.sv->cf->smtpd_peername_lookup &&
	    names.cache[i].name != NULL &&
	    netaddr_equal(&names.cache[i].addr, &s->addr) &&
	    loop_now().us < names.cache[i].until.us) {
		session_named(s, names.cache[i].status,
		    view_of(names.cache[i].name),
		    view_of(names.cache[i].reverse));
		return;
	}
	if (!names.sv->cf->smtpd_peername_lookup || l == NULL) {
		session_named(s, l == NULL ? NAME_TEMPFAIL : NAME_NONE,
		    unknown, unknown);
		return;
	}
	names_tag(s, l);
	b = chan_begin(l->c, MSG_NAME);
	(void)put_u32(b, s->tag);
	(void)put_view(b, netaddr_bytes(&s->addr));
	chan_end(l->c);
	session_wait_for(s, WAIT_NAME, NAME_WAIT_MS);
}

bool
facts_ask(struct session *s, const struct fact_name *name,
    struct view request, int64_t request_ms)
{
	struct names_link *l = names_pick();
	struct buf *b;

	if (l == NULL)
		return false;
	names_tag(s, l);
	b = chan_begin(l->c, MSG_FACT);
	(void)put_u32(b, s->tag);
	(void)put_u8(b, (uint8_t)name->kind);
	(void)put_u16(b, name->type);
	(void)put_view(b, name->key);
	(void)put_u32(b, (uint32_t)request_ms);
	(void)put_view(b, request);
	chan_end(l->c);
	return true;
}

void
server_greet_waiting(struct server *sv)
{
	struct session *s;
	uint32_t i;

	if (!sv->space_known || !auth_known(sv))
		return;
	for (i = 0; i < sv->cap; i++) {
		s = sv->sessions[i];
		/* Not those whose name has been asked for. */
		if (s == NULL || s->state != SMTP_NAMELESS ||
		    s->wait != WAIT_NAME || s->tag != 0)
			continue;
		s->wait = WAIT_NONE;
		names_find(s);
	}
}
