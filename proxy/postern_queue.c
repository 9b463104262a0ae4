/*
 * The queue verbs: short forms of postqueue(1) and postsuper(1), which are
 * programs of their own; they stand beside this one or below the roles.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/postern.h"

#define WORDS_MAX	10000

static char *
queue_program(const char *name)
{
	static const char *const places[] = { "", "../libexec/postern/bin/",
		"../lib/postern/bin/" };
	char self[PATH_MAX], *slash, *path;
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	size_t i;

	if (n < 0)
		fatal("cannot find my own place: %s", strerror(errno));
	self[n] = '\0';
	slash = strrchr(self, '/');
	slash[1] = '\0';
	for (i = 0; i < sizeof places / sizeof places[0]; i++) {
		path = mem_printf("%s%s%s", self, places[i], name);
		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	fatal("%s is not installed beside this program", name);
}

__attribute__((noreturn))
static void
queue_exec(const struct postern *p, const char *name, char **words)
{
	char *path = queue_program(name);

	words[0] = mem_strdup(name);
	words[1] = mem_strdup("-c");
	words[2] = p->config_dir;
	log_flush();
	(void)execv(path, words);
	fatal("cannot execute %s: %s", path, strerror(errno));
}

int
postern_queue(struct postern *p, int argc, char **argv)
{
	char *words[9] = { NULL };
	int n = 3, i;
	bool once = false;

	words[n++] = mem_strdup("-l");
	for (i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--once") == 0) {
			once = true;
		} else if (strcmp(argv[i], "--json") == 0 && n < 7) {
			words[n++] = mem_strdup("-J");
			once = true;
		} else if (strcmp(argv[i], "-n") == 0 && i + 1 < argc &&
		    n < 6) {
			words[n++] = mem_strdup("-n");
			words[n++] = argv[++i];
			once = true;
		} else {
			fatal("usage: postern queue [--once] [--json] "
			    "[-n SECONDS]");
		}
	}
	/* On a terminal it goes on by itself. */
	if (!once && isatty(STDOUT_FILENO)) {
		words[n++] = mem_strdup("-n");
		words[n++] = mem_strdup("2");
	}
	queue_exec(p, "postqueue", words);
}

/* place: only there; NULL: anywhere. */
static int
queue_super(const struct postern *p, const char *option, const char *place,
    int argc, char **argv)
{
	char **words;
	int i, n = 3;

	if (argc < 2 || argc > WORDS_MAX)
		fatal("usage: postern %s%s ID... | ALL [PATTERN...]",
		    place != NULL ? "quarantine " : "", argv[0]);
	words = mem_array((size_t)argc * 2 + 5, sizeof *words);
	if (strcmp(argv[1], "ALL") == 0) {
		words[n++] = mem_strdup(option);
		for (i = 1; i < argc; i++)
			words[n++] = argv[i];
	} else {
		for (i = 1; i < argc; i++) {
			words[n++] = mem_strdup(option);
			words[n++] = argv[i];
		}
	}
	if (place != NULL)
		words[n++] = mem_strdup(place);
	queue_exec(p, "postsuper", words);
}

int
postern_hold(struct postern *p, int argc, char **argv)
{
	return queue_super(p, "-h", NULL, argc, argv);
}

int
postern_release(struct postern *p, int argc, char **argv)
{
	return queue_super(p, "-H", NULL, argc, argv);
}

int
postern_delete(struct postern *p, int argc, char **argv)
{
	return queue_super(p, "-d", NULL, argc, argv);
}

/* -- quarantine: what rules hold -------------------------------------------- */

static int
quarantine_list(struct postern *p, int argc, char **argv)
{
	char **words = mem_array((size_t)argc + 5, sizeof *words);
	int i, n = 3;

	words[n++] = mem_strdup("-q");
	for (i = 1; i < argc; i++)
		words[n++] = strcmp(argv[i], "--json") == 0 ?
		    mem_strdup("-J") : argv[i];
	queue_exec(p, "postqueue", words);
}

static int
quarantine_show(struct postern *p, int argc, char **argv)
{
	char *words[6] = { NULL };

	if (argc != 2 || argv[1][0] == '-')
		fatal("usage: postern quarantine show ID");
	words[3] = mem_strdup("-q");
	words[4] = argv[1];
	queue_exec(p, "postcat", words);
}

static int
quarantine_release(struct postern *p, int argc, char **argv)
{
	return queue_super(p, "-H", "hold", argc, argv);
}

static int
quarantine_delete(struct postern *p, int argc, char **argv)
{
	return queue_super(p, "-d", "hold", argc, argv);
}

static int
quarantine_expire(struct postern *p, int argc, char **argv)
{
	char *words[] = { argv[0], mem_strdup("ALL"), mem_strdup("--reason"),
		mem_strdup("*"), mem_strdup("--older"), NULL, NULL };
	struct conf *cf;

	if (argc == 3 && strcmp(argv[1], "--older") == 0) {
		words[5] = argv[2];
	} else if (argc == 1) {
		cf = postern_conf(p);
		if (cf->quarantine_lifetime == 0)
			fatal("quarantine_lifetime is 0: nothing expires "
			    "unless --older AGE says when");
		words[5] = mem_printf("%llds",
		    (long long)cf->quarantine_lifetime / 1000);
		conf_free(&cf);
	} else {
		fatal("usage: postern quarantine expire [--older AGE]");
	}
	return queue_super(p, "-d", "hold", 6, words);
}

int
postern_quarantine(struct postern *p, int argc, char **argv)
{
	static const struct {
		const char *word;
		int (*fn)(struct postern *p, int argc, char **argv);
	} verbs[] = {
		{ "list", quarantine_list }, { "show", quarantine_show },
		{ "release", quarantine_release },
		{ "delete", quarantine_delete },
		{ "expire", quarantine_expire },
	};
	size_t i;

	for (i = 0; argc > 1 && i < sizeof verbs / sizeof verbs[0]; i++)
		if (strcmp(argv[1], verbs[i].word) == 0)
			return verbs[i].fn(p, argc - 1, argv + 1);
	fatal("usage: postern quarantine list [--json] [PATTERN...] | "
	    "show ID | release ID... | delete ID... | "
	    "expire [--older AGE]");
}

int
postern_flush(struct postern *p, int argc, char **argv)
{
	char *words[7] = { NULL };
	const char *site = argc == 2 ? argv[1] : argc == 3 ? argv[2] : NULL;

	if (argc > 3 || (argc == 3 && strcmp(argv[1], "-s") != 0) ||
	    (argc == 2 && argv[1][0] == '-'))
		fatal("usage: postern flush [[-s] DOMAIN]");
	if (site == NULL)
		return postern_flush_all(p);
	words[3] = mem_strdup("-s");
	words[4] = mem_strdup(site);
	queue_exec(p, "postqueue", words);
}
