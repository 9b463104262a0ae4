/* Show a queue file; see postcat(1). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/queue_client.h"
#include "queue/queue_show.h"

#define LINE_SIZE	65536u

struct options {
	bool envelope, header, body;	/* what to show */
	bool offsets, types, raw, queue;
	bool terminal;
};

struct shown {
	const struct options *o;
	const char *name;
	int fd;
	uint64_t offset, size;		/* of the text in fd */
	struct edits edits;
	/* output */
	char line[LINE_SIZE];
	size_t n;
	uint64_t line_at, at;
	bool in_header;
};

__attribute__((noreturn))
static void
usage(void)
{
	queue_fatal(EXIT_USAGE, "usage: postcat [-bdehnoqv] [-c config_dir] "
	    "[files...]");
}

static void
print_safe(struct view v)
{
	struct buf b;

	buf_init(&b, v.n * 3 + 16);
	(void)show_text(&b, v);
	if (b.n > 0)
		(void)fwrite(b.p, 1, b.n, stdout);
	buf_free(&b);
}

/* -- envelope ------------------------------------------------------------- */

static void
print_field(const char *name, struct view v)
{
	printf("%s: ", name);
	print_safe(v);
	putchar('\n');
}

static void
print_time(const char *name, struct wall t)
{
	time_t s = (time_t)(t.us / 1000000);
	char text[64] = "?";
	struct tm tm;

	if (t.us <= 0)
		return;
	if (localtime_r(&s, &tm) != NULL)
		(void)strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y", &tm);
	printf("%s: %s\n", name, text);
}

static void
print_recipient(const struct queue_entry *e, uint32_t i)
{
	const struct recipient *r = &e->env.rcpts[i];
	struct view reason;
	bool bounced;

	if (r->orcpt.n > 0)
		print_field("original_recipient", r->orcpt);
	if (r->notify != 0)
		printf("notify_flags: %u\n", r->notify);
	print_field(e->status.p[i] == '.' ? "recipient" : "done_recipient",
	    r->addr);
	reason = queue_entry_reason(e, i, &bounced);
	if (reason.n > 0 && e->status.p[i] == '.')
		print_field(bounced ? "bounce_reason" : "delay_reason",
		    reason);
}

static void
print_envelope(const struct shown *s, const struct queue_entry *e)
{
	uint32_t i;

	printf("message_size: %llu\n", (unsigned long long)s->size);
	print_time("message_arrival_time", e->arrival);
	print_field("queue_name", view_of(spool_place_names[e->place]));
	if (e->in_memory)
		printf("in_memory: yes\n");
	if (e->expire)
		printf("forced_expire: yes\n");
	print_time("next_attempt", e->next);
	print_time("last_attempt", e->past.last);
	if (e->past.attempts > 0)
		printf("attempts: %u\n", e->past.attempts);
	if (e->past.held.n > 0)
		print_field("hold_reason", e->past.held);
	printf("named_attribute: log_client_name=");
	print_safe(e->env.client_name);
	printf("\nnamed_attribute: log_client_address=");
	print_safe(e->env.client_addr);
	printf("\nnamed_attribute: log_client_port=%u",
	    e->env.client_port);
	printf("\nnamed_attribute: log_helo_name=");
	print_safe(e->env.helo);
	printf("\nnamed_attribute: log_protocol_name=");
	print_safe(e->env.proto);
	putchar('\n');
	if ((e->env.flags & ENVELOPE_REQUIRETLS) != 0)
		printf("requiretls: yes\n");
	if ((e->env.flags & ENVELOPE_TLS_OPTIONAL) != 0)
		printf("tls_required: no\n");
	if (e->env.login.n > 0)
		print_field("sasl_username", e->env.login);
	if (e->env.envid.n > 0)
		print_field("dsn_envelope_id", e->env.envid);
	if (e->route.n > 0)
		print_field("content_filter", e->route);
	if (s->edits.n > 0)
		printf("edits: %u\n", s->edits.n);
	print_field("sender", e->env.sender);
	for (i = 0; i < e->env.nrcpts; i++)
		print_recipient(e, i);
}

/* -- text ----------------------------------------------------------------- */

