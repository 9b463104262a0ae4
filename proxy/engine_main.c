/*
 * The program lookup-TYPE: the role behind which the tables of one type are.
 * Only it has the client library, and only it read the passwords.  It serves
 * the tables that the configuration names and no others, whoever asks.
 *
 *	lookup-TYPE -q TABLE CONFIG_DIRECTORY
 *
 * is for postmap and `postern check`: keys come from standard input (u32
 * length, bytes), answers go to standard output (u8 enum table_reply, u32
 * length, bytes).  A table that cannot be opened: status 1.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "lib/role.h"
#include "proxy/engine_work.h"

static size_t n_peers;

static void
table_look_for_end(void)
{
	if (role_phase() != PHASE_RETIRING || n_peers > 0)
		return;
	if (role_control() != NULL)
		chan_drain(role_control());
	log_flush();
	/* What the client library wants to do at exit, it must not do beside
	 * threads that are still in it. */
	_exit(0);
}

static void
table_answer(void *arg, uint32_t tag, enum engine_answer a, struct view value)
{
	struct chan *c = arg;
	struct buf *b = chan_begin(c, MSG_TABLE_IS);

	put_u32(b, tag);
	put_u8(b, a == ENGINE_FOUND ? TABLE_REPLY_FOUND :
	    a == ENGINE_NOT_FOUND ? TABLE_REPLY_NONE : TABLE_REPLY_FAILED);
	put_view(b, value);
	chan_end(c);
}

static void
table_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	uint32_t tag = cursor_u32(&m->body);
	struct view table = cursor_view(&m->body);
	struct view key = cursor_view(&m->body);
	uint32_t ms = cursor_u32(&m->body);
	struct work_table *t;

	(void)arg;
	if (!chan_check(c, m))
		return;
	if (m->type != MSG_TABLE) {
		chan_blame(c, "unexpected message");
		return;
	}
	t = work_find(table);
	if (t == NULL)
		log_warn("%s asks for table %s, which is not configured",
		    role_kind_name(chan_peer(c)), log_safe(table));
	if (t == NULL || !work_ask(t, key, ms, table_answer, c, tag))
		table_answer(c, tag, ENGINE_TEMPORARY, view_make("", 0));
}

static void
table_on_close(struct chan *c, void *arg)
{
	(void)arg;
	work_forget(c);
	chan_free(&c);
	n_peers--;
	table_look_for_end();
}

static void
table_peer(const struct role_peer *peer, int fd)
{
	(void)chan_new(fd, ROLE_TABLE, peer->kind, peer->pid, table_on_msg,
	    table_on_close, NULL);
	n_peers++;
}

/*
 * Whatever the C library loads to resolve a host name it must have loaded
 * before no code can be loaded any more.
 */
static void
table_resolve_once(void)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;

	if (getaddrinfo("localhost", NULL, &hints, &list) == 0)
		freeaddrinfo(list);
}

static bool
table_open_one(const char *name, unsigned n, const struct conf *cf)
{
	struct buf err;
	bool ok;

	buf_init(&err, 2 * ENGINE_ERROR_MAX);
	ok = work_open(name, n, cf, &err) != NULL;
	if (!ok)
		log_error("table %s: %s", name, log_safe(buf_view(&err)));
	buf_free(&err);
	return ok;
}

static void
table_load(void)
{
	const struct conf *cf = role_conf();
	struct view rest = view_of(cf->lookup_tables), word;
	bool ok = true;
	char *name;

	table_resolve_once();
	while ((word = view_word(&rest, " ")).n > 0) {
		name = mem_copy(word);
		ok = table_open_one(name,
		    (unsigned)cf->lookup_table_connections, cf) && ok;
		free(name);
	}
	if (!ok)
		fatal("tables of type %s cannot be used", engine.type);
}

/* -- one question, for commands -------------------------------------------- */

static bool
read_all(void *to, size_t n)
{
	char *p = to;
	ssize_t got;

	while (n > 0) {
		got = read(STDIN_FILENO, p, n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		p += got;
		n -= (size_t)got;
	}
	return true;
}

static void
write_all(struct view v)
{
	ssize_t n;

	while (v.n > 0) {
		n = write(STDOUT_FILENO, v.p, v.n);
		if (n < 0 && errno != EINTR)
			exit(1);
		if (n > 0)
			v = view_from(v, (size_t)n);
	}
}

static void
query_one(void *handle, const char *table, struct view key)
{
	struct buf value, err, out;
	enum engine_answer a;

	buf_init(&value, ENGINE_VALUE_MAX);
	buf_init(&err, ENGINE_ERROR_MAX);
	buf_init(&out, ENGINE_VALUE_MAX + 16);
	a = engine.query(handle, key, &value, &err);
	if (a != ENGINE_FOUND)
		buf_clear(&value);
	if (a != ENGINE_FOUND && a != ENGINE_NOT_FOUND)
		log_warn("table %s: %s", table, log_safe(buf_view(&err)));
	ensure(put_u8(&out, a == ENGINE_FOUND ? TABLE_REPLY_FOUND :
	    a == ENGINE_NOT_FOUND ? TABLE_REPLY_NONE : TABLE_REPLY_FAILED) &&
	    put_view(&out, value.n > 0 ? buf_view(&value) :
	    view_make("", 0)));
	write_all(buf_view(&out));
	buf_free(&value);
	buf_free(&err);
	buf_free(&out);
}

static int
table_query(const char *table, const char *config_dir)
{
	unsigned char head[4];
	char key[ENGINE_KEY_MAX];
	struct engine_conf *c;
	struct conf *cf;
	void *handle = NULL;
	struct buf err;
	uint32_t n;

	log_open(engine.type, "localhost");
	cf = conf_load(config_dir, log_report_errors, NULL);
	if (cf == NULL)
		return 1;
	buf_init(&err, 2 * ENGINE_ERROR_MAX);
	c = engine_conf_load(table, engine.name_is_all, cf, &err);
	if (c == NULL || !engine.open(c, &handle, &err) ||
	    engine_conf_mistakes(c).n > 0) {
		if (c != NULL)
			(void)buf_putv(&err, view_head(engine_conf_mistakes(
			    c), ENGINE_ERROR_MAX));
		(void)fprintf(stderr, "%s: %s\n", table,
		    log_safe(buf_view(&err)));
		return 1;
	}
	buf_free(&err);
	while (read_all(head, sizeof head)) {
		n = (uint32_t)head[0] | (uint32_t)head[1] << 8 |
		    (uint32_t)head[2] << 16 | (uint32_t)head[3] << 24;
		if (n > sizeof key || !read_all(key, n))
			return 1;
		query_one(handle, table, view_make(key, n));
	}
	engine.close(handle);
	engine_conf_free(&c);
	conf_free(&cf);
	return 0;
}

int
main(int argc, char **argv)
{
	struct role_def def = {
		.kind = ROLE_TABLE,
		.jail = { .allow = JAIL_CONNECT | JAIL_THREADS |
			(engine.sees_files ? JAIL_READ_FILES |
			JAIL_RESOLVE : 0),
			.max_files = 4096 },
		.load = table_load,
		.start = work_start,
		.peer = table_peer,
		.retire = table_look_for_end,
		.status = work_status,
	};

	if (argc == 4 && strcmp(argv[1], "-q") == 0)
		return table_query(argv[2], argv[3]);
	return role_main(&def, argc, argv);
}
