/* postern explain: why a client would be told what it would be told. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/mem.h"
#include "lib/own_addr.h"
#include "proxy/postern_trial.h"
#include "rules/class.h"
#include "rules/route.h"

#define MESSAGE_MAX	(256u << 20)
#define STEPS_MAX	(4u << 20)	/* bytes of one evaluation's lines */

struct explain {
	const struct trial *trial;
	struct buf steps;	/* of the evaluation under way */
	bool inside;		/* an evaluation */
	struct buf rcpts;	/* those of the message as it is kept: views */
	char *sender;
	bool judged;
};

/* -- what the roles tell --------------------------------------------------- */

static void
explain_step(struct explain *x, struct view text)
{
	if (!x->inside)
		printf("  %.*s\n", VIEW_ARGS(text));
	else
		(void)(buf_puts(&x->steps, "  ") &&
		    buf_putv(&x->steps, text) && buf_putc(&x->steps, '\n'));
}

/*
 * An evaluation that lacked a fact is made again when it is there; only the
 * last one counts.
 */
static void
explain_line(enum role_kind role, struct view text, void *arg)
{
	struct explain *x = arg;

	if (view_starts_nocase(text, "debug: "))
		return;
	if (!view_starts_nocase(text, "trace: ")) {
		printf("  log %s: %.*s\n", role_kind_name(role),
		    VIEW_ARGS(text));
		return;
	}
	text = view_from(text, 7);
	if (view_starts_nocase(text, "begin ")) {
		x->inside = true;
		buf_clear(&x->steps);
	} else if (view_is(text, "again")) {
		x->inside = false;
		buf_clear(&x->steps);
	} else if (view_is(text, "end")) {
		x->inside = false;
		fwrite(x->steps.p, 1, x->steps.n, stdout);
		buf_clear(&x->steps);
	} else {
		explain_step(x, text);
	}
}

static void
explain_fact(struct view text, void *arg)
{
	(void)arg;
	printf("  fact %.*s\n", VIEW_ARGS(text));
}

static void
explain_talk(const char *who, struct view text, void *arg)
{
	struct view line;

	(void)arg;
	/* A reply of several lines is shown as it is sent. */
	while ((line = view_head(text, view_find(text, '\n'))).n > 0) {
		printf("%s: %s\n", who, log_safe(line));
		text = view_from(text, line.n + 1);
	}
}

static void
explain_edits(const struct edits *e)
{
	uint32_t i;

	for (i = 0; i < e->n; i++)
		printf("  edit at byte %llu: %llu bytes go, put in: \"%s\"\n",
		    (unsigned long long)e->list[i].offset,
		    (unsigned long long)e->list[i].remove,
		    log_safe(view_head(e->list[i].insert, 300)));
}

/* What matched in them was told; the text is seen by all of them. */
static void
explain_lists(const struct trial *t)
{
	const struct team *team = config_team(trial_config(t), ROLE_FILTER,
	    0);
	const struct conf *cf = team->cf;
	const struct {
		const char *name, *value;
	} lists[] = {
		{ "header_checks", cf->header_checks },
		{ "mime_header_checks", cf->mime_header_checks },
		{ "nested_header_checks", cf->nested_header_checks },
		{ "body_checks", cf->body_checks },
		{ "decoded_header_checks", cf->decoded_header_checks },
		{ "decoded_body_checks", cf->decoded_body_checks },
	};
	size_t i;

	for (i = 0; i < sizeof lists / sizeof lists[0]; i++)
		printf("  looked at: %s = %s\n", lists[i].name,
		    lists[i].value);
}

static void
explain_judged(const struct judgement *j, const struct envelope *e, void *arg)
{
	struct explain *x = arg;
	uint32_t i;

	explain_lists(x->trial);
	printf("  message: %s%s%s\n", action_name(j->verdict.action),
	    j->verdict.where.n > 0 ? "; rule=" : "",
	    log_safe(j->verdict.where));
	if (j->filter.n > 0)
		printf("  filter: %s\n", log_safe(j->filter));
	if (j->redirect.n > 0)
		printf("  redirect: %s\n", log_safe(j->redirect));
	for (i = 0; i < j->n_bcc; i++)
		printf("  bcc: %s\n", log_safe(j->bcc[i]));
	explain_edits(&j->edits);
	/* Recipients may have judgements of their own. */
	x->judged = true;
	free(x->sender);
	x->sender = mem_copy(e->sender);
	printf("  envelope: from <%s>", log_safe(e->sender));
	for (i = 0; i < e->nrcpts; i++) {
		printf(" to <%s>", log_safe(e->rcpts[i].addr));
		(void)put_view(&x->rcpts, e->rcpts[i].addr);
	}
	printf("\n");
}

