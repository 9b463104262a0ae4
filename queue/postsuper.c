/* Hold, release, delete, requeue, expire; see postsuper(1). */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/postsuper.h"
#include "queue/queue_show.h"

#define STEPS_MAX	1000u
#define IDS_MAX		50000000u

#define ALL		"ALL"
#define WITHOUT_HOLD	(1u << PLACE_INCOMING | 1u << PLACE_ACTIVE | \
	1u << PLACE_DEFERRED)

static const struct {
	int option;
	enum queue_op op;
	uint32_t places;		/* of ALL */
	const char *done, *will, *total;
} ops[] = {
	{ 'h', QUEUE_HOLD, WITHOUT_HOLD, "placed on hold",
	    "will be placed on hold", "Placed on hold" },
	{ 'H', QUEUE_RELEASE, 1u << PLACE_HOLD, "released from hold",
	    "will be released from hold", "Released from hold" },
	{ 'd', QUEUE_DELETE, WITHOUT_HOLD | 1u << PLACE_HOLD, "removed",
	    "will be removed", "Deleted" },
	{ 'r', QUEUE_REQUEUE, WITHOUT_HOLD | 1u << PLACE_HOLD, "requeued",
	    "will be requeued", "Requeued" },
	{ 'e', QUEUE_EXPIRE, WITHOUT_HOLD | 1u << PLACE_HOLD, "expired",
	    "will be expired", "Expired" },
	/* and after that released, see step_run() */
	{ 'f', QUEUE_EXPIRE, WITHOUT_HOLD | 1u << PLACE_HOLD, "expired",
	    "will be expired", "Expired" },
};
#define OPS	(sizeof ops / sizeof ops[0])

struct step {
	size_t op;
	const char *id;			/* as given: an id, ALL, "-" */
};

struct request {
	struct super s;
	struct queue_match match;
	bool narrowed, dry, structure, purge;
	struct step steps[STEPS_MAX];
	size_t n_steps;
	unsigned missing, failed;
};

struct ids {
	struct queue_id *id;
	uint32_t n;
	uint32_t absent;
	bool show;
	const char *what;
};

__attribute__((noreturn))
static void
usage(void)
{
	queue_fatal(EXIT_USAGE, "usage: postsuper [-c config_dir] [-psnv] "
	    "[-d|-e|-f|-h|-H|-r queue_id|ALL|-]... [--sender PATTERN] "
	    "[--recipient PATTERN] [--next-hop PATTERN] [--older AGE] "
	    "[--newer AGE] [--reason PATTERN] [queue...]");
}

static void
ids_add(struct ids *l, struct queue_id id)
{
	if (l->n == IDS_MAX)
		return;
	if ((l->n & (l->n + 1)) == 0)
		l->id = mem_resize(l->id, (size_t)l->n * 2 + 2,
		    sizeof *l->id);
	l->id[l->n++] = id;
}

static void
ids_found(const struct queue_entry *e, void *arg)
{
	struct ids *l = arg;
	char id[QUEUE_ID_TEXT];
	struct buf from;

	ids_add(l, e->id);
	if (!l->show)
		return;
	buf_init(&from, 8192);
	(void)show_text(&from, e->env.sender);
	printf("%s: %s, %llu bytes, from <%s>, %u recipients: %s\n",
	    queue_id_text(e->id, id), spool_place_names[e->place],
	    (unsigned long long)e->text_size, buf_cstr(&from), e->env.nrcpts,
	    l->what);
	buf_free(&from);
}

/* -- carrying out --------------------------------------------------------- */

static void
report(struct request *q, size_t op, struct queue_id id, uint8_t result,
    bool named, uint32_t *done)
{
	char text[QUEUE_ID_TEXT];

	queue_id_text(id, text);
	switch (result) {
	case QUEUE_DONE:
		(*done)++;
		fprintf(stderr, "postsuper: %s: %s\n", text, ops[op].done);
		break;
	case QUEUE_LATER:
		(*done)++;
		fprintf(stderr, "postsuper: %s: is being delivered: %s when "
		    "this attempt has ended, unless it succeeds\n", text,
		    ops[op].will);
		break;
	case QUEUE_NOT_FOUND:
		/* One of ALL may have gone its way meanwhile. */
		if (named) {
			q->missing++;
			fprintf(stderr, "postsuper: warning: %s: not found\n",
			    text);
		}
		break;
	case QUEUE_BUSY:
		q->failed++;
		fprintf(stderr, "postsuper: warning: %s: the queue manager is "
		    "starting or being replaced; try again\n", text);
		break;
	default:
		q->failed++;
		fprintf(stderr, "postsuper: warning: %s: failed; see the "
		    "log\n", text);
		break;
	}
}

