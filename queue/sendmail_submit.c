#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/address_list.h"
#include "lib/log.h"
#include "queue/sendmail.h"
#include "queue/submit.h"

#define PIECE		65536u
#define HEADER_MAX	(1u << 20)	/* kept to look for recipients */

/* -- who ------------------------------------------------------------------- */

const char *
sendmail_user(void)
{
	struct passwd *pw = getpwuid(getuid());

	if (pw == NULL)
		submit_fail(EX_OSERR, "unable to find out your login name");
	return pw->pw_name;
}

const char *
sendmail_full_name(const struct sendmail *s)
{
	static char name[MAILDROP_FULL_NAME_MAX + 1];
	const struct passwd *pw;
	const char *p;
	size_t n = 0, k;

	if (s->full_name != NULL)
		return s->full_name;
	p = getenv("NAME");
	if (p != NULL && p[0] != '\0')
		return p;
	pw = getpwuid(getuid());
	if (pw == NULL)
		return "";
	/* The first part of the field; "&" stands for the login name. */
	for (p = pw->pw_gecos; *p != '\0' && *p != ','; p++) {
		k = *p == '&' ? strlen(pw->pw_name) : 1;
		if (n + k >= sizeof name)
			break;
		memcpy(name + n, *p == '&' ? pw->pw_name : p, k);
		if (*p == '&')
			name[n] = (char)toupper((unsigned char)name[n]);
		n += k;
	}
	name[n] = '\0';
	return name;
}

struct one {
	struct buf *out;
	unsigned n;
};

static bool
one_address(struct view addr, void *arg)
{
	struct one *o = arg;

	if (o->n++ == 0)
		(void)buf_putv(o->out, addr);
	return true;
}

bool
sendmail_one_address(struct view text, struct buf *out)
{
	struct one o = { out, 0 };
	struct view bad;

	text = view_trim(text);
	if (text.n == 0 || view_is(text, "<>"))
		return true;
	return address_list_read(text, one_address, &o, &bad) ==
	    ADDRESS_LIST_OK && o.n == 1;
}

/* -- one message ----------------------------------------------------------- */

/* A name is decoration: what cannot stand in a record becomes a space. */
static void
put_full_name(struct buf *records, struct view name)
{
	char clean[MAILDROP_FULL_NAME_MAX];
	size_t i;

	name = view_head(name, sizeof clean);
	for (i = 0; i < name.n; i++)
		clean[i] = (unsigned char)name.p[i] < ' ' ||
		    name.p[i] == 0x7f ? ' ' : name.p[i];
	if (name.n > 0)
		ensure(maildrop_put(records, MAILDROP_FULL_NAME,
		    view_make(clean, name.n)));
}

bool
submission_begin(struct submission *m, const struct sendmail *s,
    struct view sender, struct view full_name, struct view envid, char ret)
{
	*m = (struct submission){ .s = s };
	buf_init(&m->records, MAILDROP_ENVELOPE_MAX);
	if (!maildrop_put(&m->records, MAILDROP_SENDER, sender))
		return false;
	put_full_name(&m->records, full_name);
	if (s->body8)
		(void)maildrop_put(&m->records, MAILDROP_BODY, view_of("8"));
	if (s->requiretls)
		(void)maildrop_put(&m->records, MAILDROP_TLS, view_of("R"));
	if (ret != 0)
		(void)maildrop_put(&m->records, MAILDROP_RET,
		    view_make(&ret, 1));
	return envid.n == 0 ||
	    maildrop_put(&m->records, MAILDROP_ENVID, envid);
}

bool
submission_rcpt(struct submission *m, struct view addr, uint8_t notify,
    struct view orcpt)
{
	char bits = (char)('0' + notify);

	if (m->rcpts == ENVELOPE_RCPTS_MAX)
		return false;
	if (!maildrop_put(&m->records, MAILDROP_NOTIFY, view_make(&bits, 1)) ||
	    (orcpt.n > 0 &&
	    !maildrop_put(&m->records, MAILDROP_ORCPT, orcpt)) ||
	    !maildrop_put(&m->records, MAILDROP_RCPT, addr))
		return false;
	m->rcpts++;
	return true;
}

/* Run postdrop with a pipe to its standard input. */
static int
open_postdrop(struct submission *m, int *ret_fd, const char **ret_why)
{
	char *path = sendmail_program(m->s, "postdrop");
	char *words[4] = { mem_strdup("postdrop"), mem_strdup("-c"),
		mem_strdup(m->s->cf->config_directory), NULL };
	int ends[2];
	size_t i;

	if (pipe2(ends, O_CLOEXEC) != 0 || (m->pid = fork()) < 0) {
		*ret_why = strerror(errno);
		return EX_OSERR;
	}
	if (m->pid == 0) {
		if (dup2(ends[0], STDIN_FILENO) < 0)
			_exit(EX_OSERR);
		(void)execv(path, words);
		fprintf(stderr, "sendmail: fatal: %s: %s\n", path,
		    strerror(errno));
		_exit(EX_UNAVAILABLE);
	}
	(void)close(ends[0]);
	*ret_fd = ends[1];
	free(path);
	for (i = 0; words[i] != NULL; i++)
		free(words[i]);
	return EX_OK;
}

