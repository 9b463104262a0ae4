/*
 * The role filter: judges the texts that qmgr sends by descriptor.  It has no
 * files, no sockets and no state between messages but its rules.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <sys/queue.h>

#include "filters/engine.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/role.h"
#include "lib/table_client.h"
#include "rules/table_ask.h"

/*
 * pread() into memory that is there already is cheaper than mmap() with its
 * page faults and munmap(): 0.4 us to 6 at 4 KB, 62 to 98 at 1 MB.  Memory for
 * more is not kept.
 */
#define READ_MAX	(1u << 20)
/* A file that is no memfd could shrink while it is mapped: read, up to here. */
#define READ_FILE_MAX	(16u << 20)
#define KEEP_MAX	READ_MAX
#define ENVELOPE_MEMORY	(1u << 20)
#define SEALS		(F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)

/*
 * A message whose rewriting needs answers of tables behind connections: each
 * one is asked for, then the message is judged anew.  Others are judged
 * meanwhile.
 */
struct asking {
	struct chan *chan;
	int fd;
	uint64_t id, offset, size;
	struct view encoded;	/* the envelope; ours */
	char name[MESSAGE_NAME];	/* envelope.name; "": none */
	struct table_known *known;
	struct table_asking *asked;
	bool unchecked;
	bool rehearsed;		/* what can be known beforehand is */
	TAILQ_ENTRY(asking) link;
};

/* A process has one role, so this is as static as its text. */
static struct {
	struct engine *engine;
	struct event keeper;	/* of processes that scan */
	struct arena *arena;
	struct buf text, reply;
	uint32_t parts;		/* judgements in reply */
	bool too_much;		/* for one */
	dev_t memfd_dev;	/* where memfds live */
	size_t peers;
	TAILQ_HEAD(, asking) asking;
	struct asking *now;	/* being judged; NULL: no such tables */
	uint64_t id;		/* being judged */
	char name[MESSAGE_NAME];	/* in the log */
	uint64_t messages, bytes, rejected, discarded, held;
} filter;

static const char *
filter_describe(void *arg)
{
	static char text[MESSAGE_NAME + 16];
	struct buf b = { .p = text, .cap = sizeof text, .max = sizeof text };

	(void)arg;
	if (filter.id == 0)
		return "idle";
	(void)buf_puts(&b, "judging ");
	(void)buf_puts(&b, filter.name);
	return buf_cstr(&b);
}

static void
filter_report(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		log_error("%s", text);
	else
		log_warn("%s", text);
}

/*
 * Every memfd is on one device of the kernel's own; a spool on a tmpfs is on
 * another, so the two can be told apart.
 */
static dev_t
filter_memfd_dev(void)
{
	int fd = memfd_create("probe", MFD_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0)
		fatal("memfd_create: %s", strerror(errno));
	(void)close(fd);
	return st.st_dev;
}

static void
filter_on_keeper(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	scanner_heard(arg);
}

static void
filter_start(void)
{
	struct scanner *s = engine_scanner(filter.engine);

	if (s == NULL || scanner_fd(s) < 0)
		return;
	event_assign(&filter.keeper, loop_base(), scanner_fd(s),
	    EV_READ | EV_PERSIST, filter_on_keeper, s);
	event_add(&filter.keeper, NULL);
}

static void
filter_load(void)
{
	tzset();
	filter.engine = engine_open_apart(role_conf(), role_jail,
	    filter_report, NULL);
	if (filter.engine == NULL)
		fatal("content rules cannot be used");
	filter.memfd_dev = filter_memfd_dev();
	filter.arena = arena_new(ENVELOPE_MEMORY +
	    EDITS_MAX * sizeof(struct edit));
	buf_init(&filter.text, READ_FILE_MAX);
	buf_init(&filter.reply, CHAN_MSG_MAX - 64);
	log_context(filter_describe, NULL);
	TAILQ_INIT(&filter.asking);
	table_client_init(ROLE_FILTER, role_conf()->lookup_table_time_limit);
}

enum text_kind { TEXT_REFUSED = 0, TEXT_SEALED, TEXT_FILE };

