#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/header_watch.h"
#include "lib/log.h"
#include "lib/mail_date.h"
#include "queue/pickup.h"
#include "queue/pickup_text.h"

#define PIECE		32768u
#define LINK_AGE	60	/* seconds */
/* A limit may have been lowered since; beyond this it is no message, and would
 * only keep us busy. */
#define OVER_LIMIT_MAX	(INT64_C(256) << 20)
#define UNFINISHED_AGE	(86400 * 2)

/* -- may it be opened ------------------------------------------------------ */

/*
 * What is mounted on a name cannot be removed, so it would be taken again and
 * again.  st_dev tells that only where the kernel does not know mounts (before
 * Linux 5.8): files of an overlay have the number of the layer they are in,
 * which is not that of their directory.  name "": the directory itself.
 */
static bool
letter_mount(int dir, const char *name, uint64_t *ret_mount)
{
#ifdef STATX_MNT_ID
	struct statx x;

	if (statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT |
	    AT_EMPTY_PATH, STATX_MNT_ID, &x) == 0 &&
	    (x.stx_mask & STATX_MNT_ID) != 0) {
		*ret_mount = x.stx_mnt_id;
		return true;
	}
#endif
	(void)dir;
	(void)name;
	(void)ret_mount;
	return false;
}

static bool
letter_is_mounted(int dir, const char *name, const struct stat *st)
{
	uint64_t there, here;
	struct stat top;

	/* One that is gone by now is found to be when it is opened. */
	if (letter_mount(dir, "", &there))
		return letter_mount(dir, name, &here) && here != there;
	return fstat(dir, &top) != 0 || st->st_dev != top.st_dev;
}

/*
 * Nothing is opened that is not a regular file: to open a device can have
 * effects, to open a FIFO can wait.
 */
static enum letter_status
letter_look(const struct stat *st, const char **ret_why)
{
	time_t now = (time_t)(clock_wall().us / 1000000);

	if (!S_ISREG(st->st_mode)) {
		*ret_why = "not a regular file";
		return LETTER_STRANGE;
	}
	if ((st->st_mode & S_IRWXU) != S_IRWXU) {
		if (now - st->st_mtime < UNFINISHED_AGE)
			return LETTER_UNFINISHED;
		*ret_why = "never completed";
		return LETTER_MALFORMED;
	}
	return LETTER_OK;
}

static enum letter_status
letter_open_file(struct letter *l, int dir, const char *name,
    const struct conf *cf, const char **ret_why, uid_t *ret_uid)
{
	enum letter_status s;
	struct stat before, st;

	if (fstatat(dir, name, &before, AT_SYMLINK_NOFOLLOW) != 0)
		return LETTER_GONE;
	*ret_uid = before.st_uid;
	s = letter_look(&before, ret_why);
	if (s != LETTER_OK)
		return s;
	if (letter_is_mounted(dir, name, &before)) {
		*ret_why = "it is mounted there";
		return LETTER_STRANGE;
	}
	if (!maildrop_name_ok(view_of(name))) {
		*ret_why = "not a name that postdrop gives";
		return LETTER_STRANGE;
	}
	l->fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK |
	    O_CLOEXEC);
	if (l->fd < 0 && errno == ENOENT)
		return LETTER_GONE;
	if (l->fd < 0) {
		*ret_why = errno == EACCES ? "it cannot be read" :
		    "it cannot be opened";
		return LETTER_STRANGE;
	}
	/* What is open now is what was looked at. */
	if (fstat(l->fd, &st) != 0 || st.st_dev != before.st_dev ||
	    st.st_ino != before.st_ino || !S_ISREG(st.st_mode) ||
	    st.st_uid != before.st_uid) {
		*ret_why = "it was exchanged";
		return LETTER_STRANGE;
	}
	if (cf->message_size_limit > 0 &&
	    st.st_size > cf->message_size_limit + OVER_LIMIT_MAX) {
		*ret_why = "it is far over message_size_limit";
		return LETTER_MALFORMED;
	}
	l->uid = st.st_uid;
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	l->size = st.st_size;
	/* To refuse it would let others stop somebody's mail. */
	if (st.st_nlink > 1 && (time_t)(clock_wall().us / 1000000) -
	    st.st_ctime > LINK_AGE)
		log_warn("maildrop/%s: uid=%u: the file has %u links", name,
		    (unsigned)st.st_uid, (unsigned)st.st_nlink);
	return LETTER_OK;
}

/* -- what it says ---------------------------------------------------------- */

/*
 * Go through the file once.  The text is given to out in CRLF form, if there
 * is an out; false: *ret_why, or errno in *ret_error.
 */
struct passage {
	struct maildrop_reader reader;
	struct pickup_text text;
	struct header_watch watch;
	struct buf out;
	uint64_t size;		/* of the text in CRLF form */
	bool strict;		/* more than the limit is wrong */
};

