#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/cursor.h"
#include "lib/mem.h"
#include "lib/table_program.h"

__attribute__((noreturn))
static void
program_exec(int in, int out, char *const *argv)
{
	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
		_exit(1);
	(void)execv(argv[0], argv);
	_exit(127);
}

bool
table_program_start(struct table_program *p, const char *daemon_dir,
    const char *type, const char *table, const char *config_dir)
{
	char *argv[] = { mem_printf("%s/lookup-%s", daemon_dir, type),
		mem_strdup("-q"), mem_strdup(table), mem_strdup(config_dir),
		NULL };
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, i;
	bool ok = access(argv[0], X_OK) == 0 && pipe2(in, O_CLOEXEC) == 0 &&
	    pipe2(out, O_CLOEXEC) == 0;

	*p = (struct table_program){ .pid = -1, .to = -1, .from = -1 };
	if (ok) {
		(void)signal(SIGPIPE, SIG_IGN);
		p->pid = fork();
		if (p->pid == 0)
			program_exec(in[0], out[1], argv);
		ok = p->pid > 0;
	}
	if (ok) {
		p->to = in[1];
		p->from = out[0];
		in[1] = out[0] = -1;
	}
	for (i = 0; i < 2; i++) {
		if (in[i] >= 0)
			(void)close(in[i]);
		if (out[i] >= 0)
			(void)close(out[i]);
	}
	for (i = 0; argv[i] != NULL; i++)
		free(argv[i]);
	return ok;
}

static bool
program_read(int fd, char *to, size_t n)
{
	ssize_t got;

	while (n > 0) {
		got = read(fd, to, n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		to += got;
		n -= (size_t)got;
	}
	return true;
}

static bool
program_write(int fd, struct view v)
{
	ssize_t n;

	while (v.n > 0) {
		n = write(fd, v.p, v.n);
		if (n < 0 && errno != EINTR)
			return false;
		if (n > 0)
			v = view_from(v, (size_t)n);
	}
	return true;
}

enum table_reply
table_program_ask(struct table_program *p, struct view key, struct buf *value)
{
	char head[5], *to;
	struct cursor c;
	struct buf b;
	uint32_t n;
	uint8_t reply;
	bool ok;

	buf_init(&b, key.n + 16);
	ok = put_view(&b, key) && program_write(p->to, buf_view(&b)) &&
	    program_read(p->from, head, sizeof head);
	buf_free(&b);
	if (!ok)
		return TABLE_REPLY_FAILED;
	c = cursor_of(view_make(head, sizeof head));
	reply = cursor_u8(&c);
	n = cursor_u32(&c);
	if (reply != TABLE_REPLY_FOUND)
		return reply == TABLE_REPLY_NONE && n == 0 ?
		    TABLE_REPLY_NONE : TABLE_REPLY_FAILED;
	if (n > TABLE_REPLY_MAX || (to = buf_room(value, n)) == NULL ||
	    !program_read(p->from, to, n))
		return TABLE_REPLY_FAILED;
	value->n += n;
	return TABLE_REPLY_FOUND;
}

bool
table_program_end(struct table_program *p)
{
	int status = 1;

	if (p->to >= 0)
		(void)close(p->to);
	if (p->from >= 0)
		(void)close(p->from);
	while (p->pid > 0 && waitpid(p->pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	*p = (struct table_program){ .pid = -1, .to = -1, .from = -1 };
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