/*
 * What may be judged: a memfd only when nobody can change it any more, a
 * file as qmgr opened it.
 */
static enum text_kind
filter_text_kind(int fd, uint64_t offset, uint64_t size)
{
	struct stat st;
	int seals;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < 0 ||
	    (uint64_t)st.st_size < offset ||
	    (uint64_t)st.st_size - offset < size)
		return TEXT_REFUSED;
	if (st.st_dev != filter.memfd_dev)
		return (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY ?
		    TEXT_FILE : TEXT_REFUSED;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & SEALS) != SEALS)
		return TEXT_REFUSED;
	return TEXT_SEALED;
}

static bool
filter_read(int fd, uint64_t offset, size_t size, struct view *ret)
{
	size_t n = 0;
	ssize_t got;

	buf_clear(&filter.text);
	if (size > 0 && buf_room(&filter.text, size) == NULL)
		return false;
	while (n < size) {
		got = pread(fd, filter.text.p + n, size - n,
		    (off_t)(offset + n));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		n += (size_t)got;
	}
	*ret = view_make(filter.text.p, size);
	return true;
}

static void
filter_count(const struct judgement *j)
{
	if (j->verdict.action == ACTION_REJECT)
		filter.rejected++;
	else if (j->verdict.action == ACTION_DISCARD)
		filter.discarded++;
	else if (j->verdict.action == ACTION_HOLD)
		filter.held++;
}

static void
filter_begin_answer(void)
{
	buf_clear(&filter.reply);
	filter.parts = 0;
	filter.too_much = false;
}

/* The judgement for some recipients, or for all: engine_judge_each(). */
static void
filter_part(const uint32_t *rcpts, uint32_t n, const struct judgement *j,
    void *arg)
{
	struct buf *b = &filter.reply;
	uint32_t size, i;
	size_t at;
	bool ok = put_u32(b, n);

	(void)arg;
	for (i = 0; ok && i < n; i++)
		ok = put_u32(b, rcpts[i]);
	at = b->n;
	ok = ok && put_u32(b, 0) && judgement_put(b, j);
	if (!ok) {
		filter.too_much = true;
		return;
	}
	size = (uint32_t)(b->n - at - 4);
	for (i = 0; i < 4; i++)
		b->p[at + i] = (char)(size >> 8 * i);
	filter.parts++;
	filter_count(j);
}

static void
filter_send(struct chan *c)
{
	struct buf *b = chan_begin(c, MSG_FILTERED);

	put_u64(b, filter.id);
	put_u32(b, filter.parts);
	(void)buf_putv(b, buf_view(&filter.reply));
	chan_end(c);
	filter.messages++;
}

/* One for all. */
static void
filter_answer(struct chan *c, const struct judgement *j)
{
	filter_begin_answer();
	filter_part(NULL, 0, j, NULL);
	ensure(filter.parts == 1);
	filter_send(c);
}

static void
filter_answer_too_much(struct chan *c)
{
	struct judgement j = { .verdict = { .action = ACTION_REJECT,
		.code = 451, .status = view_of("4.3.0"), .text = view_of(
		"Error: too many different copies of the message") } };

	log_warn("%s: too many different copies -- message not accepted, "
	    "try again later", filter.name);
	filter_answer(c, &j);
}

/* The text cannot be read: not the message's fault, so try again later. */
static void
filter_answer_failure(struct chan *c, const char *why)
{
	struct judgement j = { .verdict = { .action = ACTION_REJECT,
		.code = 451, .status = view_of("4.3.0"),
		.text = view_of("Error: queue file read error") } };

	log_error("%s: text: %s", filter.name, why);
	filter_answer(c, &j);
}

/* What a filter that ends here would be blamed for: see qmgr_filter.c. */
static void
asking_waits(struct asking *a, bool waits)
{
	struct buf *b = chan_begin(a->chan, MSG_FILTER_WAITS);

	put_u64(b, a->id);
	put_u8(b, waits);
	chan_end(a->chan);
}

static void filter_again(struct asking *a);

static void
asking_told(void *arg)
{
	struct asking *a = arg;

	a->asked = NULL;
	asking_waits(a, false);
	filter_again(a);
}