static void
reply_check(enum reply_status reply, const char *why)
{
	switch (reply) {
	case REPLY_OK:
		break;
	case REPLY_REFUSED:
		queue_fatal(EXIT_NO_PERM, "use of this command is reserved "
		    "for the superuser and mail_owner");
	case REPLY_FAILED:
		queue_fatal(EXIT_UNAVAILABLE, "%s", why);
	}
}

static void
apply(struct request *q, enum queue_op op, const struct queue_id *id,
    uint32_t n, uint8_t *result)
{
	enum reply_status reply;
	const char *why = "";
	uint32_t i;

	if (q->s.client == NULL) {
		for (i = 0; i < n; i++)
			result[i] = (uint8_t)offline_apply(q->s.offline, op,
			    id[i]);
		return;
	}
	reply = queue_order(q->s.client, op, id, n, result, &why);
	reply_check(reply, why);
}

static uint32_t
apply_all(struct request *q, const struct step *s, const struct ids *l,
    bool named)
{
	uint8_t result[REQUEST_IDS], second[REQUEST_IDS];
	uint32_t at, n, i, done = 0;

	for (at = 0; at < l->n; at += n) {
		n = l->n - at < REQUEST_IDS ? l->n - at : REQUEST_IDS;
		apply(q, ops[s->op].op, l->id + at, n, result);
		if (ops[s->op].option == 'f')
			apply(q, QUEUE_RELEASE, l->id + at, n, second);
		for (i = 0; i < n; i++)
			report(q, s->op, l->id[at + i], result[i], named,
			    &done);
	}
	return done;
}

static void
select_matching(struct request *q, const struct queue_match *m, struct ids *l)
{
	enum reply_status reply;
	const char *why = "";

	if (q->s.client == NULL) {
		offline_list(q->s.offline, m, ids_found, l);
		return;
	}
	reply = queue_list(q->s.client, m, ids_found, l, &why);
	reply_check(reply, why);
}

static void
select_lines(struct ids *l)
{
	char line[256];
	struct queue_id id;
	struct view v;

	while (fgets(line, sizeof line, stdin) != NULL) {
		v = view_trim(view_of(line));
		/* As the listing shows it. */
		while (v.n > 0 && strchr("*!#", v.p[v.n - 1]) != NULL)
			v.n--;
		if (v.n == 0)
			continue;
		if (queue_id_parse(v, &id))
			ids_add(l, id);
		else
			fprintf(stderr, "postsuper: warning: no queue id: "
			    "%s\n", log_safe(v));
	}
}

static int
id_order(const void *a, const void *b)
{
	const struct queue_id *x = a, *y = b;

	return x->n < y->n ? -1 : x->n > y->n;
}

static void
ids_keep(struct ids *l, const struct ids *of)
{
	uint32_t i, n = 0;

	if (of->n > 0)
		qsort(of->id, of->n, sizeof *of->id, id_order);
	for (i = 0; i < l->n; i++) {
		if (of->n > 0 && bsearch(&l->id[i], of->id, of->n,
		    sizeof *of->id, id_order) != NULL)
			l->id[n++] = l->id[i];
		else
			l->absent++;
	}
	l->n = n;
}

/* Ids together with queues: only if they are there. */
static void
select_there(struct request *q, struct ids *l)
{
	struct ids there = { .what = "" };

	select_matching(q, &q->match, &there);
	ids_keep(l, &there);
	q->missing += l->absent;
	if (l->absent > 0)
		fprintf(stderr, "postsuper: warning: %u not found there\n",
		    l->absent);
	free(there.id);
}

static void
step_run(struct request *q, const struct step *s, uint32_t *done)
{
	struct queue_match m = q->match;
	struct queue_id id;
	struct ids l = { .show = q->dry, .what = ops[s->op].will };
	bool all = strcmp(s->id, ALL) == 0, line = strcmp(s->id, "-") == 0;

	if (all) {
		if (m.places == 0)
			m.places = ops[s->op].places;
		select_matching(q, &m, &l);
	} else if (line) {
		select_lines(&l);
	} else if (queue_id_parse(view_of(s->id), &id)) {
		ids_add(&l, id);
	} else {
		queue_fatal(EXIT_USAGE, "no queue id: %s",
		    log_safe(view_of(s->id)));
	}
	if (!all && q->match.places != 0)
		select_there(q, &l);
	if (!q->dry)
		*done += apply_all(q, s, &l, !all);
	free(l.id);
}

