/*
 * postern tlsrpt: what was counted for TLS reports, and sending them now.
 */
#include <stdlib.h>

#include "lib/address.h"
#include "lib/mem.h"
#include "proxy/postern.h"

#define USAGE	"usage: postern tlsrpt [list | show DOMAIN | send [DOMAIN]]"

static const struct {
	const char *verb;
	int least, most;	/* domains */
} verbs[] = {
	{ "list", 0, 0 },
	{ "show", 1, 1 },
	{ "send", 0, 1 },
};

int
postern_tlsrpt(struct postern *p, int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "list", *error = NULL;
	int domains = argc > 2 ? argc - 2 : 0;
	struct conf *cf;
	char *command;
	size_t i;

	for (i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
		if (strcmp(verbs[i].verb, verb) == 0 &&
		    domains >= verbs[i].least && domains <= verbs[i].most)
			break;
	if (i == sizeof verbs / sizeof verbs[0])
		fatal(USAGE);
	if (domains > 0 && !address_valid_hostname(view_of(argv[2])))
		fatal("%s is not a domain", log_safe(view_of(argv[2])));
	cf = postern_conf(p);
	command = mem_printf("tlsrpt %s %s", verb, domains > 0 ? argv[2] : "");
	if (!postern_ask(cf, command, &error))
		fatal("%s", error != NULL ? error : "master ended meanwhile");
	free(command);
	conf_free(&cf);
	return 0;
}
