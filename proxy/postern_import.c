/*
 * postern import: another mail server's configuration as ours, and a report
 * of each of its lines.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/postern.h"
#include "proxy/postern_import.h"

#define USAGE	"usage: postern import sendmail|postfix [DIR] [--to DIR] " \
	"[--force] [-n]"

static const struct {
	const char *name;
	import_reader *read;
	const char *from;	/* where it is as a rule */
} sources[] = {
	{ "sendmail", import_sendmail, "/etc/mail" },
	{ "postfix", import_postfix, "/etc/postfix" },
};

/* Is dir the directory base, or below it?  Either may not be there yet. */
static bool
import_inside(const char *dir, const char *base)
{
	char *up = mem_strdup(dir), *real_base = realpath(base, NULL);
	char *real = realpath(up, NULL), *slash;
	bool inside;
	size_t n;

	/* what is not there is where its parent is */
	while (real == NULL && (slash = strrchr(up, '/')) != NULL &&
	    slash != up) {
		*slash = '\0';
		real = realpath(up, NULL);
	}
	n = real_base != NULL ? strlen(real_base) : 0;
	inside = real != NULL && real_base != NULL &&
	    strncmp(real, real_base, n) == 0 &&
	    (real[n] == '/' || real[n] == '\0');
	free(real);
	free(real_base);
	free(up);
	return inside;
}

static void
import_counts(const struct import_report *r)
{
	int i;

	for (i = 1; i < IMPORT_OUTCOMES; i++)
		printf("%6zu %s\n", import_report_count(r,
		    (enum import_outcome)i), import_outcome_name(
		    (enum import_outcome)i));
}

/* As `postern check` does, but for the programs and directories, which an
 * installation makes.  0, or 2 when it would not start. */
static int
import_check(const char *dir)
{
	char *path = mem_strdup(dir);
	struct master m = { .config_dir = path };
	struct config *c = config_load(&m, &postern_reporter);
	bool ok = c != NULL && postern_check_tables(c, dir,
	    &postern_reporter);

	config_free(&c);
	free(path);
	printf(ok ? "%s can be used as it is\n" : "%s cannot be used yet: see "
	    "the errors above\n", dir);
	return ok ? 0 : 2;
}

/* 0, 1 when nothing was written, or 2 after mistakes in what was. */
static int
import_run(const struct import_order *o, import_reader *read,
    const char *name)
{
	struct import_config *c = import_config_new();
	struct import_report *r = import_report_new();
	char *title = mem_printf("Made by `postern import %s %s`.", name,
	    o->from);
	struct import_write w = { .dir = o->to, .title = title,
		.force = o->force, .dry_run = o->dry_run };
	struct buf text;
	bool ok = read(o, c, r);
	int status;

	buf_init(&text, IMPORT_REPORT_MAX);
	if (ok && o->to != NULL) {
		if (!import_report_print(r, title,
		    import_file(c, IMPORT_REPORT_NAME, 0644)))
			fatal("the report is too long");
		ok = import_config_write(c, &w);
		import_counts(r);
		if (ok)
			printf("%s%s/" IMPORT_REPORT_NAME "\n", o->dry_run ?
			    "the report would be " : "the report is ", o->to);
	} else if (ok) {
		if (!import_report_print(r, title, &text))
			fatal("the report is too long");
		printf("%.*s", VIEW_ARGS(buf_view(&text)));
	}
	buf_free(&text);
	import_report_free(&r);
	import_config_free(&c);
	free(title);
	status = ok ? 0 : 1;
	if (ok && o->to != NULL && !o->dry_run)
		status = import_check(o->to);
	return status;
}

int
postern_import(struct postern *p, int argc, char **argv)
{
	static const struct option options[] = {
		{ "to", required_argument, NULL, 't' },
		{ "force", no_argument, NULL, 'f' },
		{ "dry-run", no_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 } };
	struct import_order o = { 0 };
	const char *to = NULL;
	char *full;
	size_t i;
	int ch;

	(void)p;
	optind = 0;		/* anew, after the words before the verb */
	while ((ch = getopt_long(argc, argv, "n", options, NULL)) != -1) {
		switch (ch) {
		case 't':
			to = optarg;
			break;
		case 'f':
			o.force = true;
			break;
		case 'n':
			o.dry_run = true;
			break;
		default:
			fatal(USAGE);
		}
	}
	argc -= optind;
	argv += optind;
	for (i = 0; i < sizeof sources / sizeof sources[0]; i++)
		if (argc > 0 && strcmp(argv[0], sources[i].name) == 0)
			break;
	if (i == sizeof sources / sizeof sources[0] || argc > 2)
		fatal(USAGE);
	full = realpath(argc > 1 ? argv[1] : sources[i].from, NULL);
	if (full == NULL)
		fatal("%s: %s", argc > 1 ? argv[1] : sources[i].from,
		    strerror(errno));
	o.from = full;
	if (to == NULL && strcmp(sources[i].name, "sendmail") == 0)
		to = "/etc/postern";
	if (to != NULL) {
		char here[PATH_MAX];

		if (to[0] != '/' && getcwd(here, sizeof here) == NULL)
			fatal("cannot find the working directory: %s",
			    strerror(errno));
		o.to = to[0] == '/' ? mem_strdup(to) :
		    mem_printf("%s/%s", here, to);
		if (import_inside(o.to, full))
			fatal("%s is in what is read, %s", o.to, full);
	}
	return import_run(&o, sources[i].read, sources[i].name);
}
