#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/postern.h"

#define DEFAULT_CONFIG	"/etc/postern"

static postern_verb postern_help, postern_version;

static const struct {
	const char *name;
	postern_verb *run;
	bool config;		/* needs a configuration directory */
	const char *words;
	const char *help;
} verbs[] = {
	{ "init", postern_init, false,
	    "DIR [--listen ADDR:PORT] [--relay HOST:PORT]\n"
	    "            [--domain D] [--hostname H]",
	    "make a private, complete instance in DIR" },
	{ "install", postern_install, false,
	    "--mode send-only | beside --address ADDR | replace\n"
	    "            [--dry-run] ... | --repair",
	    "make this host's mail go through Postern" },
	{ "uninstall", postern_install, false, "[--dry-run] ...",
	    "take all of that back" },
	{ "import", postern_import, false,
	    "sendmail [DIR] [--to DIR] [--force] [-n]",
	    "another server's configuration as ours, and a report" },
	{ "start", postern_start, true, "[-d]",
	    "start; returns when all ports answer (-d: as start-fg)" },
	{ "start-fg", postern_start_fg, true, "",
	    "run in the foreground, for containers and systemd" },
	{ "stop", postern_stop, true, "",
	    "stop; deliveries that run may finish" },
	{ "reload", postern_reload, true, "",
	    "read all files again, drop no connection" },
	{ "status", postern_status, true, "",
	    "tell what runs; exit status 3 if nothing does" },
	{ "check", postern_check, true, "",
	    "look for mistakes, make missing directories" },
	{ "test", postern_test, true,
	    "[--to ADDR] [--local USER] [--remote ADDR] [--probe]",
	    "walk a session, mail and log on what runs; sends to these only" },
	{ "explain", postern_explain, true,
	    "--client IP --from A --to B [--helo H]\n"
	    "            [--message FILE] ...",
	    "say what a client would be told, and by which rules" },
	{ "replay", postern_replay, true, "DIR [--rules NEWDIR]",
	    "saved messages through the rules, or what NEWDIR's change" },
	{ "rules", postern_rules, true, "[-ajt] [FILE...]",
	    "how often each rule has fired (-t: those that only warn)" },
	{ "flush", postern_flush, true, "[[-s] DOMAIN]",
	    "try to deliver deferred mail now (.DOMAIN: below it)" },
	{ "queue", postern_queue, true, "[--once] [--json] [-n SECONDS]",
	    "show the destinations: what waits, and what it waits for" },
	{ "pool", postern_pool, true, "[drain|ready POOL SERVER]",
	    "servers of nexthop_pools: show, take one out, put it back" },
	{ "quarantine", postern_quarantine, true, "list [PATTERN...] | "
	    "show ID | release ID... | delete ID... | expire",
	    "the messages that rules hold" },
	{ "hold", postern_hold, true, "ID... | ALL [PATTERN...]",
	    "keep messages back; see postsuper(1)" },
	{ "release", postern_release, true, "ID... | ALL [PATTERN...]",
	    "let go what is on hold" },
	{ "delete", postern_delete, true, "ID... | ALL [PATTERN...]",
	    "remove messages without telling anybody" },
	{ "sts", postern_sts, true,
	    "[list | query DOMAIN | refresh DOMAIN | flush [DOMAIN]]",
	    "the MTA-STS policies of destinations" },
	{ "tlsrpt", postern_tlsrpt, true, "[list | show DOMAIN | send [DOMAIN]]",
	    "what TLS reports will say, and sending them now" },
	{ "log", postern_log, true, "",
	    "open the log file again, after it was renamed" },
	{ "maildrop", postern_maildrop, true, "[--mode 1730|1733]",
	    "tell how users hand in mail: by a set-gid postdrop (1730) or\n"
	    "            by themselves (1733); --mode changes it" },
	{ "help", postern_help, false, "", "print this" },
	{ "version", postern_version, false, "", "print the version" },
};
#define VERBS	(sizeof verbs / sizeof verbs[0])

static void
usage(FILE *to)
{
	size_t i;

	fprintf(to, "usage: postern [-c CONFIG_DIR] VERB [ARGUMENTS]\n\n");
	for (i = 0; i < VERBS; i++)
		fprintf(to, "  %s %s\n            %s\n", verbs[i].name,
		    verbs[i].words, verbs[i].help);
	fprintf(to, "\nWithout -c the directory is $MAIL_CONFIG, or else "
	    DEFAULT_CONFIG ".\n");
}

static int
postern_help(struct postern *p, int argc, char **argv)
{
	(void)p;
	(void)argc;
	(void)argv;
	usage(stdout);
	return 0;
}

static int
postern_version(struct postern *p, int argc, char **argv)
{
	(void)p;
	(void)argc;
	(void)argv;
	printf("postern %s\n", POSTERN_VERSION);
	return 0;
}

static void
postern_find_config(struct postern *p, const char *option)
{
	const char *dir = option;

	if (dir == NULL || dir[0] == '\0')
		dir = getenv("MAIL_CONFIG");
	if (dir == NULL || dir[0] == '\0')
		dir = DEFAULT_CONFIG;
	p->config_dir = realpath(dir, NULL);
	if (p->config_dir == NULL)
		fatal("configuration directory %s: %s", dir, strerror(errno));
}

int
main(int argc, char **argv)
{
	struct postern p = { 0 };
	const char *dir = NULL;
	int ch, status;
	size_t i;

	log_open("postern", "localhost");
	/* "+": what follows the verb belongs to the verb. */
	while ((ch = getopt(argc, argv, "+c:h")) != -1) {
		switch (ch) {
		case 'c':
			dir = optarg;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 1;
		}
	}
	argc -= optind;
	argv += optind;
	if (argc == 0) {
		usage(stderr);
		return 1;
	}
	for (i = 0; i < VERBS; i++)
		if (strcmp(argv[0], verbs[i].name) == 0)
			break;
	if (i == VERBS) {
		fprintf(stderr, "postern: fatal: unknown command: %s\n\n",
		    argv[0]);
		usage(stderr);
		return 1;
	}
	if (verbs[i].config)
		postern_find_config(&p, dir);
	status = verbs[i].run(&p, argc, argv);
	free(p.config_dir);
	return status;
}
