/* postern replay: saved messages through the rules, present and new. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/postern_trial.h"

#define FILE_MAX_BYTES	(64u << 20)
#define HEAD_MAX	65536u	/* where the envelope is looked for */
#define CHANGES_MAX	65536u
#define VERDICT_MAX	(TRIAL_REPLY_MAX + CHANGES_MAX + 2048u)

/* One configuration, and what it said last. */
struct replay_rules {
	struct trial *trial;
	char rule[1024];	/* "file:line" of the last decision */
	struct buf verdict;
	struct buf changes;	/* by rules at delivery */
};

struct replay {
	struct replay_rules rules[2];
	unsigned n_rules;
	struct trial_message m;
	struct view to[TRIAL_RCPTS_MAX], given_to[TRIAL_RCPTS_MAX];
	size_t n_given_to;
	struct view given_from;
	bool has_from;
	struct buf file, text;
	unsigned long files, differ, damaged;
};

/* -- verdicts -------------------------------------------------------------- */

/* Log lines end in " rule=file:line" where a rule decided. */
static void
replay_line(enum role_kind role, struct view text, void *arg)
{
	struct replay_rules *r = arg;
	static const char mark[] = " rule=";
	const char *at;

	/* Rules at delivery decide nothing. */
	at = memmem(text.p, text.n, mark, sizeof mark - 1);
	if (at == NULL || role == ROLE_RELAY)
		return;
	text = view_from(text, (size_t)(at - text.p) + sizeof mark - 1);
	(void)snprintf(r->rule, sizeof r->rule, "%.*s", VIEW_ARGS(text));
}

static void
replay_judged(const struct judgement *j, const struct envelope *e, void *arg)
{
	struct replay_rules *r = arg;
	uint32_t i;

	(void)e;
	if (j->verdict.action != ACTION_REJECT &&
	    j->verdict.action != ACTION_OK)
		(void)buf_printf(&r->verdict, "%s ",
		    action_name(j->verdict.action));
	if (j->verdict.where.n > 0)
		(void)snprintf(r->rule, sizeof r->rule, "%.*s",
		    VIEW_ARGS(j->verdict.where));
	if (j->redirect.n > 0)
		(void)buf_printf(&r->verdict, "REDIRECT %s ",
		    log_safe(j->redirect));
	if (j->filter.n > 0)
		(void)buf_printf(&r->verdict, "FILTER %s ",
		    log_safe(j->filter));
	for (i = 0; i < j->n_bcc; i++)
		(void)buf_printf(&r->verdict, "BCC %s ", log_safe(j->bcc[i]));
}

/* These stand behind the reply. */
static void
replay_delivery(struct view transport, struct view text, void *arg)
{
	struct replay_rules *r = arg;

	if (!view_is(text, "unchanged"))
		(void)buf_printf(&r->changes, "; at delivery by %s: %s",
		    log_safe(transport), log_safe(text));
}

/* The queue id is no part of what is compared. */
static void
replay_put_reply(struct buf *b, const char *reply)
{
	struct view v = view_of(reply);
	static const char queued[] = "250 2.0.0 Ok: queued as ";
	size_t i;

	if (view_starts_nocase(v, queued))
		v = view_of("250 2.0.0 Ok: queued");
	for (i = 0; i < v.n; i++)
		(void)(v.p[i] == '\n' ? buf_puts(b, "\\n") :
		    buf_putc(b, v.p[i]));
}

static bool
replay_ask(struct replay_rules *r, const struct trial_message *m)
{
	const char *reply;

	buf_clear(&r->verdict);
	buf_clear(&r->changes);
	r->rule[0] = '\0';
	reply = trial_run(r->trial, m);
	if (reply == NULL)
		return false;
	replay_put_reply(&r->verdict, reply);
	(void)buf_putv(&r->verdict, buf_view(&r->changes));
	if (r->rule[0] != '\0')
		(void)buf_printf(&r->verdict, "; rule=%s", r->rule);
	return true;
}

