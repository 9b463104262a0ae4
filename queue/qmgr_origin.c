/*
 * Messages from maildrop/.  qmgr itself removes their files, in the moment
 * they are durable and before anybody hears of it.  So a pickup that dies at
 * any time neither loses nor doubles them: its successor either finds no file
 * any more, or is told here that the message is being worked on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/maildrop.h"
#include "queue/qmgr.h"

#define REFUSAL_MAX	400u

struct origin {
	struct origin *next;
	struct message *message;
	char name[MAILDROP_NAME];
	char *refusal;		/* NULL: none */
};

/* Between ORIGIN and the reply: no more than pickup has at once. */
static struct origin *origins;
static int maildrop = -1;

void
origin_load(void)
{
	char *path = mem_printf("%s/maildrop", qmgr.cf->queue_directory);

	maildrop = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (maildrop < 0)
		fatal("cannot open %s: %s", path, strerror(errno));
	free(path);
}

bool
origin_set(struct message *m, struct view name, struct view refusal)
{
	struct origin *o;

	if (m->origin != NULL || !maildrop_name_ok(name) ||
	    refusal.n > REFUSAL_MAX)
		return false;
	o = mem_alloc(sizeof *o);
	memcpy(o->name, name.p, name.n);
	o->refusal = refusal.n > 0 ? mem_copy(refusal) : NULL;
	o->message = m;
	o->next = origins;
	origins = m->origin = o;
	return true;
}

void
origin_forget(struct message *m)
{
	struct origin **p, *o = m->origin;

	if (o == NULL)
		return;
	for (p = &origins; *p != o; p = &(*p)->next)
		ensure(*p != NULL);
	*p = o->next;
	m->origin = NULL;
	free(o->refusal);
	free(o);
}

enum origin_state
origin_state(const struct message *m)
{
	const struct origin *o;
	struct stat st;

	for (o = origins; o != NULL; o = o->next)
		if (o != m->origin && o->message->known.state != M_WRITING &&
		    strcmp(o->name, m->origin->name) == 0)
			return ORIGIN_BUSY;
	if (fstatat(maildrop, m->origin->name, &st, AT_SYMLINK_NOFOLLOW) != 0 &&
	    errno == ENOENT)
		return ORIGIN_TAKEN;
	return ORIGIN_NEW;
}

const char *
origin_refusal(const struct message *m)
{
	return m->origin != NULL ? m->origin->refusal : NULL;
}

void
origin_taken(struct message *m)
{
	if (m->origin == NULL)
		return;
	if (unlinkat(maildrop, m->origin->name, 0) != 0 && errno != ENOENT)
		log_error("%s: cannot remove maildrop/%s: %s", message_id(m),
		    m->origin->name, strerror(errno));
	origin_forget(m);
}