static void
run(struct request *q)
{
	uint32_t done;
	size_t i, k;

	/* Postfix's order, whatever the order of the options. */
	for (k = 0; k < OPS; k++) {
		done = 0;
		for (i = 0; i < q->n_steps; i++)
			if (q->steps[i].op == k)
				step_run(q, &q->steps[i], &done);
		if (done > 0)
			fprintf(stderr, "postsuper: %s: %u message%s\n",
			    ops[k].total, done, done == 1 ? "" : "s");
	}
}

/* -- options -------------------------------------------------------------- */

static void
add_step(struct request *q, int option, const char *id)
{
	size_t k;

	for (k = 0; ops[k].option != option; k++)
		;
	if (q->n_steps == STEPS_MAX)
		queue_fatal(EXIT_USAGE, "more than %u options", STEPS_MAX);
	q->steps[q->n_steps++] = (struct step){ k, id };
}

static void
queue_argument(struct request *q, const char *name)
{
	enum spool_place p;

	for (p = PLACE_INCOMING; p <= PLACE_HOLD; p++)
		if (strcmp(name, spool_place_names[p]) == 0)
			break;
	if (p > PLACE_HOLD)
		queue_fatal(EXIT_USAGE, "no such queue: %s",
		    log_safe(view_of(name)));
	q->match.places |= 1u << p;
}

static const char *
options(struct request *q, int argc, char **argv)
{
	static const struct option names[] = {
		MATCH_OPTIONS,
		{ "dry-run", no_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 }
	};
	const char *config = NULL;
	size_t i;
	int ch;

	while ((ch = getopt_long(argc, argv, "c:d:e:f:h:H:npr:sSv", names,
	    NULL)) != -1) {
		switch (ch) {
		case 'c':
			config = optarg;
			break;
		case 'd':
		case 'e':
		case 'f':
		case 'h':
		case 'H':
		case 'r':
			add_step(q, ch, optarg);
			break;
		case 'n':
			q->dry = true;
			break;
		case 'p':
			q->purge = true;
			break;
		case 's':
		case 'S':
			q->structure = true;
			break;
		case 'v':
			break;
		case MATCH_SENDER:
		case MATCH_RECIPIENT:
		case MATCH_NEXT_HOP:
		case MATCH_OLDER:
		case MATCH_NEWER:
		case MATCH_REASON:
			queue_option(&q->match, (enum match_code)ch, optarg);
			q->narrowed = true;
			break;
		default:
			usage();
		}
	}
	for (; optind < argc; optind++)
		queue_argument(q, argv[optind]);
	/* Postfix's default: both. */
	if (q->n_steps == 0 && !q->structure && !q->purge && !q->narrowed)
		q->structure = q->purge = true;
	/* A pattern beside an id would be silently without effect. */
	for (i = 0; i < q->n_steps; i++)
		if (q->narrowed && strcmp(q->steps[i].id, ALL) != 0)
			queue_fatal(EXIT_USAGE, "patterns go with " ALL
			    ", not with %s", log_safe(view_of(q->steps[i].id)));
	if (q->narrowed && q->n_steps == 0)
		queue_fatal(EXIT_USAGE, "a pattern needs one of -d -e -f -h "
		    "-H -r with " ALL);
	return config;
}

static void
housekeeping(struct request *q)
{
	if (q->s.client != NULL) {
		/* The queue manager puts names right as it meets them. */
		fprintf(stderr, "postsuper: the mail system is running and "
		    "cares for the structure of the queue itself\n");
		return;
	}
	if (q->structure)
		offline_structure(q->s.offline);
	if (q->purge)
		offline_purge(q->s.offline);
}

int
main(int argc, char **argv)
{
	static struct request q;
	const char *config;
	struct conf *cf;

	log_open("postsuper", "localhost");
	config = options(&q, argc, argv);
	cf = queue_conf(config);
	q.s.cf = cf;
	q.s.client = queue_connect(cf);
	if (q.s.client == NULL)
		q.s.offline = offline_open(cf);
	if (q.structure || q.purge)
		housekeeping(&q);
	run(&q);
	queue_disconnect(&q.s.client);
	if (q.s.offline != NULL)
		offline_close(&q.s.offline);
	conf_free(&cf);
	(void)fflush(stdout);
	return q.failed > 0 ? EXIT_SYSTEM : q.missing > 0 ? 1 : 0;
}