static void
explain_delivery(struct view transport, struct view text, void *arg)
{
	(void)arg;
	printf("  at delivery by %s: %.*s\n", log_safe(transport),
	    VIEW_ARGS(text));
}

/* -- where it would go ----------------------------------------------------- */

static void
explain_route_step(const char *what, struct view where, struct view addr,
    struct view result, void *arg)
{
	(void)arg;
	printf("  route %s%s%s: %s -> %s\n", what, where.n > 0 ? " " : "",
	    log_safe(where), log_safe(addr), log_safe(result));
}

static void
explain_route(const struct router *r, const struct classes *k,
    struct view sender, struct view addr)
{
	static const char *const names[] = { "none", "local",
		"virtual alias", "virtual mailbox", "relay", "other",
		"unknown: a table did not answer" };
	size_t at = addr.n;
	struct buf transport, nexthop;
	enum table_answer a;

	while (at > 0 && addr.p[at - 1] != '@')
		at--;
	buf_init(&transport, 4096);
	buf_init(&nexthop, 4096);
	a = route_find(r, sender, addr, &transport, &nexthop);
	printf("recipient <%s>: class %s; ", log_safe(addr), names[class_of(k,
	    at > 0 ? view_from(addr, at) : view_of(""))]);
	if (a == TABLE_FAILED)
		printf("no route now: a table did not answer\n");
	else
		printf("transport %s, next hop %s\n",
		    log_safe(buf_view(&transport)),
		    nexthop.n > 0 ? log_safe(buf_view(&nexthop)) : "-");
	buf_free(&transport);
	buf_free(&nexthop);
}

/* Recipients as the filter left them; those given if there was no text. */
static void
explain_routes(struct explain *x, const struct trial *t,
    const struct trial_message *m)
{
	const struct team *team = config_team(trial_config(t), ROLE_QMGR, 0);
	const struct conf *cf = team != NULL ? team->cf : trial_config(t)->cf;
	struct netaddr own[OWN_ADDR_MAX];
	size_t n = own_addresses(cf, own, OWN_ADDR_MAX), i;
	struct router *r = router_open(cf, own, n, log_report, NULL);
	struct classes *k = classes_open(cf, own, n, log_report, NULL);
	struct cursor c = cursor_of(buf_view(&x->rcpts));

	if (r != NULL && k != NULL) {
		router_set_trace(r, explain_route_step, NULL);
		while (x->judged && cursor_left(&c) > 0)
			explain_route(r, k, view_of(x->sender),
			    cursor_view(&c));
		for (i = 0; !x->judged && i < m->n_to; i++)
			explain_route(r, k, m->from, m->to[i]);
	}
	router_free(&r);
	classes_free(&k);
}

/* -- the command ----------------------------------------------------------- */

static void
explain_read(const char *path, struct buf *b)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n = 0;
	char *to;

	if (fd < 0 || fstat(fd, &st) != 0)
		fatal("%s: %s", path, strerror(errno));
	while ((to = buf_room(b, 65536)) != NULL &&
	    (n = read(fd, to, 65536)) > 0)
		b->n += (size_t)n;
	if (to == NULL || n < 0)
		fatal("%s: %s", path, n < 0 ? strerror(errno) :
		    "it is too large");
	close(fd);
}

__attribute__((noreturn))
static void
explain_usage(void)
{
	fatal("usage: postern explain --client IP --from A --to B [--to ...] "
	    "[--helo H] [--name N] [--reverse-name N] [--size N] "
	    "[--message FILE] [--service NAME] [--ask-services]");
}

struct explain_words {
	struct trial_message m;
	struct trial_options o;
	struct view to[TRIAL_RCPTS_MAX];
	const char *file;
	bool has_client, has_from;
};

static void
explain_number(const char *text, uint64_t *ret)
{
	int64_t n;

	if (!conf_parse_int(view_of(text), 0, INT64_MAX, &n))
		fatal("--size: not a number: %s", text);
	*ret = (uint64_t)n;
}

static struct view
explain_address(const char *text)
{
	struct view v = view_of(text);

	if (v.n >= 2 && v.p[0] == '<' && v.p[v.n - 1] == '>')
		v = view_head(view_from(v, 1), v.n - 2);
	if (view_find(v, '\n') < v.n || view_find(v, '\r') < v.n)
		fatal("an address has no line end");
	return v;
}

