/*
 * postdrop: copies a message from its standard input into maildrop/.  Where
 * that directory has mode 1730 it is installed set-gid, and this is all the
 * privilege that a user's mail ever needs: to make a file there.  Nothing
 * from the input is used but to check it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/maildrop_file.h"
#include "queue/submit.h"

#define PIECE	65536u

struct copy {
	const struct conf *cf;
	struct maildrop_reader reader;
	struct maildrop_writer writer;
	struct maildrop_file file;
	gid_t borrowed;		/* the set-gid group */
	uint64_t text;
	bool begun, ended;
};

__attribute__((noreturn))
static void
copy_fail(struct copy *c, int status, const char *why)
{
	/* Only to remove what was made; a directory may need it. */
	if (setegid(c->borrowed) == 0 || c->file.fd >= 0)
		maildrop_file_drop(&c->file);
	submit_fail(status, "%s", why);
}

static void
copy_records(struct copy *c)
{
	struct view records = buf_view(&c->reader.records);
	struct arena *a = arena_new(MAILDROP_ENVELOPE_MAX * 16 + 65536);
	struct envelope e;
	const char *why;

	if (!maildrop_envelope(records, a, &e, &why))
		copy_fail(c, EX_DATAERR, why);
	arena_free(&a);
	maildrop_write_begin(&c->writer, c->file.fd, records);
	c->begun = true;
}

static void
copy_text(struct copy *c, struct view text)
{
	uint64_t limit = (uint64_t)c->cf->message_size_limit;

	c->text += text.n;
	if (limit > 0 && c->text > limit)
		copy_fail(c, EX_DATAERR, "message file too big");
	maildrop_write(&c->writer, text);
	if (c->writer.error != 0)
		copy_fail(c, EX_TEMPFAIL, strerror(c->writer.error));
}

static void
copy_input(struct copy *c, struct view in)
{
	struct view text;

	for (;;)
		switch (maildrop_read(&c->reader, &in, &text)) {
		case MAILDROP_MORE:
			return;
		case MAILDROP_RECORDS:
			copy_records(c);
			break;
		case MAILDROP_TEXT:
			copy_text(c, text);
			break;
		case MAILDROP_END:
			c->ended = true;
			break;
		case MAILDROP_BAD:
			copy_fail(c, EX_DATAERR, c->reader.why);
		}
}

static void
copy_all(struct copy *c)
{
	static char piece[PIECE];
	ssize_t n;
	int rc;

	for (;;) {
		n = submit_stopped() ? 0 : read(STDIN_FILENO, piece, PIECE);
		if (submit_stopped())
			copy_fail(c, EX_TEMPFAIL, "stopped by a signal");
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			copy_fail(c, EX_IOERR, strerror(errno));
		if (n == 0)
			break;
		copy_input(c, view_make(piece, (size_t)n));
	}
	if (!c->ended)
		copy_fail(c, EX_DATAERR, "the message is not complete");
	rc = maildrop_write_end(&c->writer);
	if (rc == 0)
		rc = maildrop_file_commit(&c->file);
	if (rc != 0)
		copy_fail(c, EX_TEMPFAIL, strerror(rc));
	maildrop_reader_free(&c->reader);
}

int
main(int argc, char **argv)
{
	struct copy c = { .borrowed = getegid() };
	const char *dir = NULL, *from = getenv("MAIL_CONFIG");
	char *config = from != NULL ? mem_strdup(from) : NULL;
	bool verbose = false;
	int ch, maildrop, rc;

	submit_safe_start();
	(void)clearenv();
	(void)setenv("PATH", "/usr/bin:/bin", 1);
	submit_name("postdrop");
	while ((ch = getopt(argc, argv, "c:rv")) != -1)
		switch (ch) {
		case 'c':
			dir = optarg;
			break;
		case 'r':
			break;		/* Postfix: wait for the reply */
		case 'v':
			verbose = true;
			break;
		default:
			submit_fail(EX_USAGE, "usage: postdrop [-rv] "
			    "[-c config_directory]");
		}
	c.cf = submit_conf(dir != NULL ? dir : config);
	submit_authorize(c.cf);
	maildrop = maildrop_open_directory(c.cf->queue_directory);
	if (maildrop < 0)
		submit_fail(EX_TEMPFAIL, "%s/maildrop: %s",
		    c.cf->queue_directory, strerror(errno));
	if (!maildrop_writable(maildrop))
		submit_fail(EX_TEMPFAIL, "%s/maildrop: not writable; postdrop "
		    "must be set-gid %s, or the directory have mode 1733 "
		    "(postern maildrop)", c.cf->queue_directory,
		    c.cf->setgid_group);
	maildrop_reader_init(&c.reader);
	rc = maildrop_file_make(&c.file, maildrop);
	if (rc != 0)
		submit_fail(EX_TEMPFAIL, "cannot make a file in maildrop: %s",
		    strerror(rc));
	/* The rest needs no more than what the user may do. */
	if (setegid(getgid()) != 0)
		copy_fail(&c, EX_OSERR, "cannot give the group back");
	copy_all(&c);
	if (verbose)
		printf("%s\n", c.file.name);
	free(config);
	return EX_OK;
}