static void
line_end(struct shown *s, bool newline)
{
	bool shown;

	if (s->n > 0 && newline && s->line[s->n - 1] == '\r')
		s->n--;
	if (s->in_header && s->n == 0 && newline) {
		s->in_header = false;
		if (!s->o->body || !s->o->header) {
			s->n = 0;
			return;
		}
	}
	shown = s->in_header ? s->o->header : s->o->body;
	if (shown && s->o->offsets)
		printf("%9llu ", (unsigned long long)(s->offset + s->line_at));
	if (shown && s->o->types)
		printf("%3d ", 'N');
	if (shown && s->o->terminal)
		print_safe(view_make(s->line, s->n));
	else if (shown)
		(void)fwrite(s->line, 1, s->n, stdout);
	if (shown && newline)
		putchar('\n');
	s->n = 0;
}

static void
text_put(struct shown *s, struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++) {
		if (s->n == 0)
			s->line_at = s->at;
		if (v.p[i] == '\n') {
			line_end(s, true);
			continue;
		}
		if (s->n == sizeof s->line)
			line_end(s, false);
		s->line[s->n++] = v.p[i];
	}
}

static void
text_copy(struct shown *s, uint64_t to)
{
	char part[65536];
	ssize_t n;

	while (s->at < to) {
		n = pread(s->fd, part, to - s->at < sizeof part ?
		    (size_t)(to - s->at) : sizeof part,
		    (off_t)(s->offset + s->at));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			queue_fatal(EXIT_DATA, "%s: the text ends early",
			    s->name);
		text_put(s, view_make(part, (size_t)n));
		s->at += (uint64_t)n;
	}
}

static void
print_text(struct shown *s)
{
	uint32_t i;

	s->in_header = true;
	for (i = 0; i < s->edits.n && !s->o->raw; i++) {
		text_copy(s, s->edits.list[i].offset);
		text_put(s, s->edits.list[i].insert);
		s->at += s->edits.list[i].remove;
	}
	text_copy(s, s->size);
	if (s->n > 0)
		line_end(s, true);
}

static int
show(const struct options *o, const char *name, int fd, uint64_t offset,
    struct queue_entry *e)
{
	struct arena *a = arena_new(queue_entry_room(e) +
	    EDITS_MAX * sizeof(struct edit) + 65536);
	struct shown *s = mem_alloc(sizeof *s);
	int rc = 0;

	s->o = o;
	s->name = name;
	s->fd = fd;
	s->offset = offset;
	s->size = e->text_size;
	if (!queue_entry_decode(e, a) ||
	    !edits_get(e->edits, e->text_size, a, &s->edits)) {
		log_error("%s: not a complete queue file", name);
		rc = 1;
	} else {
		if (o->envelope) {
			printf("*** ENVELOPE RECORDS %s ***\n", name);
			print_envelope(s, e);
		}
		if (o->envelope && (o->header || o->body))
			printf("*** MESSAGE CONTENTS %s ***\n", name);
		if (o->header || o->body)
			print_text(s);
		if (o->envelope)
			printf("*** MESSAGE FILE END %s ***\n", name);
	}
	free(s);
	arena_free(&a);
	return rc;
}

/* -- where it is ---------------------------------------------------------- */

static int
show_fd(const struct options *o, const char *name, int fd, struct queue_id id,
    enum spool_place place)
{
	struct queue_entry e;
	struct spool_file f;
	struct buf bytes;
	struct wall next;
	int rc;

	buf_init(&bytes, SPOOL_TAIL_MAX + 2 * HISTORY_MAX);
	rc = spool_peek_fd(fd, id, &bytes, &f, &next);
	if (rc == 0) {
		queue_entry_of_file(&e, &f, place, next);
		rc = show(o, name, fd, SPOOL_TEXT_OFFSET, &e);
	} else {
		log_error("%s: %s", name, rc == EBADMSG ?
		    "not a complete queue file" : strerror(rc));
		rc = 1;
	}
	buf_free(&bytes);
	return rc;
}

/* The id stands in the name; the place, if it does, too. */
static int
show_file(const struct options *o, const char *path)
{
	const char *base = strrchr(path, '/');
	enum spool_place place = PLACE_INCOMING, p;
	struct queue_id id;
	char part[32];
	int fd, rc;

	base = base != NULL ? base + 1 : path;
	if (!queue_id_parse(view_of(base), &id)) {
		log_error("%s: that is no name of a queue file", path);
		return 1;
	}
	for (p = PLACE_INCOMING; p < PLACES; p++) {
		snprintf(part, sizeof part, "%s/", spool_place_names[p]);
		if (strstr(path, part) != NULL)
			place = p;
	}
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0) {
		log_error("%s: %s", path, strerror(errno));
		return 1;
	}
	rc = show_fd(o, path, fd, id, place);
	close(fd);
	return rc;
}