static void
explain_word(struct explain_words *w, int ch)
{
	switch (ch) {
	case 'c':
		if (!netaddr_parse(view_of(optarg), &w->m.client))
			fatal("--client: not an address: %s", optarg);
		w->has_client = true;
		break;
	case 'h':
		w->m.helo = optarg;
		break;
	case 'f':
		w->m.from = explain_address(optarg);
		w->has_from = true;
		break;
	case 't':
		if (w->m.n_to == TRIAL_RCPTS_MAX)
			fatal("too many recipients");
		w->to[w->m.n_to++] = explain_address(optarg);
		break;
	case 'n':
		w->o.name = optarg;
		break;
	case 'r':
		w->o.reverse = optarg;
		break;
	case 's':
		explain_number(optarg, &w->m.size);
		break;
	case 'm':
		w->file = optarg;
		break;
	case 'S':
		w->o.service = optarg;
		break;
	case 'a':
		w->o.ask_services = true;
		break;
	default:
		explain_usage();
	}
}

static void
explain_words(struct explain_words *w, int argc, char **argv)
{
	static const struct option options[] = {
		{ "client", required_argument, NULL, 'c' },
		{ "helo", required_argument, NULL, 'h' },
		{ "from", required_argument, NULL, 'f' },
		{ "to", required_argument, NULL, 't' },
		{ "name", required_argument, NULL, 'n' },
		{ "reverse-name", required_argument, NULL, 'r' },
		{ "size", required_argument, NULL, 's' },
		{ "message", required_argument, NULL, 'm' },
		{ "service", required_argument, NULL, 'S' },
		{ "ask-services", no_argument, NULL, 'a' },
		{ NULL, 0, NULL, 0 },
	};
	int ch;

	w->m.helo = "client.example";
	w->m.to = w->to;
	optind = 0;	/* words may stand before options */
	while ((ch = getopt_long(argc, argv, "", options, NULL)) != -1)
		explain_word(w, ch);
	if (optind != argc || !w->has_client || !w->has_from ||
	    w->m.n_to == 0)
		explain_usage();
	if (strpbrk(w->m.helo, "\r\n") != NULL)
		fatal("--helo has no line end");
}

/* One line, with "\n" written as two characters between lines. */
static void
explain_print_reply(const char *reply)
{
	struct view rest = view_of(reply);
	size_t end;

	while (end = view_find(rest, '\n'), end < rest.n) {
		printf("%.*s\\n", VIEW_ARGS(view_head(rest, end)));
		rest = view_from(rest, end + 1);
	}
	printf("%.*s\n", VIEW_ARGS(rest));
}

int
postern_explain(struct postern *p, int argc, char **argv)
{
	struct explain_words *w = mem_alloc(sizeof *w);
	struct explain x = { 0 };
	struct trial *t;
	const char *reply;
	struct buf text, file;

	explain_words(w, argc, argv);
	table_check_only();
	w->o.trace = true;
	w->o.on_line = explain_line;
	w->o.on_fact = explain_fact;
	w->o.on_talk = explain_talk;
	w->o.on_judged = explain_judged;
	w->o.on_delivery = explain_delivery;
	w->o.arg = &x;
	buf_init(&x.steps, STEPS_MAX);
	buf_init(&x.rcpts, STEPS_MAX);
	buf_init(&text, 2 * (size_t)MESSAGE_MAX);
	if (w->file != NULL) {
		buf_init(&file, MESSAGE_MAX);
		explain_read(w->file, &file);
		trial_text(buf_view(&file), &text);
		buf_free(&file);
		w->m.has_text = true;
		w->m.text = buf_view(&text);
	}
	t = trial_open(p->config_dir, &w->o);
	x.trial = t;
	reply = t != NULL ? trial_run(t, &w->m) : NULL;
	if (reply != NULL) {
		explain_routes(&x, t, &w->m);
		printf("not asked: limits of connections and rates (gate), "
		    "room in the queue%s\n", w->o.ask_services ? "" :
		    ", policy services");
		explain_print_reply(reply);
	}
	(void)fflush(stdout);
	trial_free(&t);
	buf_free(&text);
	buf_free(&x.steps);
	buf_free(&x.rcpts);
	free(x.sender);
	free(w);
	return reply != NULL ? 0 : 2;
}
