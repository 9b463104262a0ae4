/*
 * What rules at delivery (smtp_header_checks and the like) would do to a
 * message of a trial.  A relay would send it, so none is started; a child of
 * this command, locked in like one, looks at the text with the same code.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/jail.h"
#include "lib/mem.h"
#include "lib/own_addr.h"
#include "proxy/postern_trial_impl.h"
#include "proxy/relay_checks.h"
#include "proxy/relay_source.h"
#include "rules/route.h"

#define TRANSPORTS_MAX	64u	/* of one message */
#define EDITS_SHOWN	20u
#define INSERT_SHOWN	300u
#define ARENA_MAX	(64u << 20)
static const char result_mark[] = "result: ";

struct trial_relays {
	struct router *router;
	/* By the index of their team; NULL: no rules. */
	struct relay_checks **checks;
	bool *opened;
};

/* -- in the child ---------------------------------------------------------- */

static void
deliver_show_rules(const struct conf *cf)
{
	const struct {
		const char *name, *value;
	} lists[] = {
		{ "smtp_header_checks", cf->smtp_header_checks },
		{ "smtp_mime_header_checks", cf->smtp_mime_header_checks },
		{ "smtp_nested_header_checks",
		    cf->smtp_nested_header_checks },
		{ "smtp_body_checks", cf->smtp_body_checks },
	};
	size_t i;

	for (i = 0; i < sizeof lists / sizeof lists[0]; i++)
		log_trace("looked at: %s = %s", lists[i].name,
		    lists[i].value);
}

static void
deliver_show_edits(const struct edits *e)
{
	uint32_t i;

	for (i = 0; i < e->n && i < EDITS_SHOWN; i++)
		log_info("%sedit at byte %llu: %llu bytes go, put in: \"%s\"",
		    result_mark, (unsigned long long)e->list[i].offset,
		    (unsigned long long)e->list[i].remove,
		    log_safe(view_head(e->list[i].insert, INSERT_SHOWN)));
	if (e->n > EDITS_SHOWN)
		log_info("%sand %lu more", result_mark,
		    (unsigned long)(e->n - EDITS_SHOWN));
	else if (e->n == 0)
		log_info("%sunchanged", result_mark);
}

/* Only messages of the command itself stay out of its way. */
__attribute__((noreturn))
static void
deliver_child(const struct trial *t, const struct team *team,
    struct relay_checks *c, struct delivery *d, int log)
{
	const struct jail_spec spec = { .allow = 0 };
	const char *user = geteuid() == 0 ? trial_user(team) : NULL;
	const char *why = NULL;

	if (dup2(log, STDERR_FILENO) < 0)
		_exit(1);
	log_open("postern/smtp", "");
	log_verbose(t->o.trace ? LOG_LEVEL_TRACE : 0);
	if (team->cf->sandbox)
		jail_enter(&spec, user, NULL);
	else
		jail_enter_unfiltered(&spec, user, NULL);
	deliver_show_rules(team->cf);
	if (relay_check(c, d, NULL, &why) == CHECKED_DONE)
		deliver_show_edits(&d->edits);
	else
		log_info("%sdeferred: content rules failed: %s", result_mark,
		    why);
	log_flush();
	_exit(0);
}

/* -- in the command -------------------------------------------------------- */

static void
deliver_line(struct trial *t, const char *transport, struct view line)
{
	/* "postern/smtp: text" */
	line = view_trim(view_from(line, view_find(line, ':') + 1));
	if (!view_starts_nocase(line, result_mark)) {
		if (t->o.on_line != NULL)
			t->o.on_line(ROLE_RELAY, line, t->o.arg);
	} else if (t->o.on_delivery != NULL) {
		t->o.on_delivery(view_of(transport), view_from(line,
		    sizeof result_mark - 1), t->o.arg);
	}
}

static void
deliver_read(struct trial *t, const char *transport, int fd)
{
	struct buf b;
	struct view all;
	ssize_t n = 0;
	size_t end;
	char *to;

	buf_init(&b, 1u << 20);
	while ((to = buf_room(&b, 4096)) != NULL &&
	    (n = read(fd, to, 4096)) > 0) {
		b.n += (size_t)n;
		while (all = buf_view(&b),
		    (end = view_find(all, '\n')) < all.n) {
			deliver_line(t, transport, view_head(all, end));
			buf_consume(&b, end + 1);
		}
	}
	buf_free(&b);
}