static int
show_offline(const struct options *o, const struct conf *cf,
    struct queue_id id)
{
	char name[QUEUE_ID_TEXT], path[64];
	struct spool spool;
	enum spool_place p;
	int fd, rc = -1;

	if (spool_open(&spool, cf->queue_directory, cf->hash_queue_names) != 0)
		queue_fatal(EXIT_NO_PERM, "cannot open the spool %s",
		    cf->queue_directory);
	spool.read_only = true;
	for (p = PLACE_INCOMING; rc < 0 && p < PLACES; p++) {
		fd = spool_open_file(&spool, id, p);
		if (fd < 0)
			continue;
		snprintf(path, sizeof path, "%s/%s", spool_place_names[p],
		    queue_id_text(id, name));
		rc = show_fd(o, path, fd, id, p);
		close(fd);
	}
	if (rc < 0)
		log_error("%s: no such message", queue_id_text(id, name));
	return rc != 0;
}

static int
show_id(const struct options *o, const struct conf *cf,
    struct queue_client *c, const char *text)
{
	struct queue_entry e;
	struct queue_id id;
	struct cursor r;
	struct view why;
	uint64_t offset;
	char path[64];
	int fd = -1, rc = 1;

	if (!queue_id_parse(view_of(text), &id)) {
		log_error("%s: that is no queue id", log_safe(view_of(text)));
		return 1;
	}
	if (c == NULL)
		return show_offline(o, cf, id);
	(void)put_u64(queue_request(c, REQUEST_OPEN), id.n);
	queue_send(c);
	for (;;) {
		switch (queue_reply(c, &r, &fd)) {
		case REPLY_OPENED:
			offset = cursor_u64(&r);
			if (fd < 0 || !queue_entry_get(&r, &e))
				break;
			snprintf(path, sizeof path, "%s/%s",
			    spool_place_names[e.place], text);
			rc = show(o, path, fd, offset, &e);
			close(fd);
			fd = -1;
			break;
		case REPLY_END:
			switch (queue_end(&r, &why)) {
			case REPLY_OK:
				return rc;
			case REPLY_REFUSED:
				queue_fatal(EXIT_NO_PERM, "use of this command "
				    "is reserved for the superuser and "
				    "mail_owner");
			case REPLY_FAILED:
				log_error("%s: %s", text, log_safe(why));
				return 1;
			}
			return 1;
		case REPLY_NONE:
			queue_fatal(EXIT_UNAVAILABLE, "lost connection with "
			    "the queue lister");
		case REPLY_ENTRY:
		case REPLY_DEST:
		case REPLY_RESULTS:
		case REPLY_TYPES:
			break;
		}
	}
}

int
main(int argc, char **argv)
{
	struct options o = { .terminal = isatty(STDOUT_FILENO) };
	struct queue_client *c = NULL;
	const char *config = NULL;
	struct conf *cf = NULL;
	int ch, rc = 0;

	log_open("postcat", "localhost");
	while ((ch = getopt(argc, argv, "bc:dehnoqrv")) != -1) {
		switch (ch) {
		case 'b':
			o.body = true;
			break;
		case 'c':
			config = optarg;
			break;
		case 'd':
			o.types = true;
			break;
		case 'e':
			o.envelope = true;
			break;
		case 'h':
			o.header = true;
			break;
		case 'n':
		case 'r':
			o.raw = true;
			break;
		case 'o':
			o.offsets = true;
			break;
		case 'q':
			o.queue = true;
			break;
		case 'v':
			break;
		default:
			usage();
		}
	}
	if (optind == argc)
		usage();
	if (!o.envelope && !o.header && !o.body)
		o.envelope = o.header = o.body = true;
	if (o.queue) {
		cf = queue_conf(config);
		c = queue_connect(cf);
	}
	for (; optind < argc; optind++)
		rc |= o.queue ? show_id(&o, cf, c, argv[optind]) :
		    show_file(&o, argv[optind]);
	queue_disconnect(&c);
	if (cf != NULL)
		conf_free(&cf);
	return fflush(stdout) == 0 ? rc : EXIT_SYSTEM;
}
