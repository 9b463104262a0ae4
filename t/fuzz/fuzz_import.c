/* link: proxy/import_mc.c proxy/import_sm_mc.c proxy/import_sm_cf.c proxy/import_sm_names.c proxy/import_sm_options.c proxy/import_sm_features.c proxy/import_sm_routes.c proxy/import_sm_addresses.c proxy/import_sm_access.c proxy/import_sm_services.c proxy/import_sm_table.c proxy/import_sendmail.c proxy/import_config.c proxy/import_report.c proxy/postern_files.c */
/*
 * postern import sendmail: a directory of hostile files.  An input is divided
 * by lines "==": the first word names the main file, "mc" or "cf", its text
 * follows; further parts begin with the name of a table.  What comes out is a
 * main.cf that can be read, in which no value holds the end of a line, and a
 * report.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/conf_source.h"
#include "lib/log.h"
#include "lib/write_all.h"
#include "proxy/postern_import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const tables[] = { "access", "mailertable",
	"virtusertable", "genericstable", "domaintable", "local-host-names",
	"relay-domains", "aliases", "authinfo" };
#define TABLES	(sizeof tables / sizeof tables[0])

/* The next part, up to a line "==". */
static struct view
part(struct view *rest)
{
	struct view all = *rest;

	for (size_t i = 0; i + 4 <= all.n; i++)
		if (memcmp(all.p + i, "\n==\n", 4) == 0) {
			*rest = view_from(all, i + 4);
			return view_head(all, i + 1);
		}
	*rest = view_from(all, all.n);
	return all;
}

static void
put(const char *dir, const char *name, struct view text)
{
	char path[200];
	int fd;

	(void)snprintf(path, sizeof path, "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ensure(fd >= 0 && write_all(fd, text));
	(void)close(fd);
}

static void
clear(const char *dir)
{
	static const char *const mains[] = { "sendmail.mc", "sendmail.cf" };
	char path[200];
	size_t i;

	for (i = 0; i < TABLES + 2; i++) {
		(void)snprintf(path, sizeof path, "%s/%s", dir, i < TABLES ?
		    tables[i] : mains[i - TABLES]);
		(void)unlink(path);
	}
}

static void
quiet(bool error, const char *text, void *arg)
{
	unsigned *errors = arg;

	/* what a value means is not judged here */
	*errors += error && strstr(text, "missing '='") != NULL;
}

static void
check(struct import_config *c)
{
	struct conf_source *src = conf_source_new("main.cf");
	unsigned errors = 0;
	struct conf_reporter r = { .report = quiet, .arg = &errors,
		.origin = "main.cf" };
	struct buf b;

	buf_init(&b, CONF_FILE_MAX);
	if (import_main_cf(c, "fuzz", &b))
		conf_source_read(src, buf_view(&b), &r);
	ensure(errors == 0);
	conf_source_free(&src);
	buf_free(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool quieted;
	char dir[] = "/tmp/fuzz-import-XXXXXX";
	struct view rest = view_make(data, size), text, name;
	struct import_order o = { .from = dir, .to = "/nonexistent" };
	struct import_config *c;
	struct import_report *r;
	struct buf b;
	int null;
	size_t i;

	if (size > 65536)
		return 0;
	ensure(mkdtemp(dir) != NULL);
	if (!quieted) {
		quieted = true;
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		log_to(LOG_SINK_FILE, null, 0);
	}
	text = part(&rest);
	name = view_head(text, view_find(text, '\n'));
	put(dir, view_is(name, "cf") ? "sendmail.cf" : "sendmail.mc",
	    view_from(text, name.n + 1));
	while (rest.n > 0) {
		text = part(&rest);
		name = view_head(text, view_find(text, '\n'));
		for (i = 0; i < TABLES; i++)
			if (view_is(name, tables[i]))
				put(dir, tables[i], view_from(text,
				    name.n + 1));
	}
	c = import_config_new();
	r = import_report_new();
	if (import_sendmail(&o, c, r)) {
		check(c);
		buf_init(&b, IMPORT_REPORT_MAX);
		ensure(import_report_print(r, "fuzz", &b));
		buf_free(&b);
	}
	import_report_free(&r);
	import_config_free(&c);
	clear(dir);
	ensure(rmdir(dir) == 0);
	return 0;
}
