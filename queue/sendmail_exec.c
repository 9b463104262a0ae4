#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/mem.h"
#include "queue/sendmail.h"
#include "queue/submit.h"

#define WORDS_MAX	64u

char *
sendmail_program(const struct sendmail *s, const char *name)
{
	char self[PATH_MAX], *slash, *path;
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash != NULL)
			*slash = '\0';
		path = mem_printf("%s/%s", self, name);
		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return mem_printf("%s/%s", s->cf->command_directory, name);
}

__attribute__((noreturn))
static void
exec_program(const struct sendmail *s, const char *name, char **words)
{
	char *path = sendmail_program(s, name);

	(void)execv(path, words);
	submit_fail(EX_UNAVAILABLE, "%s: %s", path, strerror(errno));
}

/* NAME -c DIR WORD [ARGUMENT] */
__attribute__((noreturn))
static void
exec_words(const struct sendmail *s, const char *name, const char *word,
    const char *argument)
{
	char *words[6] = { mem_strdup(name), mem_strdup("-c"),
		mem_strdup(s->cf->config_directory), mem_strdup(word),
		argument != NULL ? mem_strdup(argument) : NULL, NULL };

	exec_program(s, name, words);
}

static int
exec_aliases(const struct sendmail *s)
{
	const char *list = conf_text(s->cf, view_of("alias_database"));
	struct view rest = view_of(list), word;
	char *words[WORDS_MAX], *path;
	size_t n = 0;

	words[n++] = mem_strdup("postalias");
	words[n++] = mem_strdup("-c");
	words[n++] = mem_strdup(s->cf->config_directory);
	while ((word = conf_word(&rest)).n > 0 && n < WORDS_MAX - 1)
		words[n++] = mem_copy(word);
	words[n] = NULL;
	path = sendmail_program(s, "postalias");
	if (n == 3) {
		printf("alias_database is empty: there are no alias tables "
		    "to build\n");
		return EX_OK;
	}
	if (access(path, X_OK) != 0)
		submit_fail(EX_UNAVAILABLE, "alias_database = %s cannot be "
		    "built: there is no %s", list, path);
	exec_program(s, "postalias", words);
}

int
sendmail_exec(const struct sendmail *s)
{
	switch (s->mode) {
	case MODE_LIST:
		exec_words(s, "postqueue", "-p", NULL);
	case MODE_FLUSH:
		exec_words(s, "postqueue", "-f", NULL);
	case MODE_FLUSH_ID:
		exec_words(s, "postqueue", "-i", s->argument);
	case MODE_FLUSH_SITE:
		exec_words(s, "postqueue", "-s", s->argument);
	case MODE_DAEMON:
		exec_words(s, "postern", "start", NULL);
	case MODE_FOREGROUND:
		exec_words(s, "postern", "start-fg", NULL);
	case MODE_ALIASES:
		return exec_aliases(s);
	case MODE_SUBMIT:
	case MODE_SMTP:
	case MODE_NOTHING:
		break;
	}
	return EX_USAGE;
}
