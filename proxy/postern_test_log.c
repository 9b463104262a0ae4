/* postern test: the way of a message through the log. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/mem.h"
#include "proxy/postern_test.h"

#define READ_MAX	(64u << 20)	/* of the log, during a test */
#define BEFORE_MAX	(256u << 10)	/* of what was there before */
#define IDS_MAX		8u
#define ID_MAX		64u
#define PAUSE_US	20000

struct selftest_log {
	char *path;
	int fd;
	ino_t inode;
	off_t at;		/* read so far */
	struct buf text;	/* since the test began */
	struct buf before;
	size_t message;		/* in text: where the present message begins */
	bool full;
};

struct trail {
	struct {
		char id[ID_MAX];
		bool removed;
		size_t shown;	/* in text */
	} list[IDS_MAX];
	size_t n;
	size_t seen;		/* in text: lines looked at */
	unsigned sent, deferred, bounced, refused;
	char last[512];		/* what decided */
};

static bool
log_open_file(struct selftest_log *l)
{
	struct stat st;

	l->fd = open(l->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (l->fd < 0)
		return false;
	if (fstat(l->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(l->fd);
		l->fd = -1;
		return false;
	}
	l->inode = st.st_ino;
	l->at = st.st_size;
	return true;
}

static void
log_read_before(struct selftest_log *l)
{
	off_t from = l->at > BEFORE_MAX ? l->at - BEFORE_MAX : 0;
	char *to = buf_room(&l->before, BEFORE_MAX);
	ssize_t n = to != NULL ? pread(l->fd, to, (size_t)(l->at - from),
	    from) : 0;

	if (n > 0)
		l->before.n = (size_t)n;
}

struct selftest_log *
selftest_log_open(const struct conf *cf)
{
	static const char *const usual[] = { "/var/log/mail.log",
		"/var/log/maillog", "/var/log/mail", "/var/log/syslog",
		"/var/log/messages" };
	struct selftest_log *l = mem_alloc(sizeof *l);
	size_t i;

	l->fd = -1;
	if (cf->maillog_file[0] != '\0') {
		l->path = mem_strdup(cf->maillog_file);
		(void)log_open_file(l);
	}
	for (i = 0; cf->maillog_file[0] == '\0' && l->fd < 0 &&
	    i < sizeof usual / sizeof usual[0]; i++) {
		free(l->path);
		l->path = mem_strdup(usual[i]);
		(void)log_open_file(l);
	}
	if (l->fd < 0) {
		free(l->path);
		free(l);
		return NULL;
	}
	buf_init(&l->text, READ_MAX);
	buf_init(&l->before, BEFORE_MAX + 4096);
	log_read_before(l);
	return l;
}

void
selftest_log_free(struct selftest_log **lp)
{
	struct selftest_log *l = *lp;

	*lp = NULL;
	if (l == NULL)
		return;
	close(l->fd);
	buf_free(&l->text);
	buf_free(&l->before);
	free(l->path);
	free(l);
}

const char *
selftest_log_path(const struct selftest_log *l)
{
	return l->path;
}

/* What has come since; true: something has. */
static bool
log_more(struct selftest_log *l)
{
	struct stat st;
	bool some = false;
	ssize_t n;
	char *to;

	while (!l->full) {
		to = buf_room(&l->text, 65536);
		l->full = to == NULL;
		n = to != NULL ? pread(l->fd, to, 65536, l->at) : 0;
		if (n <= 0)
			break;
		l->text.n += (size_t)n;
		l->at += n;
		some = true;
	}
	/* A log that was rotated goes on in a new file. */
	if (!some && stat(l->path, &st) == 0 && st.st_ino != l->inode) {
		close(l->fd);
		if (log_open_file(l))
			l->at = 0;
		else
			l->full = true;
	}
	return some;
}

/* The next whole line at *at; false: there is none yet. */
static bool
log_line(const struct buf *b, size_t *at, struct view *ret)
{
	struct view rest = view_from(buf_view(b), *at);
	size_t n = view_find(rest, '\n');

	if (n == rest.n)
		return false;
	*ret = view_head(rest, n);
	*at += n + 1;
	return true;
}

static bool
has(struct view line, const char *what)
{
	return line.n > 0 && memmem(line.p, line.n, what, strlen(what)) !=
	    NULL;
}

/* -- the trail of a message ------------------------------------------------ */

/* Its id is the word in front of ": message-id=<...>". */
static void
trail_learn(struct trail *t, struct view line, const char *what,
    size_t start)
{
	const char *at = line.n > 0 ? memmem(line.p, line.n, what,
	    strlen(what)) : NULL;
	const char *from = at;
	struct view id;
	size_t i;

	if (at == NULL || t->n == IDS_MAX)
		return;
	while (from > line.p && from[-1] != ' ')
		from--;
	id = view_make(from, (size_t)(at - from));
	if (id.n == 0 || id.n >= ID_MAX)
		return;
	for (i = 0; i < t->n; i++)
		if (view_is(id, t->list[i].id))
			return;
	t->list[t->n].shown = start;
	snprintf(t->list[t->n++].id, ID_MAX, "%.*s", VIEW_ARGS(id));
}

static void
trail_judge(struct trail *t, size_t i, struct view line)
{
	const char *id = t->list[i].id;
	char ending[ID_MAX + 16];

	if (has(line, " status=sent "))
		t->sent++;
	else if (has(line, " status=deferred "))
		t->deferred++;
	else if (has(line, " status=bounced ") ||
	    has(line, " status=expired"))
		t->bounced++;
	else if (has(line, "reject: ") || has(line, ": discard: ") ||
	    has(line, ": hold: "))
		t->refused++;
	else {
		snprintf(ending, sizeof ending, "%s: removed", id);
		if (view_ends_nocase(line, view_of(ending)))
			t->list[i].removed = true;
		return;
	}
	snprintf(t->last, sizeof t->last, "%s", log_safe(view_head(line,
	    sizeof t->last - 1)));
}

/*
 * The lines that came since the last time; those of an id that is new now,
 * from where the message was handed in.
 */
static void
trail_walk(struct trail *t, const struct selftest_log *l, const char *what)
{
	char mark[ID_MAX + 4];
	struct view line;
	size_t i;

	while (log_line(&l->text, &t->seen, &line))
		trail_learn(t, line, what, l->message);
	for (i = 0; i < t->n; i++) {
		snprintf(mark, sizeof mark, " %s: ", t->list[i].id);
		while (log_line(&l->text, &t->list[i].shown, &line))
			if (has(line, mark)) {
				printf("    log: %s\n", log_safe(line));
				trail_judge(t, i, line);
			}
	}
}

static bool
trail_ended(const struct trail *t)
{
	size_t i;

	if (t->deferred > 0 || t->refused > 0)
		return true;
	for (i = 0; i < t->n; i++)
		if (!t->list[i].removed)
			return false;
	return t->n > 0;
}

static void
trail_tell(struct selftest *s, const struct trail *t)
{
	const char *path = s->log->path;

	if (t->n == 0)
		selftest_mark(s, MARK_FAILED, path, "the log does not name "
		    "the message <%s> within %lld s", s->message_id,
		    (long long)(s->limit_ms / 1000));
	else if (t->refused > 0)
		selftest_mark(s, MARK_FAILED, path, "refused or kept back by "
		    "a rule: %s", t->last);
	else if (t->bounced > 0)
		selftest_mark(s, MARK_FAILED, path, "returned: %s", t->last);
	else if (t->deferred > 0)
		selftest_mark(s, MARK_FAILED, path, "it could not be "
		    "delivered yet and waits in the queue as %s; `postern "
		    "delete %s` takes it back: %s", t->list[t->n - 1].id,
		    t->list[t->n - 1].id, t->last);
	else if (!trail_ended(t))
		selftest_mark(s, MARK_FAILED, path, "not delivered within "
		    "%lld s; it is in the queue as %s",
		    (long long)(s->limit_ms / 1000), t->list[t->n - 1].id);
	else if (t->sent > 0)
		selftest_mark(s, MARK_OK, NULL, "delivered: message %s left "
		    "the queue", t->list[t->n - 1].id);
	else
		selftest_mark(s, MARK_NOTE, path, "it left the queue without "
		    "a delivery");
}

void
selftest_log_follow(struct selftest *s)
{
	struct mono end = { clock_mono().us + s->limit_ms * 1000 };
	struct trail *t = mem_alloc(sizeof *t);
	char *what;

	if (s->log == NULL) {
		selftest_mark(s, MARK_NOT_DONE, NULL, "no log file can be "
		    "read: look for <%s> where syslog writes",
		    s->message_id);
		free(t);
		return;
	}
	what = mem_printf(": message-id=<%s>", s->message_id);
	t->seen = s->log->message;
	do {
		if (log_more(s->log))
			trail_walk(t, s->log, what);
		if (trail_ended(t))
			break;
		usleep(PAUSE_US);
	} while (mono_since(clock_mono(), end) > 0);
	trail_tell(s, t);
	s->log->message = s->log->text.n;
	free(what);
	free(t);
}

/* -- what it says of itself ------------------------------------------------ */

static bool
is_trouble(struct view line)
{
	return has(line, ": panic: ") || has(line, ": fatal: ") ||
	    has(line, ": error: ");
}

static unsigned
log_troubles(const struct buf *b, struct view *ret_last)
{
	struct view line;
	unsigned n = 0;
	size_t at = 0;

	while (log_line(b, &at, &line))
		if (is_trouble(line)) {
			*ret_last = line;
			n++;
		}
	return n;
}

static bool
log_wait(struct selftest *s, const char *what)
{
	struct mono end = { clock_mono().us + s->limit_ms * 1000 };

	do {
		if (has(buf_view(&s->log->text), what))
			return true;
		if (!log_more(s->log))
			usleep(PAUSE_US);
	} while (mono_since(clock_mono(), end) > 0);
	return false;
}

void
selftest_log_check(struct selftest *s)
{
	struct view last;
	unsigned n;

	selftest_title("The log");
	if (s->log == NULL) {
		selftest_mark(s, MARK_NOT_DONE, selftest_place(s, s->cf,
		    "maillog_file"), "no log file can be read");
		return;
	}
	/* The short sessions at least are there. */
	if (s->c->listen->n == 0)
		(void)log_more(s->log);
	else if (log_wait(s, "connect from "))
		selftest_mark(s, MARK_OK, NULL, "%s has the sessions of this "
		    "test", s->log->path);
	else
		selftest_mark(s, MARK_FAILED, selftest_place(s, s->cf,
		    "maillog_file"), "nothing about the sessions of this test "
		    "comes into %s", s->log->path);
	n = log_troubles(&s->log->text, &last);
	if (n > 0)
		selftest_mark(s, MARK_FAILED, s->log->path, "%u fatal or "
		    "error lines during the test, the last: %s", n,
		    log_safe(last));
	n = log_troubles(&s->log->before, &last);
	if (n > 0)
		selftest_mark(s, MARK_NOTE, s->log->path, "%u fatal or error "
		    "lines in its last %u KB, the last: %s", n,
		    BEFORE_MAX >> 10, log_safe(last));
}