/* True: the tables it was judged with did not know all; they are asked. */
static bool
asking_needs(struct asking *a)
{
	struct table_need need;

	if (!table_known_end(a->known, &need))
		return false;
	a->asked = table_ask_all(a->known, asking_told, a);
	return true;
}

/*
 * The rehearsal finds what rewriting needs without a word in the log; only
 * what rules add on the way can be missing after that.
 */
static bool
filter_rehearse(struct view text, const struct envelope *env)
{
	struct queue_id id = { filter.id };
	struct asking *a = filter.now;

	if (a->rehearsed)
		return false;
	table_known_begin(a->known);
	engine_rehearse(filter.engine, text, env, id);
	a->rehearsed = !asking_needs(a);
	return !a->rehearsed;
}

static void
filter_judge(struct chan *c, struct view text, const struct envelope *env)
{
	struct queue_id id = { filter.id };
	struct asking *a = filter.now;

	if (a != NULL) {
		if (filter_rehearse(text, env))
			return;
		if (a->unchecked)
			engine_pass_next(filter.engine);
		table_known_begin(a->known);
	}
	filter_begin_answer();
	engine_judge_each(filter.engine, text, env, id, filter_part, NULL,
	    filter.arena);
	if (a != NULL && asking_needs(a))
		return;
	filter.bytes += text.n;
	if (filter.too_much)
		filter_answer_too_much(c);
	else
		filter_send(c);
}

/* mmap() wants a whole page to begin with; size is not 0. */
static void
filter_judge_mapped(struct chan *c, int fd, uint64_t offset, size_t size,
    const struct envelope *env)
{
	size_t skip = (size_t)(offset % (uint64_t)sysconf(_SC_PAGESIZE));
	char *map = mmap(NULL, skip + size, PROT_READ, MAP_PRIVATE, fd,
	    (off_t)(offset - skip));

	if (map == MAP_FAILED) {
		filter_answer_failure(c, strerror(errno));
		return;
	}
	(void)madvise(map, skip + size, MADV_SEQUENTIAL);
	filter_judge(c, view_make(map + skip, size), env);
	(void)munmap(map, skip + size);
}

static void
filter_message(struct chan *c, int fd, uint64_t offset, uint64_t size,
    const struct envelope *env)
{
	enum text_kind kind = filter_text_kind(fd, offset, size);
	struct queue_id id = { filter.id };
	struct view text;

	(void)envelope_name(env, id, filter.name);
	/* If this text ends the process, it is not to be lost what is known
	 * of others, or one of them would be blamed. */
	chan_drain(c);
	if (kind == TEXT_REFUSED) {
		chan_blame(c, "text that can be changed, or is shorter than "
		    "said");
	} else if (size > (kind == TEXT_SEALED ? READ_MAX : READ_FILE_MAX)) {
		filter_judge_mapped(c, fd, offset, (size_t)size, env);
	} else {
		if (!filter_read(fd, offset, (size_t)size, &text))
			filter_answer_failure(c, "cannot be read");
		else
			filter_judge(c, text, env);
		if (filter.text.cap > KEEP_MAX)
			buf_free(&filter.text);
	}
}

static void
asking_free(struct asking *a)
{
	char *encoded = (char *)(uintptr_t)a->encoded.p;

	TAILQ_REMOVE(&filter.asking, a, link);
	table_ask_cancel(&a->asked);
	table_known_free(&a->known);
	(void)close(a->fd);
	free(encoded);
	free(a);
}

static void
filter_again(struct asking *a)
{
	struct envelope env;

	arena_reset(filter.arena);
	/* It could be read before. */
	ensure(envelope_get(a->encoded, filter.arena, &env));
	env.name = view_of(a->name);
	filter.id = a->id;
	filter.now = a;
	filter_message(a->chan, a->fd, a->offset, a->size, &env);
	filter.id = 0;
	filter.now = NULL;
	if (a->asked == NULL)
		asking_free(a);
	else
		asking_waits(a, true);
}

