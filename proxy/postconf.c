#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/conf.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/postconf.h"
#include "rules/table.h"

static void say(const char *what, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void
say(const char *what, const char *fmt, va_list ap)
{
	(void)fflush(stdout);
	(void)fprintf(stderr, "postconf: %s: ", what);
	(void)vfprintf(stderr, fmt, ap);
	(void)fputc('\n', stderr);
}

void
postconf_warn(const struct postconf *pc, const char *fmt, ...)
{
	va_list ap;

	if (pc->quiet)
		return;
	va_start(ap, fmt);
	say("warning", fmt, ap);
	va_end(ap);
}

void
postconf_error(struct postconf *pc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("error", fmt, ap);
	va_end(ap);
	pc->failed = true;
}

void
postconf_report(bool error, const char *text, void *arg)
{
	struct postconf *pc = arg;

	if (error)
		postconf_error(pc, "%s", text);
	else
		postconf_warn(pc, "%s", text);
}

static void
usage(void)
{
	(void)fprintf(stderr,
	    "usage: postconf [-dfhHjnqx] [-c dir] [-C class,...] "
	    "[-o name=value] [name ...]\n"
	    "       postconf [-e] [-c dir] name=value ...\n"
	    "       postconf -X | -# [-c dir] name ...\n"
	    "       postconf -M | -F | -P [-fhHjqx] [-c dir] "
	    "[service[/type[/name]] ...]\n"
	    "       postconf -m\n");
	exit(1);
}

static unsigned
class_flags(struct view list)
{
	unsigned flags = 0;
	struct view word;

	while ((word = conf_word(&list)).n > 0) {
		if (view_is(word, "builtin"))
			flags |= POSTCONF_BUILTIN;
		else if (view_is(word, "service"))
			flags |= POSTCONF_SERVICE;
		else if (view_is(word, "user"))
			flags |= POSTCONF_USER;
		else if (view_is(word, "all"))
			flags |= POSTCONF_ALL;
		else
			usage();
	}
	return flags;
}

static void
set_edit(struct postconf *pc, enum postconf_edit edit)
{
	if (pc->edit != POSTCONF_KEEP && pc->edit != edit)
		usage();
	pc->edit = edit;
}

static void
set_master(struct postconf *pc, enum postconf_master master)
{
	if (pc->master != POSTCONF_MAIN && pc->master != master)
		usage();
	pc->master = master;
}

static void
read_options(struct postconf *pc, int argc, char **argv, bool *ret_types)
{
	int c;

	while ((c = getopt(argc, argv, "#c:C:deFfhHjMmno:PpqvxX")) != -1) {
		switch (c) {
		case '#': set_edit(pc, POSTCONF_COMMENT); break;
		case 'c': pc->dir = optarg; break;
		case 'C': pc->classes = class_flags(view_of(optarg)); break;
		case 'd': pc->defaults = true; break;
		case 'e': set_edit(pc, POSTCONF_SET); break;
		case 'F': set_master(pc, POSTCONF_FIELDS); break;
		case 'f': pc->fold = true; break;
		case 'h': pc->no_names = true; break;
		case 'H': pc->no_values = true; break;
		case 'j': pc->json = true; break;
		case 'M': set_master(pc, POSTCONF_SERVICES); break;
		case 'm': *ret_types = true; break;
		case 'n': pc->changed_only = true; break;
		case 'o':
			pc->overrides = mem_resize(pc->overrides,
			    pc->n_overrides + 1, sizeof *pc->overrides);
			pc->overrides[pc->n_overrides++] = optarg;
			break;
		case 'P': set_master(pc, POSTCONF_OVERRIDES); break;
		case 'p': break;
		case 'q': pc->quiet = true; break;
		case 'v': break;
		case 'x': pc->expand = true; break;
		case 'X': set_edit(pc, POSTCONF_EXCLUDE); break;
		default: usage();
		}
	}
	pc->args = argv + optind;
	pc->n_args = (size_t)(argc - optind);
	if (pc->no_names && pc->no_values)
		usage();
	if (pc->defaults && (pc->changed_only || pc->n_overrides > 0))
		usage();
	if (pc->edit != POSTCONF_KEEP && (pc->master != POSTCONF_MAIN ||
	    pc->defaults || pc->changed_only || pc->n_args == 0))
		usage();
	/* "postconf name=value" means -e. */
	if (pc->edit == POSTCONF_KEEP && pc->master == POSTCONF_MAIN &&
	    pc->n_args > 0 && strchr(pc->args[0], '=') != NULL)
		pc->edit = POSTCONF_SET;
}

int
main(int argc, char **argv)
{
	struct postconf pc = { .classes = POSTCONF_ALL };
	bool types = false;
	size_t i;

	log_open("postconf", "");
	pc.dir = getenv("MAIL_CONFIG");
	if (pc.dir == NULL || pc.dir[0] == '\0')
		pc.dir = conf_param_find(view_of("config_directory"))->def;
	read_options(&pc, argc, argv, &types);
	if (types)
		for (i = 0; table_kind_name(i) != NULL; i++)
			(void)printf("%s\n", table_kind_name(i));
	else if (pc.edit != POSTCONF_KEEP)
		postconf_change(&pc);
	else if (pc.master != POSTCONF_MAIN)
		postconf_services(&pc);
	else
		postconf_main(&pc);
	if (fflush(stdout) != 0)
		postconf_error(&pc, "standard output: write error");
	log_flush();
	free(pc.overrides);
	return pc.failed ? 1 : 0;
}