static void
deliver_look(struct trial *t, const struct team *team, struct relay_checks *c,
    const char *transport, struct delivery *d)
{
	int pipe[2], status = 0;
	pid_t pid;

	if (pipe2(pipe, O_CLOEXEC) != 0)
		fatal("cannot make a pipe: %s", strerror(errno));
	(void)fflush(stdout);
	log_flush();
	pid = fork();
	if (pid < 0)
		fatal("cannot start a process: %s", strerror(errno));
	if (pid == 0)
		deliver_child(t, team, c, d, pipe[1]);
	close(pipe[1]);
	deliver_read(t, transport, pipe[0]);
	close(pipe[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (status != 0)
		trial_fail(t, "looking at the rules at delivery broke down");
}

/* The text as it is queued: with what the filter changed. */
static bool
deliver_text(struct delivery *d, int fd, uint64_t size, const struct edits *e)
{
	struct relay_source s;
	enum relay_source_answer a;
	struct view v;

	d->fd = memfd_create("text", MFD_CLOEXEC);
	if (d->fd < 0)
		return false;
	relay_source_init(&s, fd, 0, size, e);
	while ((a = relay_source_read(&s, d->relay->piece, RELAY_PIECE,
	    &v)) == SOURCE_DATA) {
		if (write(d->fd, v.p, v.n) != (ssize_t)v.n)
			return false;
		d->text_size += v.n;
	}
	d->size = d->text_size;
	return a == SOURCE_END;
}

static void
deliver_by(struct trial *t, const struct team *team, struct relay_checks *c,
    const char *transport, const struct trial_slot *s,
    const struct judgement *j)
{
	struct relay *r = mem_alloc(sizeof *r);
	struct delivery *d = mem_alloc(sizeof *d);
	struct queue_id id = { s->id };

	d->relay = r;
	d->fd = -1;
	(void)queue_id_text(id, d->id);
	d->arena = arena_new(ARENA_MAX);
	if (deliver_text(d, s->fd, s->size, &j->edits))
		deliver_look(t, team, c, transport, d);
	else
		trial_fail(t, "cannot copy the text");
	if (d->fd >= 0)
		close(d->fd);
	arena_free(&d->arena);
	free(d);
	free(r);
}

/* The rules of a transport, as its processes would have them. */
static struct relay_checks *
deliver_checks(struct trial *t, const char *transport,
    const struct team **ret_team)
{
	const struct service_table *all = t->config->table;
	struct trial_relays *r = t->relays;
	const struct service *s = NULL;
	struct team *team;
	size_t i;

	for (i = 0; i < all->n && s == NULL; i++)
		if (service_is_relay(&all->list[i]) &&
		    strcmp(all->list[i].name, transport) == 0)
			s = &all->list[i];
	team = s == NULL ? NULL : config_team(t->config, ROLE_RELAY,
	    service_relays(all, s));
	if (team == NULL)
		return NULL;
	*ret_team = team;
	i = (size_t)(team - t->config->teams);
	if (!r->opened[i] && !relay_checks_open(team->cf, log_report_errors,
	    NULL, &r->checks[i]))
		trial_fail(t, "rules at delivery cannot be used");
	r->opened[i] = true;
	return r->checks[i];
}

static void
deliver_open(struct trial *t)
{
	const struct team *team = config_team(t->config, ROLE_QMGR, 0);
	const struct conf *cf = team != NULL ? team->cf : t->config->cf;
	struct netaddr own[OWN_ADDR_MAX];
	size_t n = own_addresses(cf, own, OWN_ADDR_MAX);

	t->relays = mem_alloc(sizeof *t->relays);
	t->relays->router = router_open(cf, own, n, log_report_errors, NULL);
	t->relays->checks = mem_array(t->config->n_teams,
	    sizeof *t->relays->checks);
	t->relays->opened = mem_array(t->config->n_teams,
	    sizeof *t->relays->opened);
}

/* Each transport once; false: there is room for no more. */
static bool
deliver_add(char **list, size_t *n, struct view transport)
{
	size_t i;

	for (i = 0; i < *n; i++)
		if (view_is(transport, list[i]))
			return true;
	if (*n == TRANSPORTS_MAX)
		return false;
	list[(*n)++] = mem_copy(transport);
	return true;
}

static size_t
deliver_transports(struct trial *t, const struct judgement *j,
    const struct envelope *e, char **list)
{
	struct buf transport, nexthop;
	struct view name, hop;
	size_t n = 0;
	uint32_t i;

	if (j->filter.n > 0) {
		route_split(j->filter, &name, &hop);
		(void)deliver_add(list, &n, name);
		return n;
	}
	if (t->relays->router == NULL)
		return 0;
	buf_init(&transport, 4096);
	buf_init(&nexthop, 4096);
	for (i = 0; i < (j->redirect.n > 0 ? 1 : e->nrcpts); i++)
		if (route_find(t->relays->router, e->sender,
		    j->redirect.n > 0 ? j->redirect : e->rcpts[i].addr,
		    &transport, &nexthop) == TABLE_FOUND &&
		    !deliver_add(list, &n, buf_view(&transport)))
			break;
	buf_free(&transport);
	buf_free(&nexthop);
	return n;
}

void
trial_deliver(struct trial *t, const struct trial_slot *s,
    const struct judgement *j, const struct envelope *e)
{
	char *list[TRANSPORTS_MAX];
	const struct team *team;
	struct relay_checks *c;
	size_t n, i;

	if (t->relays == NULL)
		deliver_open(t);
	n = deliver_transports(t, j, e, list);
	for (i = 0; i < n; i++) {
		c = deliver_checks(t, list[i], &team);
		if (c != NULL)
			deliver_by(t, team, c, list[i], s, j);
		free(list[i]);
	}
}

void
trial_deliver_free(struct trial *t)
{
	size_t i;

	if (t->relays == NULL)
		return;
	router_free(&t->relays->router);
	for (i = 0; i < t->config->n_teams; i++)
		relay_checks_free(&t->relays->checks[i]);
	free(t->relays->checks);
	free(t->relays->opened);
	free(t->relays);
	t->relays = NULL;
}
