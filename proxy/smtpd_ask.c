/*
 * Questions of sessions to other roles, by number.  Numbers are not used again
 * for so long that a late answer, to a session that gave up or is gone, is
 * never taken for that of another question: who can delay one answer could
 * else put it in the place of the next.
 */
#include "lib/log.h"
#include "proxy/smtpd.h"

#define PLACES	4096u

static struct {
	uint32_t serial;
	struct session *place[PLACES];
} ask;

void
session_ask_end(struct session *s)
{
	struct session **p;

	if (s->tag == 0)
		return;
	for (p = &ask.place[s->tag % PLACES]; *p != s; p = &(*p)->tag_next)
		ensure(*p != NULL);
	*p = s->tag_next;
	s->tag = 0;
}

uint32_t
session_ask(struct session *s, const void *asked)
{
	struct session **p;

	session_ask_end(s);
	if (++ask.serial == 0)
		ask.serial++;
	s->tag = ask.serial;
	s->asked = asked;
	p = &ask.place[s->tag % PLACES];
	s->tag_next = *p;
	*p = s;
	return s->tag;
}

struct session *
session_asked(uint32_t tag, enum session_wait wait)
{
	struct session *s;

	for (s = ask.place[tag % PLACES]; s != NULL; s = s->tag_next)
		if (s->tag == tag)
			return tag != 0 && s->wait == wait ? s : NULL;
	return NULL;
}
