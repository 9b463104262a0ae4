/* List the queue; have mail tried again.  See postqueue(1). */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/postqueue.h"
#include "queue/queue_show.h"

#define SITE_MAX	255u

enum mode { MODE_NONE = 0, MODE_LIST, MODE_JSON, MODE_FLUSH, MODE_ID,
	MODE_SITE, MODE_LIVE, MODE_HELD };

struct list {
	bool json, more, held;
	struct queue_match match;
	uint64_t messages, bytes;
	struct buf out;
};

__attribute__((noreturn))
static void
usage(void)
{
	queue_fatal(EXIT_USAGE, "usage: postqueue -p | postqueue -f | "
	    "postqueue -i queueid | postqueue -j | postqueue -s site | "
	    "postqueue -q [PATTERN...]");
}

static void
list_write(struct list *l)
{
	if (l->out.n > 0 &&
	    fwrite(l->out.p, 1, l->out.n, stdout) != l->out.n)
		exit(errno == EPIPE ? 0 : EXIT_SYSTEM);
	buf_clear(&l->out);
}

static void
list_each(const struct queue_entry *e, void *arg)
{
	struct list *l = arg;

	buf_clear(&l->out);
	if (!l->json && !l->held)
		(void)buf_puts(&l->out, l->messages == 0 ? show_heading :
		    "\n");
	if (l->json ? show_json(&l->out, e, l->more) :
	    l->held ? show_held(&l->out, e) : show_listing(&l->out, e, l->more))
		list_write(l);
	l->messages++;
	l->bytes += e->text_size;
}

static void
list_end(struct list *l)
{
	buf_clear(&l->out);
	if (!l->json && l->messages == 0)
		(void)buf_puts(&l->out, l->held ? "Nothing is held\n" :
		    "Mail queue is empty\n");
	else if (!l->json && !l->held)
		(void)show_total(&l->out, l->bytes, l->messages);
	list_write(l);
	if (fflush(stdout) != 0)
		exit(EXIT_SYSTEM);
}

/* The system is down: who may read the files gets the list all the same. */
static void
list_files(const struct conf *cf, struct list *l)
{
	struct spool spool;
	unsigned bad;

	if (access(cf->queue_directory, R_OK | X_OK) != 0 ||
	    chdir(cf->queue_directory) != 0 || access("deferred",
	    R_OK | X_OK) != 0 || spool_open(&spool, cf->queue_directory,
	    cf->hash_queue_names) != 0)
		queue_fatal(EXIT_UNAVAILABLE,
		    "Queue report unavailable - mail system is down");
	log_warn("Mail system is down -- reading queue directly");
	spool.read_only = true;
	bad = queue_scan(&spool, &l->match, NULL, list_each, l);
	list_end(l);
	if (bad > 0)
		log_warn("%u files are no complete queue files", bad);
}

static int
list_queue(const struct conf *cf, struct list *l)
{
	struct queue_client *c = queue_connect(cf);
	const char *why;

	buf_init(&l->out, 64u << 20);
	if (c == NULL) {
		list_files(cf, l);
		buf_free(&l->out);
		return 0;
	}
	switch (queue_list(c, &l->match, list_each, l, &why)) {
	case REPLY_OK:
		break;
	case REPLY_REFUSED:
		queue_fatal(EXIT_NO_PERM, "User uid=%ld is not allowed to "
		    "view the mail queue", (long)getuid());
	case REPLY_FAILED:
		(void)fflush(stdout);
		queue_fatal(EXIT_UNAVAILABLE, "Queue report incomplete: %s",
		    why);
	}
	list_end(l);
	queue_disconnect(&c);
	buf_free(&l->out);
	return 0;
}

