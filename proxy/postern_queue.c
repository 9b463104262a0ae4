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

static int
queue_super(const struct postern *p, const char *option, int argc,
    char **argv)
{
	char **words;
	int i, n = 3;

	if (argc < 2 || argc > WORDS_MAX)
		fatal("usage: postern %s ID... | ALL [PATTERN...]", argv[0]);
	words = mem_array((size_t)argc * 2 + 4, sizeof *words);
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
	queue_exec(p, "postsuper", words);
}

int
postern_hold(struct postern *p, int argc, char **argv)
{
	return queue_super(p, "-h", argc, argv);
}

int
postern_release(struct postern *p, int argc, char **argv)
{
	return queue_super(p, "-H", argc, argv);
}

int
postern_delete(struct postern *p, int argc, char **argv)
{
	return queue_super(p, "-d", argc, argv);
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
