/* Pools of servers: which are up, take one out, put it back. */
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"
#include "proxy/postern.h"

/* What stands in a command to master is one word. */
static bool
pool_word(const char *word)
{
	return word[0] != '\0' && word[strcspn(word, " \t\r\n")] == '\0';
}

int
postern_pool(struct postern *p, int argc, char **argv)
{
	struct conf *cf = postern_conf(p);
	const char *error;
	char *command;

	if (argc == 1)
		command = mem_strdup("pool show");
	else if (argc == 4 && (strcmp(argv[1], "drain") == 0 ||
	    strcmp(argv[1], "ready") == 0) && pool_word(argv[2]) &&
	    pool_word(argv[3]))
		command = mem_printf("pool %s %s %s", argv[1], argv[2],
		    argv[3]);
	else
		fatal("usage: postern pool [drain|ready POOL SERVER]");
	if (postern_running(cf) == 0)
		fatal("Postern is not running");
	if (!postern_ask(cf, command, &error))
		fatal("%s", error != NULL ? error : "no answer");
	free(command);
	conf_free(&cf);
	return 0;
}