static int
flush_queue(const struct conf *cf, enum flush_what what, const char *arg)
{
	struct queue_client *c = queue_connect(cf);
	enum reply_type type;
	struct cursor r;
	struct buf *b;
	struct view text;

	if (c == NULL)
		queue_fatal(EXIT_UNAVAILABLE, "Cannot flush mail queue - mail "
		    "system is down");
	b = queue_request(c, REQUEST_FLUSH);
	(void)put_u8(b, (uint8_t)what);
	(void)put_view(b, view_of(arg));
	queue_send(c);
	type = queue_reply(c, &r, NULL);
	if (type != REPLY_END)
		queue_fatal(EXIT_UNAVAILABLE, "Cannot flush mail queue - lost "
		    "connection with the queue lister");
	switch (queue_end(&r, &text)) {
	case REPLY_OK:
		break;
	case REPLY_REFUSED:
		queue_fatal(EXIT_NO_PERM, "User uid=%ld is not allowed to "
		    "flush the mail queue", (long)getuid());
	case REPLY_FAILED:
		queue_fatal(EXIT_UNAVAILABLE, "Cannot flush mail queue - %s",
		    log_safe(text));
	}
	queue_disconnect(&c);
	return 0;
}

static void
check_site(const char *site)
{
	const char *p;

	if (site[0] == '\0' || strlen(site) > SITE_MAX)
		queue_fatal(EXIT_USAGE, "Cannot flush mail queue - invalid "
		    "destination: \"%.100s\"", log_safe(view_of(site)));
	for (p = site; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			queue_fatal(EXIT_USAGE, "Cannot flush mail queue - "
			    "invalid destination: \"%.100s\"",
			    log_safe(view_of(site)));
}

int
main(int argc, char **argv)
{
	static const struct option names[] = {
		MATCH_OPTIONS,
		{ NULL, 0, NULL, 0 }
	};
	const char *config = NULL, *arg = NULL;
	enum mode mode = MODE_NONE, m;
	struct list l = { .json = false };
	struct queue_id id;
	struct conf *cf;
	bool narrowed = false;
	int64_t seconds = 0;
	int ch, rc = 0;

	log_open("postqueue", "localhost");
	while ((ch = getopt_long(argc, argv, "c:fi:jln:pqs:vJ", names,
	    NULL)) != -1) {
		m = MODE_NONE;
		switch (ch) {
		case 'c':
			config = optarg;
			break;
		case 'f':
			m = MODE_FLUSH;
			break;
		case 'i':
			m = MODE_ID;
			arg = optarg;
			break;
		case 'j':
			m = MODE_JSON;
			break;
		case 'J':
			l.json = true;
			break;
		case 'l':
			m = MODE_LIVE;
			break;
		case 'n':
			if (!conf_parse_int(view_of(optarg), 1, 86400,
			    &seconds))
				usage();
			break;
		case 'p':
			m = MODE_LIST;
			break;
		case 's':
			m = MODE_SITE;
			arg = optarg;
			break;
		case 'v':
			l.more = true;
			break;
		case 'q':
			m = MODE_HELD;
			break;
		case MATCH_SENDER:
		case MATCH_RECIPIENT:
		case MATCH_NEXT_HOP:
		case MATCH_OLDER:
		case MATCH_NEWER:
		case MATCH_REASON:
			queue_option(&l.match, (enum match_code)ch, optarg);
			narrowed = true;
			break;
		default:
			usage();
		}
		if (m != MODE_NONE && mode != MODE_NONE)
			usage();
		if (m != MODE_NONE)
			mode = m;
	}
	if (mode == MODE_NONE || optind != argc || (narrowed &&
	    mode != MODE_LIST && mode != MODE_JSON && mode != MODE_HELD))
		usage();
	cf = queue_conf(config);
	switch (mode) {
	case MODE_LIST:
	case MODE_JSON:
		l.json = mode == MODE_JSON;
		rc = list_queue(cf, &l);
		break;
	case MODE_HELD:
		l.held = l.more = true;
		l.match.places = 1u << PLACE_HOLD;
		rc = list_queue(cf, &l);
		break;
	case MODE_FLUSH:
		rc = flush_queue(cf, FLUSH_ALL, "");
		break;
	case MODE_ID:
		if (!queue_id_parse(view_of(arg), &id))
			queue_fatal(EXIT_USAGE, "Cannot flush mail queue - "
			    "invalid queue id: \"%.100s\"",
			    log_safe(view_of(arg)));
		rc = flush_queue(cf, FLUSH_ID, arg);
		break;
	case MODE_SITE:
		check_site(arg);
		rc = flush_queue(cf, FLUSH_SITE, arg);
		break;
	case MODE_LIVE:
		rc = live_view(cf, (unsigned)seconds, l.json);
		break;
	case MODE_NONE:
		break;
	}
	conf_free(&cf);
	return rc;
}
