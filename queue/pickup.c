/*
 * The role pickup: takes the files of maildrop/ and gives them to qmgr as a
 * writer does.  It believes nothing that stands in them, and decides nothing
 * by it but what the sender of a message may decide.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/role.h"
#include "queue/pickup.h"
#include "rules/override.h"
#include "rules/verdict.h"

#define DROPS_MAX	20u	/* files on their way at once */
#define LOCK_MS		200
#define ASKED_BYTES	2048u	/* a content_filter */
#define SEALS	(F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

enum drop_wait { WAIT_SLOT = 1, WAIT_SPILL, WAIT_SEAL };

struct manager {
	struct manager *next;
	struct chan *chan;
	uint32_t generation;
	uint32_t drops;
	bool accepting;
};

struct drop {
	struct drop *next;
	struct manager *manager;
	enum drop_wait wait;
	struct queue_id id;
	struct letter letter;
};

static struct {
	struct manager *managers, *now;
	struct drop *drops;
	uint32_t n_drops;
	bool locked, working;
	uint32_t flags;			/* receive_override_options */
	struct buf asked;		/* content_filter */
	struct event lock_timer;
	struct loop_work work, let_go;
	uint64_t taken, returned, removed;
} pickup;

/* -- one message ----------------------------------------------------------- */

static void
drop_free(struct drop *d)
{
	struct drop **p;

	for (p = &pickup.drops; *p != d; p = &(*p)->next)
		ensure(*p != NULL);
	*p = d->next;
	pickup.n_drops--;
	d->manager->drops--;
	letter_close(&d->letter);
	free(d);
	loop_soon(&pickup.work);
	loop_soon(&pickup.let_go);
}

static void
drop_ask_slot(struct drop *d)
{
	struct buf *b = chan_begin(d->manager->chan, MSG_SLOTS);

	(void)put_u32(b, 1);
	chan_end(d->manager->chan);
	d->wait = WAIT_SLOT;
}

static void
slot_drop(struct manager *m, struct queue_id id)
{
	struct buf *b = chan_begin(m->chan, MSG_SLOT_DROP);

	(void)put_u64(b, id.n);
	chan_end(m->chan);
}

/* It stays in maildrop/ for a later try. */
static void
drop_later(struct drop *d)
{
	dir_later(d->letter.name);
	drop_free(d);
}

static void
drop_cancel(struct drop *d, const char *why)
{
	char id[QUEUE_ID_TEXT];

	log_warn("%s: canceled, maildrop/%s is tried again later: %s",
	    queue_id_text(d->id, id), d->letter.name, why);
	slot_drop(d->manager, d->id);
	drop_later(d);
}

static void
drop_seal(struct drop *d, uint64_t size)
{
	struct chan *c = d->manager->chan;
	struct buf *b, env;

	d->letter.env.flags |= pickup.flags;
	/* letter_open() has tried it. */
	buf_init(&env, LETTER_ENVELOPE_MAX);
	ensure(envelope_put(&env, &d->letter.env));
	b = chan_begin(c, MSG_ORIGIN);
	(void)put_u64(b, d->id.n);
	(void)put_view(b, view_of(d->letter.name));
	(void)put_view(b, view_of(d->letter.refusal));
	chan_end(c);
	b = chan_begin(c, MSG_SEAL);
	(void)put_u64(b, d->id.n);
	(void)put_u64(b, size);
	(void)put_u8(b, 0);
	(void)put_view(b, buf_view(&env));
	if (pickup.asked.n > 0)
		(void)put_view(b, buf_view(&pickup.asked));
	chan_end(c);
	buf_free(&env);
	d->wait = WAIT_SEAL;
}

/* fd: a memfd, or the file that takes a large text. */
static void
drop_write(struct drop *d, int fd, bool seal)
{
	uint64_t size;
	int error;

	if (!letter_write(&d->letter, role_conf(), d->id, fd, &size, &error))
		drop_cancel(d, error != 0 ? strerror(error) :
		    "it was changed meanwhile");
	else if (seal && fcntl(fd, F_ADD_SEALS, SEALS) != 0)
		drop_cancel(d, strerror(errno));
	else
		drop_seal(d, size);
}

static void
drop_begin(struct drop *d, int fd)
{
	const struct letter *l = &d->letter;
	char id[QUEUE_ID_TEXT];
	struct buf *b;

	log_info("%s: uid=%u from=<%s>", queue_id_text(d->id, id),
	    (unsigned)l->uid, log_safe(l->sender));
	if (l->text_size <= (uint64_t)role_conf()->queue_memory_text_limit ||
	    l->refusal != NULL) {
		drop_write(d, fd, true);
		return;
	}
	b = chan_begin(d->manager->chan, MSG_SPILL);
	(void)put_u64(b, d->id.n);
	chan_end(d->manager->chan);
	d->wait = WAIT_SPILL;
}

