/* What postern-milter reads, and whether it has changed. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "filters/postern_milter.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "rules/conf_files.h"
#include "rules/policy_inside.h"
#include "rules/table_remote.h"

#define SNAPSHOT_MAX	(2u << 20)
#define FILES_MAX	1000u
#define POLL_MS		1000

/* -- configuration --------------------------------------------------------- */

struct values {
	bool bad;
	const char *name;
};

static void
conf_remote(uint32_t service, struct view table, void *arg)
{
	struct values *v = arg;

	(void)service;
	log_error("%s: %.*s: postern-milter has no tables behind a "
	    "connection", v->name, VIEW_ARGS(view_head(table, 200)));
	v->bad = true;
}

/* Rewriting is the mail server's affair: what a filter opens for that it does
 * not ask. */
static void
conf_checks_value(const char *name, const char *value, void *arg)
{
	struct values *v = arg;
	size_t n = strlen(name);

	v->name = name;
	if (strcmp(name, "filter_policy_maps") == 0 ||
	    (n > 7 && strcmp(name + n - 7, "_checks") == 0))
		table_remote_names(view_of(value), conf_remote, v);
}

static void
conf_value(const char *name, const char *value, void *arg)
{
	struct values *v = arg;

	v->name = name;
	table_remote_names(view_of(value), conf_remote, v);
}

/* What would be waited for in vain. */
static bool
conf_answerable(const struct conf *cf)
{
	struct values v = { .bad = false };

	conf_file_values(cf, ROLE_FILTER, conf_checks_value, &v);
	if (policy_inside_stages(cf) != 0)
		conf_file_values(cf, ROLE_SMTPD, conf_value, &v);
	return !v.bad;
}

/* What pmilter goes by, which is not started again: as it was. */
static struct {
	char *restrictions, *delay;
} fixed;

static const char *
conf_fix(char **to, const char *name, const char *value)
{
	if (*to == NULL)
		*to = mem_strdup(value);
	if (strcmp(*to, value) != 0)
		log_warn("%s: the change needs a new start", name);
	return *to;
}

/* Over policy_inside_overrides(): those two, and the account. */
static size_t
conf_overrides(const struct keeper_options *o, const struct conf *cf,
    char ***ret)
{
	static const char restrictions[] = "postern_milter_restrictions";
	static const char delay[] = "smtpd_delay_reject";
	const char *value = conf_fix(&fixed.restrictions, restrictions,
	    cf->postern_milter_restrictions);
	size_t n = policy_inside_overrides(value, ret);

	*ret = mem_resize(*ret, n + 3, sizeof **ret);
	(*ret)[n++] = mem_printf("%s=%s", restrictions, value);
	value = conf_fix(&fixed.delay, delay,
	    cf->smtpd_delay_reject ? "yes" : "no");
	(*ret)[n++] = mem_printf("%s=%s", delay, value);
	if (o->user != NULL)
		(*ret)[n++] = mem_printf("scan_user=%s", o->user);
	return n;
}

bool
keeper_conf_load(const struct keeper_options *o, struct keeper_conf *ret)
{
	struct conf *cf = conf_load(o->config_dir, log_report, NULL);
	char **overrides;
	struct buf b;
	size_t n;
	bool ok;

	if (cf == NULL || !policy_inside_check(cf, log_report, NULL)) {
		conf_free(&cf);
		return false;
	}
	buf_init(&b, SNAPSHOT_MAX);
	n = conf_overrides(o, cf, &overrides);
	ok = conf_snapshot(cf, overrides, n, &b);
	conf_free(&cf);
	while (n > 0)
		free(overrides[--n]);
	free(overrides);
	if (!ok)
		log_error("main.cf is too large");
	else
		cf = conf_parse(buf_view(&b), "main.cf", log_report_errors,
		    NULL);
	if (cf == NULL || !conf_answerable(cf)) {
		conf_free(&cf);
		buf_free(&b);
		return false;
	}
	*ret = (struct keeper_conf){ cf, b };
	return true;
}

void
keeper_conf_free(struct keeper_conf *c)
{
	conf_free(&c->cf);
	buf_free(&c->snapshot);
}

/* -- files ----------------------------------------------------------------- */

struct watched {
	char *path;
	struct stat st;		/* all zero: it is not there */
};

static struct {
	struct watched *list;
	size_t n;
	bool changed;		/* and not quiet yet */
	void (*fn)(void);
	struct event timer;
} watch;

static struct stat
watch_stat(const char *path)
{
	struct stat st = { 0 };

	if (stat(path, &st) != 0)
		st = (struct stat){ 0 };
	return st;
}

static bool
watch_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	    a->st_size == b->st_size &&
	    a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	    a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	    a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	    a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Any that is not as it was; now it is. */
static bool
watch_scan(bool tell)
{
	struct watched *f;
	bool any = false;
	struct stat st;

	for (f = watch.list; f < watch.list + watch.n; f++) {
		st = watch_stat(f->path);
		if (watch_same(&st, &f->st))
			continue;
		f->st = st;
		any = true;
		if (tell)
			log_info("changed: %s", f->path);
	}
	return any;
}

/* Half a rule file is worse than the old one: first it has to be quiet. */
static void
watch_on_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	if (watch_scan(true)) {
		watch.changed = true;
	} else if (watch.changed && !keeper_reloading()) {
		watch.changed = false;
		watch.fn();
	}
	event_add(&watch.timer, loop_timeout(POLL_MS));
}

static void
watch_add(const char *path, enum role_kind kind, void *arg)
{
	size_t i;

	(void)kind;
	(void)arg;
	for (i = 0; i < watch.n; i++)
		if (strcmp(watch.list[i].path, path) == 0)
			return;
	if (watch.n == FILES_MAX) {
		log_warn("more than %u files to watch: changes of %s need "
		    "SIGHUP", FILES_MAX, path);
		return;
	}
	watch.list = mem_resize(watch.list, watch.n + 1, sizeof *watch.list);
	watch.list[watch.n++] = (struct watched){ mem_strdup(path),
		watch_stat(path) };
}

void
keeper_watch(const struct keeper_options *o, const struct conf *cf,
    void (*changed)(void))
{
	char *path = mem_printf("%s/main.cf", o->config_dir);

	while (watch.n > 0)
		free(watch.list[--watch.n].path);
	watch_add(path, ROLE_FILTER, NULL);
	free(path);
	conf_files(cf, o->config_dir, ROLE_FILTER, watch_add, NULL);
	if (policy_inside_stages(cf) != 0)
		conf_files(cf, o->config_dir, ROLE_SMTPD, watch_add, NULL);
	if (watch.fn == NULL) {
		evtimer_assign(&watch.timer, loop_base(), watch_on_time, NULL);
		event_add(&watch.timer, loop_timeout(POLL_MS));
	}
	watch.fn = changed;
}

void
keeper_watch_accept(void)
{
	(void)watch_scan(false);
	watch.changed = false;
}
