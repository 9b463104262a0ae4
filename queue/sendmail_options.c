#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/mem.h"
#include "queue/sendmail.h"
#include "queue/submit.h"

/* -N: words of RFC 3461 section 4.1 */
static uint8_t
options_notify(const char *text)
{
	struct view rest = view_of(text), word;
	unsigned bits = 0;

	while ((word = view_word(&rest, ", ")).n > 0) {
		if (view_is_nocase(word, "never"))
			bits |= NOTIFY_NEVER;
		else if (view_is_nocase(word, "success"))
			bits |= NOTIFY_SUCCESS;
		else if (view_is_nocase(word, "failure"))
			bits |= NOTIFY_FAILURE;
		else if (view_is_nocase(word, "delay"))
			bits |= NOTIFY_DELAY;
		else
			submit_fail(EX_USAGE, "bad -N option value -- %s",
			    text);
	}
	if (bits == 0 || ((bits & NOTIFY_NEVER) != 0 && bits != NOTIFY_NEVER))
		submit_fail(EX_USAGE, "bad -N option value -- %s", text);
	return (uint8_t)bits;
}

static void
options_mode(struct sendmail *s, const char *text)
{
	switch (text[0]) {
	case 'm':
		s->mode = MODE_SUBMIT;
		break;
	case 's':
		s->mode = MODE_SMTP;
		break;
	case 'p':
		s->mode = MODE_LIST;
		break;
	case 'i':
		s->mode = MODE_ALIASES;
		break;
	case 'd':
	case 'l':
		s->mode = MODE_DAEMON;
		break;
	case 'D':
		s->mode = MODE_FOREGROUND;
		break;
	case 'h':
	case 'H':
		s->mode = MODE_NOTHING;
		break;
	case 'v':
		submit_fail(EX_UNAVAILABLE, "-bv: addresses cannot be "
		    "verified without a delivery; nothing was done");
	default:
		submit_fail(EX_USAGE, "unsupported: -b%s", text);
	}
}

/* -q: run the queue, -q15m: a daemon, -qIid, -qRsite */
static void
options_queue(struct sendmail *s, const char *text)
{
	if (text == NULL || text[0] == '\0') {
		if (s->mode == MODE_SUBMIT)
			s->mode = MODE_FLUSH;
	} else if (text[0] >= '0' && text[0] <= '9') {
		if (s->mode == MODE_SUBMIT)
			s->mode = MODE_DAEMON;
	} else if (text[0] == 'I') {
		s->mode = MODE_FLUSH_ID;
		s->argument = text + 1;
	} else if (text[0] == 'R') {
		s->mode = MODE_FLUSH_SITE;
		s->argument = text + 1;
	} else
		submit_fail(EX_USAGE, "unsupported: -q%s", text);
}

static void
options_body(struct sendmail *s, const char *text)
{
	if (view_is_nocase(view_of(text), "8bitmime"))
		s->body8 = true;
	else if (view_is_nocase(view_of(text), "7bit"))
		s->body8 = false;
	else
		submit_fail(EX_USAGE, "bad -B option value -- %s", text);
}

static void
options_ret(struct sendmail *s, const char *text)
{
	if (view_is_nocase(view_of(text), "full"))
		s->ret = 'F';
	else if (view_is_nocase(view_of(text), "hdrs"))
		s->ret = 'H';
	else
		submit_fail(EX_USAGE, "bad -R option value -- %s", text);
}

/* -O name=value: one concerns us; the rest are sendmail's own. */
static void
options_named(struct sendmail *s, const char *text)
{
	struct view all = view_of(text), name = view_head(all,
	    view_find(all, '=')), value = view_from(all, name.n + 1);

	if (!view_is_nocase(view_trim(name), "requiretls"))
		return;
	value = view_trim(value);
	if (!view_is_nocase(value, "yes") && !view_is_nocase(value, "no"))
		submit_fail(EX_USAGE, "bad -O option value -- %s", text);
	s->requiretls = view_is_nocase(value, "yes");
}

/* sendmail's -C names a file, ours a directory: both are understood. */
static const char *
options_config(const char *text)
{
	struct stat st;
	char *dir, *slash;

	if (stat(text, &st) != 0 || S_ISDIR(st.st_mode))
		return text;
	dir = mem_strdup(text);
	slash = strrchr(dir, '/');
	if (slash == NULL)
		return ".";
	slash[slash == dir] = '\0';
	return dir;
}

/* "-o name" and "-oX": what concerns us; the rest are sendmail's own. */
static void
options_old(struct sendmail *s, const char *text)
{
	if (text[0] == 'i')
		s->dot_is_text = true;
	else if (text[0] == '7')
		s->body8 = false;
	else if (text[0] == '8')
		s->body8 = true;
}

void
sendmail_options(struct sendmail *s, int argc, char **argv)
{
	static const char options[] =
	    ":A:B:C:D:F:GIL:M:N:O:Q::R:TUV:X:b:cd:e:f:h:imno:p:q::r:stvx";
	bool client = false;	/* -Ac: sendmail's queue of programs */
	int ch;

	while ((ch = getopt(argc, argv, options)) != -1)
		switch (ch) {
		case 'A':
			client = optarg[0] == 'c';
			break;
		case 'B':
			options_body(s, optarg);
			break;
		case 'C':
			s->config = options_config(optarg);
			break;
		case 'F':
			s->full_name = optarg;
			break;
		case 'I':
			s->mode = MODE_ALIASES;
			break;
		case 'N':
			s->notify = options_notify(optarg);
			break;
		case 'O':
			options_named(s, optarg);
			break;
		case 'R':
			options_ret(s, optarg);
			break;
		case 'V':
			s->envid = optarg;
			break;
		case 'b':
			options_mode(s, optarg);
			break;
		case 'f':
		case 'r':
			s->sender = optarg;
			break;
		case 'i':
			s->dot_is_text = true;
			break;
		case 'o':
			options_old(s, optarg);
			break;
		case 'q':
			options_queue(s, optarg);
			break;
		case 't':
			s->from_header = true;
			break;
		case 'v':
			s->verbose = true;
			break;
		case ':':
			submit_fail(EX_USAGE, "option -%c needs a value",
			    optopt);
		default:
			break;		/* sendmail has more than we need */
		}
	/* Boot scripts start a second daemon for that; pickup is ours. */
	if (client && s->mode == MODE_DAEMON)
		s->mode = MODE_NOTHING;
	s->rcpts = argv + optind;
	/* "-q -I id" and "-q -R site" are written apart by some. */
	if (s->argument != NULL && s->argument[0] == '\0') {
		if (*s->rcpts == NULL)
			submit_fail(EX_USAGE, "option -q needs a value");
		s->argument = *s->rcpts++;
	}
	if (*s->rcpts != NULL && s->mode != MODE_SUBMIT &&
	    s->mode != MODE_LIST && s->mode != MODE_ALIASES)
		submit_fail(EX_USAGE, "recipients can be given with -bm only");
}
