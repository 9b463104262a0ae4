#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "filters/postmap.h"
#include "lib/log.h"
#include "rules/table_remote.h"

static const char *program;

void
postmap_report(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		fatal("%s", text);
	log_warn("%s", text);
}

struct table_loader
postmap_loader(void)
{
	return (struct table_loader){ .origin = "",
		.report = postmap_report };
}

static void __attribute__((noreturn))
usage(const struct postmap *pm)
{
	fatal("usage: %s [-%sfijnNoprsuUvw] [-c config_dir] [-d key] "
	    "[-q key] [map_type:]file...", program,
	    pm->aliases ? "" : "bhm");
}

/* Lines as they come; a pipe may be open for long. */
void
postmap_lines(void (*fn)(struct view line, void *arg), void *arg)
{
	char *text = NULL;
	size_t size = 0;
	ssize_t n;

	while ((n = getline(&text, &size, stdin)) > 0) {
		if (text[n - 1] == '\n')
			n--;
		fn(view_make(text, (size_t)n), arg);
	}
	free(text);
}

/*
 * A relative name is one of the working directory, as for Postfix's postmap,
 * or else one of the configuration directory, as in main.cf.
 */
static char *
path_of(const struct postmap *pm, const char *name)
{
	char *index, *path;
	bool here;

	if (name[0] == '/')
		return mem_strdup(name);
	index = mem_printf("%s%s", name, TABLE_INDEX_SUFFIX);
	here = access(name, F_OK) == 0 || access(index, F_OK) == 0;
	free(index);
	path = mem_printf("%s/%s", pm->config_dir, name);
	if (here || access(path, F_OK) != 0) {
		free(path);
		path = realpath(".", NULL);
		if (path == NULL)
			fatal("working directory: %s", strerror(errno));
		index = mem_printf("%s/%s", path, name);
		free(path);
		path = index;
	}
	return path;
}

char *
postmap_spec(const struct postmap *pm, const char *argument)
{
	const char *colon = strchr(argument, ':');
	const char *type = pm->cf->default_database_type;
	const char *name = argument;
	char *copy = NULL, *path, *spec;

	if (colon != NULL && colon > argument) {
		copy = mem_copy(view_make(argument,
		    (size_t)(colon - argument)));
		type = copy;
		name = colon + 1;
	}
	if (strcmp(type, "proxy") == 0 || strcmp(type, "debug") == 0 ||
	    strcmp(type, "static") == 0 || strcmp(type, "environ") == 0 ||
	    strcmp(type, "unix") == 0 || strcmp(type, "fail") == 0 ||
	    name[0] == '{' || name[0] == '\0' ||
	    table_remote_service(view_of(type)) != 0) {
		free(copy);
		return mem_strdup(argument);
	}
	path = path_of(pm, name);
	spec = mem_printf("%s:%s", type, path);
	free(path);
	free(copy);
	return spec;
}

const char *
postmap_index(const char *spec)
{
	static const char *const types[] = { "lmdb", "hash", "btree", "dbm",
	    "cdb", "sdbm" };
	size_t colon = view_find(view_of(spec), ':');

	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (view_is(view_make(spec, colon), types[i]))
			return spec + colon + 1;
	fatal("unsupported map type for this operation: %.*s", (int)colon,
	    spec);
}

static void
postmap_options(struct postmap *pm, int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, pm->aliases ? "c:d:fijnNopq:rsuUvw" :
	    "bc:d:fhijmnNopq:rsuUvw")) > 0)
		switch (c) {
		case 'b': pm->body = true; break;
		case 'c': pm->config_dir = optarg; break;
		case 'd': pm->remove = optarg; break;
		case 'f': pm->style.exact = true; break;
		case 'h': pm->header = true; break;
		case 'i': pm->incremental = true; break;
		case 'j': pm->json = true; break;
		case 'm': pm->mime = true; break;
		case 'n': pm->style.no_nul = true; break;
		case 'N': pm->style.no_nul = false; break;
		case 'o': pm->keep_root = true; break;
		case 'p': pm->style.default_mode = true; break;
		case 'q': pm->query = optarg; break;
		case 'r': pm->duplicates = DUPLICATE_REPLACE; break;
		case 's': pm->list = true; break;
		case 'u': break;	/* nothing depends on UTF-8 here */
		case 'U': break;
		case 'v': log_verbose(log_level() + 1); break;
		case 'w': pm->duplicates = DUPLICATE_IGNORE; break;
		default: usage(pm);
		}
	if ((pm->query != NULL) + (pm->remove != NULL) + pm->list +
	    pm->incremental > 1)
		fatal("specify only one of -d -i -q or -s");
	if (pm->json && !pm->list && pm->query == NULL)
		fatal("option -j requires -q or -s");
	if ((pm->body || pm->header || pm->mime) &&
	    (pm->query == NULL || strcmp(pm->query, "-") != 0))
		fatal("specify -b -h or -m only with \"-q -\"");
	if (pm->mime && !pm->body && !pm->header)
		log_warn("ignoring -m option without -b or -h");
}

/* A table must be possible to build before there is a main.cf. */
static struct conf *
postmap_conf(const char *dir, bool must)
{
	char *file = mem_printf("%s/main.cf", dir);
	struct conf *cf;

	if (!must && access(file, F_OK) != 0)
		cf = conf_parse(view_of(""), file, log_report, NULL);
	else
		cf = conf_load(dir, log_report_errors, NULL);
	free(file);
	if (cf == NULL)
		fatal("bad configuration");
	return cf;
}

int
main(int argc, char **argv)
{
	struct postmap pm = { .duplicates = DUPLICATE_WARN };
	const char *slash = strrchr(argv[0], '/');
	const char *dir = getenv("MAIL_CONFIG");
	struct conf *cf;
	char **specs;
	int status = 0, n, i;

	program = slash != NULL ? slash + 1 : argv[0];
	log_open(program, "");
	pm.aliases = strcmp(program, "postalias") == 0 ||
	    strcmp(program, "newaliases") == 0;
	pm.config_dir = dir;
	postmap_options(&pm, argc, argv);
	cf = postmap_conf(pm.config_dir != NULL ? pm.config_dir :
	    conf_param_find(view_of("config_directory"))->def,
	    pm.config_dir != NULL);
	if (pm.config_dir == NULL)
		pm.config_dir = conf_param_find(
		    view_of("config_directory"))->def;
	pm.cf = cf;
	argv += optind;
	n = argc - optind;
	if (n == 0)
		usage(&pm);
	specs = mem_array((size_t)n, sizeof *specs);
	for (i = 0; i < n; i++)
		specs[i] = postmap_spec(&pm, argv[i]);
	if (pm.remove != NULL)
		status = !postmap_remove(&pm, specs, n);
	else if (pm.query != NULL)
		status = !postmap_query(&pm, specs, n);
	else if (pm.list)
		postmap_list(&pm, specs[0]);
	else
		for (i = 0; i < n; i++)
			postmap_build(&pm, specs[i]);
	if (fflush(stdout) != 0 || ferror(stdout))
		fatal("write: %s", strerror(errno));
	for (i = 0; i < n; i++)
		free(specs[i]);
	free(specs);
	conf_free(&cf);
	log_flush();
	return status;
}