/* qmgr has removed the file; if it could not, it is not taken twice. */
static void
drop_taken(struct drop *d)
{
	const struct letter *l = &d->letter;
	struct stat st;

	dir_forget(l->name);
	if (fstatat(dir_fd(), l->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_dev == l->dev && st.st_ino == l->ino &&
	    unlinkat(dir_fd(), l->name, 0) != 0) {
		dir_warn(l->name, l->uid, "was taken and cannot be removed");
		dir_never(l->name);
	}
	pickup.taken++;
	pickup.returned += l->refusal != NULL;
	drop_free(d);
}

static void
drop_sealed(struct drop *d, unsigned code, struct view status,
    struct view text)
{
	char id[QUEUE_ID_TEXT];

	if (code / 100 == 2) {
		drop_taken(d);
		return;
	}
	log_warn("%s: maildrop/%s was not accepted, and is tried again "
	    "later: %u %s %s", queue_id_text(d->id, id), d->letter.name, code,
	    log_safe(status), log_safe(text));
	drop_later(d);
}

/* -- taking files ---------------------------------------------------------- */

static bool
pickup_has(const char *name)
{
	const struct drop *d;

	for (d = pickup.drops; d != NULL; d = d->next)
		if (strcmp(d->letter.name, name) == 0)
			return true;
	return false;
}

static void
pickup_remove(const char *name, uid_t uid, const char *why)
{
	log_warn("maildrop/%s: uid=%u: removed: %s", log_safe(view_of(name)),
	    (unsigned)uid, why);
	if (unlinkat(dir_fd(), name, 0) != 0 && errno != ENOENT)
		dir_warn(name, uid, "cannot be removed");
	pickup.removed++;
}

static void
pickup_take(const char *name)
{
	struct drop *d;
	struct letter l;
	const char *why;
	uid_t uid = 0;

	if (pickup_has(name))
		return;
	switch (letter_open(&l, dir_fd(), name, role_conf(), &why, &uid)) {
	case LETTER_OK:
		break;
	case LETTER_GONE:
	case LETTER_UNFINISHED:
		return;
	case LETTER_STRANGE:
		dir_warn(name, uid, why);
		return;
	case LETTER_MALFORMED:
		pickup_remove(name, uid, why);
		return;
	}
	d = mem_alloc(sizeof *d);
	d->letter = l;
	d->manager = pickup.now;
	d->manager->drops++;
	d->next = pickup.drops;
	pickup.drops = d;
	pickup.n_drops++;
	drop_ask_slot(d);
}

static void
pickup_work(void *arg)
{
	const char *name;

	(void)arg;
	while (pickup.locked && role_phase() == PHASE_RUNNING &&
	    pickup.now != NULL && pickup.now->accepting &&
	    pickup.n_drops < DROPS_MAX && (name = dir_next()) != NULL)
		pickup_take(name);
	if (role_phase() == PHASE_RETIRING && pickup.drops == NULL)
		role_exit();
}

static void
pickup_ready(void)
{
	loop_soon(&pickup.work);
}

/* The one before us may have files on their way. */
static void
pickup_lock(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	pickup.locked = dir_lock();
	if (pickup.locked) {
		dir_rescan();
		pickup_ready();
	} else
		event_add(&pickup.lock_timer, loop_timeout(LOCK_MS));
}

/* -- qmgr ------------------------------------------------------------------ */

static struct drop *
manager_find(const struct manager *m, struct queue_id id, enum drop_wait wait)
{
	struct drop *d;

	for (d = pickup.drops; d != NULL; d = d->next)
		if (d->manager == m && d->wait == wait &&
		    (wait == WAIT_SLOT || d->id.n == id.n))
			return d;
	return NULL;
}

static void
manager_sealed(struct manager *m, struct chan_in *in, struct queue_id id)
{
	unsigned code = cursor_u16(&in->body);
	struct view status = cursor_view(&in->body);
	struct view text = cursor_view(&in->body);
	struct drop *d = manager_find(m, id, WAIT_SEAL);

	if (chan_check(m->chan, in) && d != NULL)
		drop_sealed(d, code, status, text);
}

static void
manager_space(struct manager *m, struct chan_in *in)
{
	bool accepting = cursor_u8(&in->body) != 0;

	(void)cursor_u64(&in->body);
	if (!chan_check(m->chan, in))
		return;
	m->accepting = accepting;
	pickup_ready();
}

static void
manager_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	struct manager *m = arg;
	struct queue_id id;
	struct drop *d;

	if (in->type == MSG_SPACE) {
		manager_space(m, in);
		return;
	}
	id.n = cursor_u64(&in->body);
	if (in->type == MSG_SEALED) {
		manager_sealed(m, in, id);
		return;
	}
	if (!chan_check(c, in))
		return;
	switch ((int)in->type) {
	case MSG_SLOT:
		d = manager_find(m, id, WAIT_SLOT);
		if (d == NULL) {
			slot_drop(m, id);
			break;
		}
		d->id = id;
		drop_begin(d, in->fd[0]);
		break;
	case MSG_SPILL_IS:
		d = manager_find(m, id, WAIT_SPILL);
		if (d != NULL)
			drop_write(d, in->fd[0], false);
		break;
	case MSG_SPILL_REFUSED:
		d = manager_find(m, id, WAIT_SPILL);
		if (d != NULL)
			drop_cancel(d, "no room for a large text");
		break;
	default:
		chan_blame(c, "unexpected message");
		break;
	}
}