int
submission_open(struct submission *m, const char **ret_why)
{
	const struct conf *cf = m->s->cf;
	int dir = maildrop_open_directory(cf->queue_directory), fd = -1, rc;

	if (dir < 0) {
		*ret_why = strerror(errno);
		return EX_TEMPFAIL;
	}
	m->file.fd = -1;
	if (maildrop_writable(dir)) {
		rc = maildrop_file_make(&m->file, dir);
		if (rc != 0) {
			*ret_why = strerror(rc);
			(void)close(dir);
			return EX_TEMPFAIL;
		}
		fd = m->file.fd;
		memcpy(m->name, m->file.name, sizeof m->name);
	} else {
		(void)close(dir);
		rc = open_postdrop(m, &fd, ret_why);
		if (rc != EX_OK)
			return rc;
	}
	maildrop_write_begin(&m->writer, fd, buf_view(&m->records));
	m->open = true;
	return EX_OK;
}

/* What postdrop has to say stands on standard error already. */
static int
wait_postdrop(struct submission *m, const char **ret_why)
{
	int status;
	pid_t pid;

	(void)close(m->writer.fd);
	do
		pid = waitpid(m->pid, &status, 0);
	while (pid < 0 && errno == EINTR);
	m->pid = 0;
	*ret_why = "postdrop did not take the message";
	if (pid < 0 || !WIFEXITED(status))
		return EX_SOFTWARE;
	return WEXITSTATUS(status);
}

int
submission_text(struct submission *m, struct view text, const char **ret_why)
{
	uint64_t limit = (uint64_t)m->s->cf->message_size_limit;
	int rc;

	m->text += text.n;
	if (limit > 0 && m->text > limit) {
		*ret_why = "message file too big";
		return EX_DATAERR;
	}
	maildrop_write(&m->writer, text);
	if (m->writer.error == 0)
		return EX_OK;
	*ret_why = strerror(m->writer.error);
	if (m->pid == 0)
		return EX_TEMPFAIL;
	/* postdrop ended before its input did. */
	m->open = false;
	maildrop_write_free(&m->writer);
	rc = wait_postdrop(m, ret_why);
	return rc != EX_OK ? rc : EX_SOFTWARE;
}
static void
close_file(struct submission *m)
{
	maildrop_file_drop(&m->file);
	(void)close(m->file.dir);
}

int
submission_end(struct submission *m, const char **ret_why)
{
	int rc;

	m->open = false;
	rc = maildrop_write_end(&m->writer);
	buf_free(&m->records);
	if (m->pid > 0)
		return wait_postdrop(m, ret_why);
	if (rc == 0)
		rc = maildrop_file_commit(&m->file);
	if (rc != 0) {
		*ret_why = strerror(rc);
		close_file(m);
		return EX_TEMPFAIL;
	}
	(void)close(m->file.dir);
	return EX_OK;
}

void
submission_drop(struct submission *m)
{
	const char *why;

	buf_free(&m->records);
	if (!m->open)
		return;
	m->open = false;
	maildrop_write_free(&m->writer);
	if (m->pid > 0) {
		/* Its input has no end, so it keeps nothing. */
		(void)kill(m->pid, SIGTERM);
		(void)wait_postdrop(m, &why);
	} else
		close_file(m);
}

/* -- -bm ------------------------------------------------------------------- */

/* Standard input, by lines as far as the header goes. */
struct input {
	struct submission *m;
	const struct sendmail *s;
	struct buf line;	/* the beginning of a line */
	struct buf header;	/* with -t, until it ends */
	bool in_header, first;
	bool begun;		/* a line came */
	bool in_line;		/* the rest of a long line */
	bool ended;		/* by a dot */
};

__attribute__((noreturn))
static void
input_fail(struct input *in, int status, const char *why)
{
	submission_drop(in->m);
	submit_fail(status, "%s(%u): %s", sendmail_user(), (unsigned)getuid(),
	    why);
}

static void
add_rcpt(struct view addr, void *arg)
{
	struct input *in = arg;

	if (!submission_rcpt(in->m, addr, in->s->notify, view_make("", 0)))
		input_fail(in, EX_DATAERR, in->m->rcpts == ENVELOPE_RCPTS_MAX ?
		    "too many recipients" : "a recipient is too long");
}

static bool
add_word(struct view addr, void *arg)
{
	add_rcpt(addr, arg);
	return true;
}

static void
input_rcpts(struct input *in)
{
	struct view bad;
	char **word;

	for (word = in->s->rcpts; *word != NULL; word++)
		if (address_list_read(view_of(*word), add_word, in, &bad) !=
		    ADDRESS_LIST_OK)
			submit_fail(EX_DATAERR, "bad recipient address: %s",
			    log_safe(view_of(*word)));
}

