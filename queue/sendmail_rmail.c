/*
 * rmail: what uuxqt runs for mail that came by UUCP.  The sender stands in
 * lines before the message (RFC 976 section 2.2):
 *
 *	"From" SP sender SP date [SP "remote from" SP host]
 *
 * with ">From" for those of hosts before.  Each host named is one of the way
 * back: host!host!sender.
 */
#include <errno.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/log.h"
#include "queue/sendmail.h"
#include "queue/submit.h"

#define FROM_LINE_MAX	2048u
#define FROM_LINES_MAX	100u

/* One line, with its end if it has one; false: there is none. */
static bool
rmail_line(struct buf *line)
{
	ssize_t n;
	char c;

	/* No byte of the message may be taken: it is for others to read. */
	buf_clear(line);
	for (;;) {
		n = read(STDIN_FILENO, &c, 1);
		if (n < 0 && errno == EINTR && !submit_stopped())
			continue;
		if (n < 0)
			submit_fail(EX_IOERR, "%s", strerror(errno));
		if (n == 0)
			return line->n > 0;
		if (!buf_putv(line, view_make(&c, 1)) || c == '\n')
			return true;
		/* As soon as it can be no such line. */
		if (line->n <= 6 && memcmp(line->p, ">From ", line->n) != 0 &&
		    (line->n > 5 || memcmp(line->p, "From ", line->n) != 0) &&
		    memcmp(line->p, "From ", line->n < 5 ? line->n : 5) != 0)
			return true;
	}
}

/* The sender of a line; a quoted one may have spaces. */
static struct view
rmail_user(struct view rest)
{
	bool quoted = false;
	size_t i;

	while (rest.n > 0 && rest.p[0] == ' ')
		rest = view_from(rest, 1);
	for (i = 0; i < rest.n && (quoted || (rest.p[i] != ' ' &&
	    rest.p[i] != '\t')); i++) {
		if (rest.p[i] == '"')
			quoted = !quoted;
		else if (rest.p[i] == '\\' && i + 1 < rest.n)
			i++;
	}
	return view_head(rest, i);
}

/* Where it came from; empty: not said. */
static struct view
rmail_host(struct view rest)
{
	static const char words[] = " remote from ";
	const size_t n = sizeof words - 1;
	size_t i;

	for (i = 0; i + n < rest.n; i++)
		if (memcmp(rest.p + i, words, n) == 0)
			return view_trim(view_from(rest, i + n));
	return view_make("", 0);
}

void
rmail_begin(struct sendmail *s)
{
	static struct buf line, path, user;
	struct view rest, host;
	unsigned n = 0;
	bool more;

	buf_init(&line, FROM_LINE_MAX);
	buf_init(&path, 2 * ADDRESS_MAX);
	buf_init(&user, ADDRESS_MAX);
	while ((more = rmail_line(&line)) && n++ < FROM_LINES_MAX) {
		rest = buf_view(&line);
		if (rest.n > 0 && rest.p[0] == '>')
			rest = view_from(rest, 1);
		if (!view_is(view_head(rest, 5), "From "))
			break;
		rest = view_trim(view_from(rest, 5));
		host = rmail_host(rest);
		buf_clear(&user);
		if (!buf_putv(&user, rmail_user(rest)) || (host.n > 0 &&
		    (!buf_putv(&path, host) || !buf_puts(&path, "!"))))
			submit_fail(EX_DATAERR, "the way back is too long");
		buf_clear(&line);
	}
	if (user.n == 0)
		submit_fail(EX_DATAERR, "no \"From \" line before the "
		    "message");
	/* A notice: nobody is to answer it. */
	if (view_is_nocase(buf_view(&user), "mailer-daemon") ||
	    view_is(buf_view(&user), "<>"))
		buf_clear(&path);
	else if (!buf_putv(&path, buf_view(&user)))
		submit_fail(EX_DATAERR, "the way back is too long");
	s->sender = buf_cstr(&path);
	s->ahead = more ? buf_view(&line) : view_make("", 0);
	s->dot_is_text = true;
}
