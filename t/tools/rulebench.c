/*
 * What body rules cost: rulebench RULES MAIL SECONDS [alone|CACHE] judges the
 * message in the file MAIL over and over with body_checks = pcre:RULES, as
 * the role filter does.  alone: the rules one by one; CACHE: the directory of
 * compiled sets.  Prints one line: milliseconds of CPU time to load the
 * rules, MB of text per second of CPU time, KB of memory.
 * contrib/rulebench makes rules and mail, and asks Postfix too.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "filters/engine.h"
#include "lib/log.h"

#define MAIL_MAX	(64u << 20)

static void
complain(bool error, const char *text, void *arg)
{
	(void)arg;
	(void)fprintf(stderr, "%s: %s\n", error ? "error" : "warning", text);
}

static double
cpu(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Mail has CRLF in the queue. */
static void
read_mail(const char *path, struct buf *b)
{
	FILE *f = fopen(path, "r");
	int c, last = 0;
	bool ok = true;

	if (f == NULL)
		fatal("%s: cannot be read", path);
	buf_init(b, MAIL_MAX);
	while (ok && (c = getc(f)) != EOF) {
		if (c == '\n' && last != '\r')
			ok = buf_putc(b, '\r');
		ok = ok && buf_putc(b, (char)c);
		last = c;
	}
	(void)fclose(f);
	if (!ok)
		fatal("%s: over %u bytes", path, MAIL_MAX);
}

static struct conf *
make_conf(const char *rules, const char *how)
{
	bool alone = how != NULL && strcmp(how, "alone") == 0;
	struct conf *conf;
	struct buf b;

	buf_init(&b, 10000);
	(void)buf_printf(&b, "myhostname = gw.example.com\n"
	    "body_checks = pcre:%s\nrules_cache_directory = %s\n"
	    "body_checks_size_limit = 1000000000\n", rules,
	    how != NULL && !alone ? how : "");
	conf = conf_parse(buf_view(&b), "main.cf", complain, NULL);
	buf_free(&b);
	if (conf == NULL)
		fatal("bad configuration");
	if (alone)
		engine_rules_alone();
	return conf;
}

int
main(int argc, char **argv)
{
	struct recipient rcpt = { .addr = view_of("b@example.com") };
	struct envelope env = { .sender = view_of("a@example.com"),
		.client_name = view_of("unknown"),
		.client_addr = view_of("192.0.2.1"), .helo = view_of("x"),
		.proto = view_of("ESMTP"), .nrcpts = 1, .rcpts = &rcpt };
	struct arena *a = arena_new(64u << 20);
	struct judgement j;
	struct rusage use;
	struct engine *e;
	struct conf *conf;
	struct buf text;
	double start, loaded;
	unsigned n = 0;

	if (argc < 4 || argc > 5)
		fatal("usage: rulebench RULES MAIL SECONDS [alone|CACHE]");
	conf = make_conf(argv[1], argc == 5 ? argv[4] : NULL);
	read_mail(argv[2], &text);
	start = cpu();
	e = engine_open(conf, complain, NULL);
	if (e == NULL)
		return 1;
	loaded = cpu();
	/* Each match is logged, as it would be, but not to be read. */
	if (freopen("/dev/null", "w", stderr) == NULL)
		return 1;
	do {
		arena_reset(a);
		engine_judge(e, buf_view(&text), &env,
		    (struct queue_id){ 1 }, &j, a);
		n++;
	} while (cpu() - loaded < strtod(argv[3], NULL));
	(void)getrusage(RUSAGE_SELF, &use);
	printf("%.1f %.3f %ld\n", (loaded - start) * 1e3,
	    (double)text.n * n / (cpu() - loaded) / 1e6, use.ru_maxrss);
	return 0;
}