static void
input_text(struct input *in, struct view v)
{
	const char *why;
	int rc = submission_text(in->m, v, &why);

	if (rc != EX_OK)
		input_fail(in, rc, why);
}

/* The recipients are known: begin to write. */
static void
input_open(struct input *in)
{
	const char *why;
	int rc;

	if (in->s->from_header)
		sendmail_header_rcpts(buf_view(&in->header), add_rcpt, in);
	if (in->m->rcpts == 0)
		submit_fail(EX_USAGE, "%s", in->s->from_header ?
		    "No recipient addresses found in message header" :
		    "Recipient addresses must be specified on the command "
		    "line or via the -t option");
	rc = submission_open(in->m, &why);
	if (rc != EX_OK)
		submit_fail(rc, "%s/maildrop: %s",
		    in->s->cf->queue_directory, why);
	in->in_header = false;
	input_text(in, buf_view(&in->header));
	buf_free(&in->header);
}

/* A whole line, or the beginning of a long one; with its end if whole. */
static void
input_line(struct input *in, struct view line, bool whole)
{
	struct view bare = line;

	while (whole && bare.n > 0 && (bare.p[bare.n - 1] == '\n' ||
	    bare.p[bare.n - 1] == '\r'))
		bare.n--;
	if (!in->begun) {
		in->begun = true;
		/* A mailbox separator is no header. */
		if (view_starts_nocase(line, "From ") ||
		    view_starts_nocase(line, ">From ")) {
			in->begun = false;
			return;
		}
	}
	if (whole && !in->s->dot_is_text && view_is(bare, ".")) {
		in->ended = true;
		return;
	}
	if (in->in_header) {
		if (sendmail_is_header(bare, in->first)) {
			in->first = false;
			if (!buf_putv(&in->header, line))
				submit_fail(EX_DATAERR, "the header is over "
				    "%u bytes", HEADER_MAX);
			return;
		}
		input_open(in);
	}
	input_text(in, line);
}

static void
input_piece(struct input *in, struct view v)
{
	size_t n;
	bool whole;

	while (v.n > 0 && !in->ended) {
		n = view_find(v, '\n');
		whole = n < v.n;
		n += whole;
		if (in->in_line) {
			/* Of a line that was too long to be looked at. */
			if (in->in_header)
				submit_fail(EX_DATAERR, "a header line is "
				    "over %u bytes", PIECE);
			input_text(in, view_head(v, n));
			in->in_line = !whole;
		} else if (!buf_putv(&in->line, view_head(v, n))) {
			input_line(in, buf_view(&in->line), false);
			buf_clear(&in->line);
			in->in_line = true;
			continue;
		} else if (whole) {
			input_line(in, buf_view(&in->line), true);
			buf_clear(&in->line);
		}
		v = view_from(v, n);
	}
}

static void
input_all(struct input *in)
{
	static char piece[PIECE];
	ssize_t n;

	input_piece(in, in->s->ahead);
	while (!in->ended) {
		n = submit_stopped() ? 0 : read(STDIN_FILENO, piece, PIECE);
		if (submit_stopped())
			input_fail(in, EX_TEMPFAIL, "stopped by a signal");
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			input_fail(in, EX_IOERR, strerror(errno));
		if (n == 0)
			break;
		input_piece(in, view_make(piece, (size_t)n));
	}
	if (!in->ended && in->line.n > 0)
		input_line(in, buf_view(&in->line), true);
	if (in->in_header)
		input_open(in);
}

int
sendmail_submit(const struct sendmail *s)
{
	struct submission m;
	struct input in = { .m = &m, .s = s, .in_header = true,
		.first = true };
	struct buf sender;
	const char *why;
	int rc;

	submit_authorize(s->cf);
	buf_init(&sender, ADDRESS_MAX);
	if (s->sender == NULL)
		(void)buf_puts(&sender, sendmail_user());
	else if (!sendmail_one_address(view_of(s->sender), &sender))
		submit_fail(EX_USAGE, "bad sender address: %s",
		    log_safe(view_of(s->sender)));
	if (!submission_begin(&m, s, buf_view(&sender),
	    view_of(sendmail_full_name(s)),
	    view_of(s->envid != NULL ? s->envid : ""), s->ret))
		submit_fail(EX_USAGE, "bad sender address or envelope id");
	buf_init(&in.line, PIECE);
	buf_init(&in.header, HEADER_MAX);
	input_rcpts(&in);
	if (!s->from_header)
		input_open(&in);
	input_all(&in);
	rc = submission_end(&m, &why);
	if (rc != EX_OK)
		input_fail(&in, rc, why);
	buf_free(&in.line);
	buf_free(&in.header);
	buf_free(&sender);
	return EX_OK;
}