/* The line of a rule may change while its words do not. */
static struct view
replay_decision(const struct replay_rules *r)
{
	struct view v = buf_view(&r->verdict);

	if (r->rule[0] != '\0')
		v = view_head(v, v.n - strlen(r->rule) - strlen("; rule="));
	return v;
}

/* -- messages -------------------------------------------------------------- */

/* The value of a header line "name:"; .p NULL: there is none. */
static struct view
replay_field(struct view head, const char *name)
{
	struct view line, rest = head;
	size_t end;

	while (rest.n > 0) {
		end = view_find(rest, '\n');
		line = view_trim(view_head(rest, end));
		if (line.n == 0)
			break;
		if (view_starts_nocase(line, name))
			return view_trim(view_from(line, strlen(name)));
		rest = view_from(rest, end + 1);
	}
	return view_make(NULL, 0);
}

static struct view
replay_bare(struct view v)
{
	v = view_trim(v);
	if (v.n >= 2 && v.p[0] == '<' && v.p[v.n - 1] == '>')
		v = view_head(view_from(v, 1), v.n - 2);
	return v;
}

/* Options first, then X-Envelope-From/To, then Return-Path, Delivered-To. */
static const char *
replay_envelope(struct replay *r, struct view head)
{
	struct view from = replay_field(head, "X-Envelope-From:"), to, word;

	if (from.p == NULL)
		from = replay_field(head, "Return-Path:");
	if (r->has_from)
		from = r->given_from;
	if (from.p == NULL)
		return "no sender: neither X-Envelope-From nor Return-Path";
	r->m.from = replay_bare(from);
	r->m.to = r->to;
	r->m.n_to = 0;
	if (r->n_given_to > 0) {
		r->m.to = r->given_to;
		r->m.n_to = r->n_given_to;
		return NULL;
	}
	to = replay_field(head, "X-Envelope-To:");
	if (to.p == NULL)
		to = replay_field(head, "Delivered-To:");
	while ((word = view_word(&to, ", \t")).n > 0 &&
	    r->m.n_to < TRIAL_RCPTS_MAX)
		r->to[r->m.n_to++] = replay_bare(word);
	return r->m.n_to > 0 ? NULL :
	    "no recipient: neither X-Envelope-To nor Delivered-To";
}

static const char *
replay_read(struct replay *r, int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	const char *why = NULL;
	ssize_t n = 0;
	char *to;

	if (fd < 0)
		return strerror(errno);
	buf_clear(&r->file);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		why = "not a file";
	} else {
		while ((to = buf_room(&r->file, 65536)) != NULL &&
		    (n = read(fd, to, 65536)) > 0)
			r->file.n += (size_t)n;
		why = to == NULL ? "it is too large" : n < 0 ?
		    strerror(errno) : r->file.n == 0 ? "it is empty" : NULL;
	}
	close(fd);
	if (why != NULL)
		return why;
	if (memchr(r->file.p, '\0', r->file.n < HEAD_MAX ? r->file.n :
	    HEAD_MAX) != NULL && replay_field(buf_view(&r->file),
	    "X-Envelope-From:").p == NULL)
		return "not a message";
	return NULL;
}

/* False: the run is over. */
static bool
replay_file(struct replay *r, int dir, const char *name)
{
	const char *why = replay_read(r, dir, name);
	unsigned i;

	r->files++;
	if (why == NULL)
		why = replay_envelope(r, view_head(buf_view(&r->file),
		    HEAD_MAX));
	if (why != NULL) {
		r->damaged++;
		fprintf(stderr, "%s: not replayed: %s\n", name, why);
		return true;
	}
	buf_clear(&r->text);
	trial_text(buf_view(&r->file), &r->text);
	r->m.text = buf_view(&r->text);
	for (i = 0; i < r->n_rules; i++)
		if (!replay_ask(&r->rules[i], &r->m))
			return false;
	if (r->n_rules == 1) {
		printf("%s: %s\n", name, buf_cstr(&r->rules[0].verdict));
	} else if (!view_eq(replay_decision(&r->rules[0]),
	    replay_decision(&r->rules[1]))) {
		r->differ++;
		printf("%s:\n  old: %s\n  new: %s\n", name,
		    buf_cstr(&r->rules[0].verdict),
		    buf_cstr(&r->rules[1].verdict));
	}
	return true;
}

