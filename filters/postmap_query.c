#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "filters/postmap.h"
#include "lib/log.h"
#include "lib/table_program.h"
#include "rules/mime.h"
#include "rules/table_remote.h"
#include "rules/table_update.h"

struct query {
	struct stage stage;	/* first */
	const struct postmap *pm;
	struct table **tables;
	int n;
	struct buf value;
	bool many, found;
	struct mime *walk;
};

/* -- output ---------------------------------------------------------------- */

static void
put_json(struct view v)
{
	for (size_t i = 0; i < v.n; i++) {
		unsigned char c = (unsigned char)v.p[i];

		if (c == '"' || c == '\\')
			(void)printf("\\%c", c);
		else if (c == '\n')
			(void)fputs("\\n", stdout);
		else if (c == '\t')
			(void)fputs("\\t", stdout);
		else if (c < ' ' || c == 127)
			(void)printf("\\u%04x", c);
		else
			(void)putchar(c);
	}
}

static void
put_entry(struct view key, struct view value, void *arg)
{
	const struct postmap *pm = arg;

	if (pm->json) {
		(void)fputs("{\"", stdout);
		put_json(key);
		(void)fputs("\": \"", stdout);
		put_json(value);
		(void)fputs("\"}\n", stdout);
	} else {
		(void)fwrite(key.p, 1, key.n, stdout);
		(void)fputs(pm->aliases ? ":\t" : "\t", stdout);
		(void)fwrite(value.p, 1, value.n, stdout);
		(void)putchar('\n');
	}
}

/* -- keys ------------------------------------------------------------------ */

static void
query_key(struct query *q, struct view key)
{
	unsigned line;

	for (int i = 0; i < q->n; i++) {
		enum table_answer a = table_find(q->tables[i], key, &q->value,
		    &line);

		if (a == TABLE_FAILED)
			fatal("table %s: query error",
			    table_name(q->tables[i]));
		if (a == TABLE_NOT_FOUND)
			continue;
		if (q->value.n == 0)
			log_warn("table %s: key %s: empty string result is "
			    "not allowed", table_name(q->tables[i]),
			    log_safe(key));
		if (q->many || q->pm->json) {
			put_entry(key, buf_view(&q->value),
			    (void *)(uintptr_t)q->pm);
		} else {
			(void)fwrite(q->value.p, 1, q->value.n, stdout);
			(void)putchar('\n');
		}
		q->found = true;
		return;
	}
}

static void
query_line(struct view line, void *arg)
{
	query_key(arg, line);
}

/* -- whole messages -------------------------------------------------------- */

static void
on_header(struct stage *s, const struct mime_header *h)
{
	struct query *q = (struct query *)s;

	if (q->pm->header)
		query_key(q, h->text);
	/* body_checks sees the headers of parts too: filters/checks.h */
	else if (q->pm->mime && h->part->block == MIME_BLOCK_PART)
		query_key(q, h->text);
}

static void
on_headers_end(struct stage *s, const struct mime_part *p, uint64_t offset)
{
	struct query *q = (struct query *)s;

	(void)p;
	(void)offset;
	if (!q->pm->body && !q->pm->mime)
		mime_stop(q->walk);
}

static void
on_line(struct stage *s, const struct mime_line *l)
{
	struct query *q = (struct query *)s;

	if (q->pm->body)
		query_key(q, l->text);
}

static const struct stage_ops query_ops = {
	.name = "postmap", .header = on_header,
	.headers_end = on_headers_end, .line = on_line
};

static void
query_message(struct query *q)
{
	const struct conf *cf = q->pm->cf;
	struct mime_options o = mime_options_of(cf);
	struct stage *stages[] = { &q->stage };
	char bytes[65536];
	ssize_t n;

	o.one_part = !q->pm->mime;
	q->stage.ops = &query_ops;
	q->walk = mime_new(&o);
	mime_begin(q->walk, stages, 1);
	while ((n = read(STDIN_FILENO, bytes, sizeof bytes)) != 0) {
		if (n < 0 && errno != EINTR)
			fatal("read: %s", strerror(errno));
		if (n > 0)
			mime_feed(q->walk, view_make(bytes, (size_t)n));
	}
	mime_end(q->walk);
	mime_free(&q->walk);
}

/* -- tables behind connections --------------------------------------------- */

/* Each that is asked has its program, until the command ends. */
struct remote {
	struct remote *next;
	char *table;
	struct table_program program;
};

struct remotes {
	const struct postmap *pm;
	struct remote *list;
};

static struct remote *
remote_of(struct remotes *all, const struct table_need *need)
{
	struct remote *r;
	const char *type = table_remote_type(need->service);

	for (r = all->list; r != NULL; r = r->next)
		if (view_is(need->table, r->table))
			return r;
	r = mem_alloc(sizeof *r);
	r->table = mem_copy(need->table);
	if (!table_program_start(&r->program, all->pm->cf->daemon_directory,
	    type, r->table, all->pm->config_dir))
		fatal("%s: cannot run %s/lookup-%s: %s", r->table,
		    all->pm->cf->daemon_directory, type, strerror(errno));
	r->next = all->list;
	all->list = r;
	return r;
}

static void
remote_ask(const struct table_need *need, enum table_reply *ret,
    struct buf *value, void *arg)
{
	*ret = table_program_ask(&remote_of(arg, need)->program, need->key,
	    value);
}

static void
remotes_end(struct remotes *all)
{
	struct remote *r;

	while ((r = all->list) != NULL) {
		all->list = r->next;
		(void)table_program_end(&r->program);
		free(r->table);
		free(r);
	}
}

bool
postmap_query(const struct postmap *pm, char **specs, int n)
{
	struct query q = { .pm = pm, .n = n };
	struct remotes remotes = { .pm = pm };

	table_remote_ask_with(remote_ask, &remotes);
	q.many = strcmp(pm->query, "-") == 0;
	q.tables = mem_array((size_t)n, sizeof(struct table *));
	for (int i = 0; i < n; i++) {
		q.tables[i] = table_open(view_of(specs[i]), pm->config_dir,
		    log_report, NULL);
		if (q.tables[i] == NULL)
			fatal("cannot open %s", specs[i]);
	}
	buf_init(&q.value, POSTMAP_VALUE_MAX);
	if (!q.many)
		query_key(&q, view_of(pm->query));
	else if (pm->header || pm->body)
		query_message(&q);
	else
		postmap_lines(query_line, &q);
	buf_free(&q.value);
	for (int i = 0; i < n; i++)
		table_free(&q.tables[i]);
	free(q.tables);
	remotes_end(&remotes);
	return q.found;
}

/* texthash: and inline: have no index. */
static bool
listed_from_memory(const struct postmap *pm, const char *spec)
{
	struct table *t;

	if (strncmp(spec, "texthash:", 9) != 0 &&
	    strncmp(spec, "inline:", 7) != 0)
		return false;
	t = table_open(view_of(spec), pm->config_dir, log_report, NULL);
	if (t == NULL)
		fatal("cannot open %s", spec);
	table_entries(t, put_entry, (void *)(uintptr_t)pm);
	table_free(&t);
	return true;
}

void
postmap_list(const struct postmap *pm, const char *spec)
{
	struct table_loader l = { .report = postmap_report };
	const char *path;

	if (listed_from_memory(pm, spec))
		return;
	path = l.origin = postmap_index(spec);
	if (table_dump(path, put_entry, (void *)(uintptr_t)pm, &l) ==
	    TABLE_NO_INDEX)
		fatal("open database %s%s: %s", path, TABLE_INDEX_SUFFIX,
		    strerror(ENOENT));
}