static bool
passage_flush(struct passage *p, int to, uint64_t limit, uint64_t *at,
    int *ret_error)
{
	struct view v = buf_view(&p->out);
	ssize_t n;

	if (p->strict && p->size + p->out.n > limit)
		return false;
	if (p->size >= limit)
		v.n = 0;
	else
		v = view_head(v, (size_t)(limit - p->size < v.n ?
		    limit - p->size : v.n));
	p->size += p->out.n;
	while (to >= 0 && v.n > 0) {
		n = pwrite(to, v.p, v.n, (off_t)*at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			*ret_error = n < 0 ? errno : EIO;
			return false;
		}
		*at += (uint64_t)n;
		v = view_from(v, (size_t)n);
	}
	buf_clear(&p->out);
	return true;
}

/* to: -1 or where to write.  False: malformed, or *ret_error. */
static bool
passage_run(struct passage *p, const struct letter *l, int to, uint64_t limit,
    uint64_t *at, int *ret_error)
{
	enum maildrop_event e = MAILDROP_MORE;
	char piece[PIECE];
	off_t offset = 0;
	struct view in, text;
	bool ended = false;
	ssize_t n;

	for (;;) {
		/* Its owner may go on to write: he shall not keep us here. */
		n = l->size - offset < (off_t)sizeof piece ?
		    (ssize_t)(l->size - offset) : (ssize_t)sizeof piece;
		n = pread(l->fd, piece, (size_t)n, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			*ret_error = errno;
			return false;
		}
		if (n == 0)
			break;
		offset += n;
		in = view_make(piece, (size_t)n);
		while ((e = maildrop_read(&p->reader, &in, &text)) !=
		    MAILDROP_MORE) {
			if (e == MAILDROP_BAD)
				return false;
			ended = ended || e == MAILDROP_END;
			if (e != MAILDROP_TEXT)
				continue;
			pickup_text_put(&p->text, text, &p->out);
			header_watch_feed(&p->watch, buf_view(&p->out));
			if (!passage_flush(p, to, limit, at, ret_error))
				return false;
		}
	}
	if (!ended) {
		p->reader.why = "it has no end";
		return false;
	}
	pickup_text_end(&p->text, &p->out);
	header_watch_feed(&p->watch, buf_view(&p->out));
	return passage_flush(p, to, limit, at, ret_error);
}

static void
passage_init(struct passage *p, const struct conf *cf)
{
	p->size = 0;
	p->strict = false;
	maildrop_reader_init(&p->reader);
	header_watch_init(&p->watch);
	pickup_text_init(&p->text, cf->cleanup_replace_stray_cr_lf);
	buf_init(&p->out, 2 * PIECE + 16);
}

static void
passage_free(struct passage *p)
{
	maildrop_reader_free(&p->reader);
	buf_free(&p->out);
}

/* -- the envelope ---------------------------------------------------------- */

/* "host!user" is user@host, "user" is user@myorigin. */
static bool
letter_complete(struct letter *l, struct view *addr, const struct conf *cf)
{
	struct view origin = view_of(cf->myorigin), bare, domain;
	size_t bang;
	char *p;

	if (addr->n == 0 || view_find(*addr, '@') < addr->n)
		return true;
	bare = *addr;
	domain = origin;
	bang = view_find(*addr, '!');
	if (cf->swap_bangpath && bang + 1 < addr->n &&
	    address_valid_hostname(view_head(*addr, bang))) {
		domain = view_head(*addr, bang);
		bare = view_from(*addr, bang + 1);
	}
	if (bare.n + 1 + domain.n > ADDRESS_MAX)
		return false;
	p = arena_alloc(l->arena, bare.n + 1 + domain.n);
	memcpy(p, bare.p, bare.n);
	p[bare.n] = '@';
	memcpy(p + bare.n + 1, domain.p, domain.n);
	*addr = view_make(p, bare.n + 1 + domain.n);
	return true;
}

struct seen {
	struct view *place;
	size_t size;		/* a power of two */
};

/* Local parts with the case as it is: some systems tell them apart. */
static bool
seen_before(struct seen *s, struct view addr)
{
	struct view domain = address_domain(addr), have, local;
	uint64_t h = 14695981039346656037u;
	size_t i;

	for (i = 0; i < addr.n; i++)
		h = (h ^ (uint64_t)tolower((unsigned char)addr.p[i])) *
		    1099511628211u;
	local = address_local(addr);
	for (i = (size_t)(h & (s->size - 1)); s->place[i].n > 0;
	    i = (i + 1) & (s->size - 1)) {
		have = s->place[i];
		if (view_eq(address_local(have), local) &&
		    view_eq_nocase(address_domain(have), domain))
			return true;
	}
	s->place[i] = addr;
	return false;
}

/* duplicate_filter_limit: so many are remembered. */
static void
letter_drop_duplicates(struct letter *l, const struct conf *cf)
{
	struct seen s = { .size = 16 };
	uint32_t i, n = 0, known = 0;

	while (s.size < 2 * (size_t)l->env.nrcpts)
		s.size *= 2;
	s.place = mem_array(s.size, sizeof *s.place);
	for (i = 0; i < l->env.nrcpts; i++) {
		if (known < (uint64_t)cf->duplicate_filter_limit) {
			if (seen_before(&s, l->env.rcpts[i].addr))
				continue;
			known++;
		}
		l->env.rcpts[n++] = l->env.rcpts[i];
	}
	l->env.nrcpts = n;
	free(s.place);
}