static void
manager_free(struct manager *m)
{
	struct manager **p;

	for (p = &pickup.managers; *p != m; p = &(*p)->next)
		ensure(*p != NULL);
	*p = m->next;
	if (pickup.now == m)
		pickup.now = NULL;
	chan_free(&m->chan);
	free(m);
}

/* Whether what it had is safe, its successor knows: the files that are left
 * were not sealed, or are found out to be. */
static void
manager_on_close(struct chan *c, void *arg)
{
	struct manager *m = arg;
	struct drop *d, *next;

	(void)c;
	for (d = pickup.drops; d != NULL; d = next) {
		next = d->next;
		if (d->manager == m)
			drop_free(d);
	}
	if (pickup.now == m && role_phase() == PHASE_RUNNING)
		log_warn("the queue manager is gone; waiting for a new one");
	manager_free(m);
}

/* An old one ends with the last message that it has. */
static void
manager_let_go(void *arg)
{
	struct manager *m, *next;

	(void)arg;
	for (m = pickup.managers; m != NULL; m = next) {
		next = m->next;
		if (m != pickup.now && m->drops == 0)
			manager_free(m);
	}
}

static void
pickup_peer(const struct role_peer *peer, int fd)
{
	struct manager *m;
	struct drop *d;

	if (pickup.now != NULL && peer->generation < pickup.now->generation) {
		close(fd);
		return;
	}
	m = mem_alloc(sizeof *m);
	m->generation = peer->generation;
	m->accepting = false;	/* until it says so */
	m->chan = chan_new(fd, ROLE_PICKUP, ROLE_QMGR, peer->pid,
	    manager_on_msg, manager_on_close, m);
	m->next = pickup.managers;
	pickup.managers = pickup.now = m;
	/* The old one gives no slots any more. */
	for (d = pickup.drops; d != NULL; d = d->next)
		if (d->wait == WAIT_SLOT) {
			d->manager->drops--;
			d->manager = m;
			m->drops++;
			drop_ask_slot(d);
		}
	loop_soon(&pickup.let_go);
	if (pickup.locked)
		dir_rescan();
	pickup_ready();
}

/* -- the role -------------------------------------------------------------- */

static void
pickup_load_overrides(const struct conf *cf)
{
	struct judgement j = { .verdict.action = ACTION_OK,
		.filter = view_of(cf->content_filter) };

	pickup.flags = override_flags(cf);
	if (!override_filter_check(cf, log_report, NULL))
		fatal("the configuration cannot be used");
	buf_init(&pickup.asked, ASKED_BYTES);
	if (j.filter.n > 0)
		ensure(judgement_put(&pickup.asked, &j));
}

static void
pickup_load(void)
{
	tzset();
	pickup_load_overrides(role_conf());
	dir_load(role_conf());
	pickup.work.fn = pickup_work;
	pickup.let_go.fn = manager_let_go;
}

static void
pickup_start(void)
{
	dir_start(pickup_ready);
	evtimer_assign(&pickup.lock_timer, loop_base(), pickup_lock, NULL);
	pickup_lock(-1, 0, NULL);
}

/* Finish what is on its way; take nothing new. */
static void
pickup_retire(void)
{
	struct drop *d, *next;

	dir_stop();
	for (d = pickup.drops; d != NULL; d = next) {
		next = d->next;
		if (d->wait == WAIT_SLOT)
			drop_free(d);
	}
	pickup_ready();
}

static void
pickup_status(struct buf *b)
{
	(void)buf_printf(b, "taken %llu\nreturned %llu\nremoved %llu\n"
	    "in_work %u\n", (unsigned long long)pickup.taken,
	    (unsigned long long)pickup.returned,
	    (unsigned long long)pickup.removed, pickup.n_drops);
}

static const struct role_def pickup_def = {
	.kind = ROLE_PICKUP,
	.jail.allow = JAIL_MAILDROP,
	.load = pickup_load,
	.start = pickup_start,
	.peer = pickup_peer,
	.retire = pickup_retire,
	.status = pickup_status,
};

int
main(int argc, char **argv)
{
	return role_main(&pickup_def, argc, argv);
}