/* With tables behind connections: m is kept until all is known. */
static void
filter_keep(struct chan *c, struct chan_in *m, uint64_t id, uint64_t offset,
    uint64_t size, struct view encoded, struct view name, bool unchecked)
{
	struct asking *a = mem_alloc(sizeof *a);

	a->chan = c;
	a->fd = m->fd[0];
	m->fd[0] = -1;
	a->id = id;
	a->offset = offset;
	a->size = size;
	a->encoded = view_make(mem_copy(encoded), encoded.n);
	memcpy(a->name, name.p, name.n);
	a->unchecked = unchecked;
	a->known = table_known_gather();
	TAILQ_INSERT_TAIL(&filter.asking, a, link);
	filter_again(a);
}

static void
filter_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct envelope env;
	struct view encoded, name = { "", 0 };
	uint64_t id, offset, size;
	bool unchecked;

	(void)arg;
	id = cursor_u64(&m->body);
	offset = cursor_u64(&m->body);
	size = cursor_u64(&m->body);
	unchecked = cursor_u8(&m->body) != 0;
	encoded = cursor_view(&m->body);
	if (chan_peer(c) == ROLE_PMILTER)
		name = cursor_view(&m->body);
	if (!chan_check(c, m))
		return;
	arena_reset(filter.arena);
	if (m->type != MSG_FILTER || id == 0 ||
	    (chan_peer(c) == ROLE_PMILTER && !envelope_name_good(name)) ||
	    !envelope_get(encoded, filter.arena, &env)) {
		chan_blame(c, "bad envelope");
		return;
	}
	env.name = name;
	if (table_remote_opened() > 0) {
		filter_keep(c, m, id, offset, size, encoded, name,
		    unchecked);
		return;
	}
	/* It was in line too long. */
	if (unchecked)
		engine_pass_next(filter.engine);
	filter.id = id;
	filter_message(c, m->fd[0], offset, size, &env);
	filter.id = 0;
}

static void
filter_leave(void)
{
	if (role_phase() == PHASE_RETIRING && filter.peers == 0)
		role_exit();
}

static void
filter_on_close(struct chan *c, void *arg)
{
	struct asking *a, *next;

	(void)arg;
	for (a = TAILQ_FIRST(&filter.asking); a != NULL; a = next) {
		next = TAILQ_NEXT(a, link);
		/* Not the one whose judging has just found that. */
		if (a->chan == c && a != filter.now)
			asking_free(a);
	}
	chan_free(&c);
	filter.peers--;
	filter_leave();
}

static void
filter_peer(const struct role_peer *peer, int fd)
{
	if (peer->kind == ROLE_TABLE) {
		table_client_peer(peer, fd);
		return;
	}
	(void)chan_new(fd, ROLE_FILTER, peer->kind, peer->pid, filter_on_msg,
	    filter_on_close, NULL);
	filter.peers++;
}

static void
filter_scan_status(struct buf *b)
{
	const struct scanner *s = engine_scanner(filter.engine);
	struct scanner_cost c;

	if (s == NULL)
		return;
	c = scanner_cost(s);
	buf_printf(b, "scanned %llu\nscans_failed %llu\nscan_cpu_ms %llu\n"
	    "scan_peak_kb %llu\n", (unsigned long long)c.started,
	    (unsigned long long)c.failed,
	    (unsigned long long)c.cpu_us / 1000,
	    (unsigned long long)c.rss_kb);
}

static void
filter_status(struct buf *b)
{
	buf_printf(b, "messages %llu\nbytes %llu\nrejected %llu\n"
	    "discarded %llu\nheld %llu\nsoftened %llu\n",
	    (unsigned long long)filter.messages,
	    (unsigned long long)filter.bytes,
	    (unsigned long long)filter.rejected,
	    (unsigned long long)filter.discarded,
	    (unsigned long long)filter.held,
	    (unsigned long long)engine_softened(filter.engine));
	filter_scan_status(b);
}

int
main(int argc, char **argv)
{
	static const struct role_def def = {
		.kind = ROLE_FILTER,
		.jail = { .allow = 0 },
		.load = filter_load,
		.start = filter_start,
		.peer = filter_peer,
		/* Messages are judged as they come; qmgr ends the channel. */
		.retire = filter_leave,
		.status = filter_status,
	};

	return role_main(&def, argc, argv);
}
