/*
 * postern sts and postern tlsrpt: what the running role knows of domains, and
 * what it is asked to do with one.
 */
#include <stdlib.h>

#include "lib/address.h"
#include "lib/mem.h"
#include "proxy/postern.h"

struct domain_verb {
	const char *verb;
	int least, most;	/* domains */
};

/* "NAME VERB DOMAIN" is asked of master; without a verb, the first. */
static int
domains_ask(struct postern *p, int argc, char **argv, const char *name,
    const struct domain_verb *verbs, const char *usage)
{
	const char *verb = argc > 1 ? argv[1] : verbs[0].verb, *error = NULL;
	int domains = argc > 2 ? argc - 2 : 0;
	const struct domain_verb *v;
	struct conf *cf;
	char *command;

	for (v = verbs; v->verb != NULL; v++)
		if (strcmp(v->verb, verb) == 0 && domains >= v->least &&
		    domains <= v->most)
			break;
	if (v->verb == NULL)
		fatal("usage: postern %s %s", name, usage);
	if (domains > 0 && !address_valid_hostname(view_of(argv[2])))
		fatal("%s is not a domain", log_safe(view_of(argv[2])));
	cf = postern_conf(p);
	command = mem_printf("%s %s %s", name, verb, domains > 0 ? argv[2] :
	    "");
	if (!postern_ask(cf, command, &error))
		fatal("%s", error != NULL ? error : "master ended meanwhile");
	free(command);
	conf_free(&cf);
	return 0;
}

int
postern_sts(struct postern *p, int argc, char **argv)
{
	static const struct domain_verb verbs[] = {
		{ "list", 0, 0 }, { "query", 1, 1 }, { "refresh", 1, 1 },
		{ "flush", 0, 1 }, { NULL, 0, 0 }
	};

	return domains_ask(p, argc, argv, "sts", verbs,
	    "[list | query DOMAIN | refresh DOMAIN | flush [DOMAIN]]");
}

int
postern_tlsrpt(struct postern *p, int argc, char **argv)
{
	static const struct domain_verb verbs[] = {
		{ "list", 0, 0 }, { "show", 1, 1 }, { "send", 0, 1 },
		{ NULL, 0, 0 }
	};

	return domains_ask(p, argc, argv, "tlsrpt", verbs,
	    "[list | show DOMAIN | send [DOMAIN]]");
}