/* What qmgr would refuse would end this process, again and again: no user
 * shall be able to do that. */
static bool
letter_is_sound(struct letter *l)
{
	struct envelope e;
	struct buf b;
	bool ok;

	buf_init(&b, LETTER_ENVELOPE_MAX);
	ok = envelope_put(&b, &l->env) &&
	    envelope_get(buf_view(&b), l->arena, &e);
	buf_free(&b);
	return ok;
}

static bool
letter_envelope(struct letter *l, const struct conf *cf,
    struct buf *records, const char **ret_why)
{
	struct envelope *e = &l->env;
	uint32_t i;

	/* Twice: the domains that are added. */
	l->arena = arena_new(MAILDROP_ENVELOPE_MAX * 16 + 65536 +
	    ENVELOPE_RCPTS_MAX * (strlen(cf->myorigin) + 64));
	l->records = mem_copy(buf_view(records));
	if (!maildrop_envelope(view_make(l->records, records->n), l->arena, e,
	    ret_why))
		return false;
	l->sender = e->sender;
	*ret_why = "an address that is too long";
	if (!letter_complete(l, &e->sender, cf))
		return false;
	for (i = 0; i < e->nrcpts; i++)
		if (!letter_complete(l, &e->rcpts[i].addr, cf))
			return false;
	letter_drop_duplicates(l, cf);
	/* Nothing of this comes from the file. */
	e->flags = (e->flags & (ENVELOPE_8BIT | ENVELOPE_SMTPUTF8 |
	    ENVELOPE_REQUIRETLS)) | ENVELOPE_LOCAL;
	e->client_name = view_of("localhost");
	e->client_addr = view_of("127.0.0.1");
	e->proto = view_of("local");
	*ret_why = "records that make no envelope";
	return letter_is_sound(l);
}

void
letter_close(struct letter *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	arena_free(&l->arena);
	free(l->records);
	l->records = NULL;
}

enum letter_status
letter_open(struct letter *l, int dir, const char *name,
    const struct conf *cf, const char **ret_why, uid_t *ret_uid)
{
	enum letter_status s;
	struct passage p;
	uint64_t at = 0;
	int error = 0;

	*l = (struct letter){ .fd = -1 };
	*ret_why = NULL;
	s = letter_open_file(l, dir, name, cf, ret_why, ret_uid);
	if (s != LETTER_OK) {
		letter_close(l);
		return s;
	}
	memcpy(l->name, name, MAILDROP_NAME_DIGITS);
	passage_init(&p, cf);
	if (!passage_run(&p, l, -1, UINT64_MAX, &at, &error)) {
		*ret_why = error != 0 ? "it cannot be read" : p.reader.why;
		s = error != 0 ? LETTER_STRANGE : LETTER_MALFORMED;
	} else if (!letter_envelope(l, cf, &p.reader.records, ret_why))
		s = LETTER_MALFORMED;
	l->text_size = l->limit = p.size;
	if (p.text.eight_bit)
		l->env.flags |= ENVELOPE_8BIT;
	l->env.flags |= header_watch_flags(&p.watch) &
	    ((cf->requiretls_esmtp_header ? ENVELOPE_REQUIRETLS : 0u) |
	    (cf->tls_required_enable ? ENVELOPE_TLS_OPTIONAL : 0u));
	if (!cf->requiretls_enable)
		l->env.flags &= ~(uint32_t)ENVELOPE_REQUIRETLS;
	if (cf->message_size_limit > 0 &&
	    p.size > (uint64_t)cf->message_size_limit) {
		l->refusal = "5.3.4 message file too big";
		l->limit = REFUSED_TEXT_MAX;
		l->text_size = REFUSED_TEXT_MAX;
	}
	passage_free(&p);
	if (s != LETTER_OK)
		letter_close(l);
	return s;
}

bool
letter_write(struct letter *l, const struct conf *cf, struct queue_id id,
    int fd, uint64_t *ret_size, int *ret_error)
{
	char text[QUEUE_ID_TEXT];
	struct passage p;
	uint64_t at = 0;
	bool ok;

	*ret_error = 0;
	passage_init(&p, cf);
	(void)buf_printf(&p.out, "Received: by %s (%s, from userid %u)\r\n"
	    "\tid %s; ", cf->myhostname, cf->mail_name, (unsigned)l->uid,
	    queue_id_text(id, text));
	ok = mail_date_put(&p.out, clock_wall()) &&
	    buf_puts(&p.out, "\r\n") &&
	    passage_flush(&p, fd, UINT64_MAX, &at, ret_error);
	p.size = 0;
	p.strict = l->refusal == NULL;
	ok = ok && passage_run(&p, l, fd, l->limit, &at, ret_error);
	/* Its owner can still write to it. */
	if (ok && l->refusal == NULL && p.size != l->text_size)
		ok = false;
	passage_free(&p);
	if (ok)
		*ret_size = at;
	return ok;
}