/* -- the command ----------------------------------------------------------- */

static bool
replay_all(struct replay *r, const char *path)
{
	struct dirent **list;
	int i, n = scandir(path, &list, NULL, alphasort);
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok = true;

	if (n < 0 || dir < 0) {
		log_error("%s: %s", path, strerror(errno));
		return false;
	}
	for (i = 0; i < n; i++) {
		if (ok && list[i]->d_name[0] != '.')
			ok = replay_file(r, dir, list[i]->d_name);
		free(list[i]);
	}
	free(list);
	close(dir);
	return ok;
}

static bool
replay_open(struct replay *r, const char *config_dir)
{
	struct replay_rules *rules = &r->rules[r->n_rules];
	const struct trial_options o = { .on_line = replay_line,
		.on_judged = replay_judged, .on_delivery = replay_delivery,
		.arg = rules };

	buf_init(&rules->verdict, VERDICT_MAX);
	buf_init(&rules->changes, CHANGES_MAX);
	rules->trial = trial_open(config_dir, &o);
	if (rules->trial == NULL)
		return false;
	r->n_rules++;
	return true;
}

static int
replay_run(struct replay *r, struct postern *p, const char *new_dir,
    const char *path)
{
	char *dir = NULL;
	bool ok;

	if (new_dir != NULL && (dir = realpath(new_dir, NULL)) == NULL) {
		log_error("%s: %s", new_dir, strerror(errno));
		return 2;
	}
	table_check_only();
	ok = replay_open(r, p->config_dir) &&
	    (dir == NULL || replay_open(r, dir)) && replay_all(r, path);
	if (ok && dir != NULL)
		printf("%lu files, %lu differ, %lu not replayed\n", r->files,
		    r->differ, r->damaged);
	else if (ok)
		printf("%lu files, %lu not replayed\n", r->files, r->damaged);
	(void)fflush(stdout);
	while (r->n_rules > 0) {
		r->n_rules--;
		trial_free(&r->rules[r->n_rules].trial);
		buf_free(&r->rules[r->n_rules].verdict);
		buf_free(&r->rules[r->n_rules].changes);
	}
	free(dir);
	return !ok ? 2 : r->differ > 0 ? 1 : 0;
}

int
postern_replay(struct postern *p, int argc, char **argv)
{
	static const struct option options[] = {
		{ "rules", required_argument, NULL, 'R' },
		{ "client", required_argument, NULL, 'c' },
		{ "from", required_argument, NULL, 'f' },
		{ "to", required_argument, NULL, 't' },
		{ NULL, 0, NULL, 0 },
	};
	struct replay *r = mem_alloc(sizeof *r);
	const char *new_dir = NULL;
	int ch, status;

	/* A stranger: an address for documentation, RFC 5737. */
	ensure(netaddr_parse(view_of("192.0.2.1"), &r->m.client));
	r->m.helo = "client.example";
	r->m.has_text = true;
	buf_init(&r->file, FILE_MAX_BYTES);
	buf_init(&r->text, 3 * (size_t)FILE_MAX_BYTES);
	optind = 0;	/* words may stand before options */
	while ((ch = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (ch == 'R') {
			new_dir = optarg;
		} else if (ch == 'f') {
			r->given_from = view_of(optarg);
			r->has_from = true;
		} else if (ch == 't' && r->n_given_to < TRIAL_RCPTS_MAX) {
			r->given_to[r->n_given_to++] = view_of(optarg);
		} else if (ch != 'c' || !netaddr_parse(view_of(optarg),
		    &r->m.client)) {
			log_error("bad option");
			return 2;
		}
	}
	if (optind + 1 != argc) {
		log_error("usage: postern replay [--rules NEWDIR] [--client "
		    "IP] [--from A] [--to B] DIR");
		return 2;
	}
	status = replay_run(r, p, new_dir, argv[optind]);
	buf_free(&r->file);
	buf_free(&r->text);
	free(r);
	return status;
}
