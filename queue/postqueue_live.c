/*
 * The live view: a table of destinations, the fullest first, with what holds
 * each of them back; on a terminal it is painted anew every few seconds.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/postqueue.h"
#include "queue/queue_show.h"

#define WIDTH		80
#define ROWS_MAX	30000u

struct row {
	char *transport, *nexthop, *held_by, *why;
	uint32_t waiting, busy, window, limit;
	uint32_t age[DEST_AGES], deferred;
	int64_t next_s;			/* from now; -1: none */
};

struct view_table {
	struct row *rows;
	size_t n;
};

static char *
clean(struct view v)
{
	struct buf b;
	char *s;

	buf_init(&b, 8192);
	(void)show_text(&b, view_head(v, 2000));
	s = mem_strdup(buf_cstr(&b));
	buf_free(&b);
	return s;
}

static bool
row_get(struct cursor *c, struct row *r)
{
	struct queue_dest d;
	struct view why;
	int64_t next, left = -1;
	unsigned i;

	if (!queue_dest_get(c, &d))
		return false;
	*r = (struct row){ .waiting = d.waiting, .busy = d.busy,
		.window = d.window, .limit = d.limit };
	for (i = 0; i < DEST_AGES; i++) {
		r->age[i] = cursor_u32(c);
		r->deferred += r->age[i];
	}
	next = (int64_t)cursor_u64(c);
	why = cursor_view(c);
	if (!cursor_done(c))
		return false;
	if (next > 0)
		left = (next - clock_wall().us) / 1000000;
	if (next > 0 && left < 0)
		left = 0;
	if (d.next_try_ms > 0 && (left < 0 || d.next_try_ms / 1000 < left))
		left = d.next_try_ms / 1000;
	r->next_s = left;
	r->transport = clean(d.transport);
	r->nexthop = clean(d.nexthop);
	r->held_by = clean(d.held_by);
	r->why = clean(d.last_error.n > 0 ? d.last_error : why);
	return true;
}

static int
row_order(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	uint64_t nx = (uint64_t)x->waiting + x->busy + x->deferred;
	uint64_t ny = (uint64_t)y->waiting + y->busy + y->deferred;

	if (nx != ny)
		return nx > ny ? -1 : 1;
	return strcmp(x->nexthop, y->nexthop);
}

static void
view_end(struct view_table *t)
{
	size_t i;

	for (i = 0; i < t->n; i++) {
		free(t->rows[i].transport);
		free(t->rows[i].nexthop);
		free(t->rows[i].held_by);
		free(t->rows[i].why);
	}
	free(t->rows);
	*t = (struct view_table){ 0 };
}

static void
view_ask(const struct conf *cf, struct view_table *t)
{
	struct queue_client *c = queue_connect(cf);
	enum reply_type type;
	struct cursor r;
	struct view text;

	if (c == NULL)
		queue_fatal(EXIT_UNAVAILABLE,
		    "Queue report unavailable - mail system is down");
	(void)queue_request(c, REQUEST_DESTS);
	queue_send(c);
	while ((type = queue_reply(c, &r, NULL)) == REPLY_DEST) {
		if (t->n == ROWS_MAX)
			continue;
		if ((t->n & (t->n + 1)) == 0)
			t->rows = mem_resize(t->rows, t->n * 2 + 2,
			    sizeof *t->rows);
		if (row_get(&r, &t->rows[t->n]))
			t->n++;
	}
	if (type != REPLY_END)
		queue_fatal(EXIT_UNAVAILABLE,
		    "lost connection with the queue lister");
	switch (queue_end(&r, &text)) {
	case REPLY_OK:
		break;
	case REPLY_REFUSED:
		queue_fatal(EXIT_NO_PERM, "User uid=%ld is not allowed to "
		    "view the mail queue", (long)getuid());
	case REPLY_FAILED:
		queue_fatal(EXIT_UNAVAILABLE, "%s", log_safe(text));
	}
	queue_disconnect(&c);
	if (t->n > 1)
		qsort(t->rows, t->n, sizeof *t->rows, row_order);
}

/* -- text ----------------------------------------------------------------- */

static const char *
short_time(int64_t s, char text[24])
{
	if (s < 0)
		snprintf(text, 24, "-");
	else if (s < 100)
		snprintf(text, 24, "%llds", (long long)s);
	else if (s < 6000)
		snprintf(text, 24, "%lldm", (long long)s / 60);
	else if (s < 360000)
		snprintf(text, 24, "%lldh", (long long)s / 3600);
	else
		snprintf(text, 24, "%lldd", (long long)s / 86400);
	return text;
}

/* Five columns: as much as fits in 80. */
static void
row_print(const struct row *r)
{
	uint32_t young, hour, day, old;
	char next[24], window[32], name[512];

	/* 5 m; 10 20 40 m; 80 160 320 640 1280 m; older */
	young = r->age[0];
	hour = r->age[1] + r->age[2] + r->age[3];
	day = r->age[4] + r->age[5] + r->age[6] + r->age[7] + r->age[8];
	old = r->age[9];
	snprintf(name, sizeof name, "%s:%s", r->transport, r->nexthop);
	if (r->limit > 0)
		snprintf(window, sizeof window, "%u/%u", r->window, r->limit);
	else
		snprintf(window, sizeof window, "-");
	printf("%-24.24s %6u %4u %7s %6u %5u %5u %5u %4s %s\n", name,
	    r->waiting, r->busy, window, young, hour, day, old,
	    short_time(r->next_s, next), r->held_by);
	if (strlen(name) > 24)
		printf("  = %.*s\n", WIDTH - 4, name);
	if (r->why[0] != '\0')
		printf("  %.*s\n", WIDTH - 2, r->why);
}

static void
view_print(const struct view_table *t, unsigned lines)
{
	uint64_t waiting = 0, busy = 0, deferred = 0;
	size_t i;

	for (i = 0; i < t->n; i++) {
		waiting += t->rows[i].waiting;
		busy += t->rows[i].busy;
		deferred += t->rows[i].deferred;
	}
	printf("%zu destinations; %llu waiting, %llu active, %llu deferred\n",
	    t->n, (unsigned long long)waiting, (unsigned long long)busy,
	    (unsigned long long)deferred);
	printf("%-24s %6s %4s %7s %6s %5s %5s %5s %4s %s\n", "DESTINATION",
	    "WAIT", "ACT", "WINDOW", "DEF<5m", "<40m", "<21h", "OLD", "NEXT",
	    "HELD");
	for (i = 0; i < t->n && (lines == 0 || 2 + 3 * (i + 1) <= lines); i++)
		row_print(&t->rows[i]);
	if (i < t->n)
		printf("... and %zu more\n", t->n - i);
}

static void
row_json(const struct row *r)
{
	struct buf b;
	unsigned i;

	buf_init(&b, 65536);
	(void)buf_puts(&b, "{\"transport\": ");
	(void)show_json_string(&b, view_of(r->transport));
	(void)buf_puts(&b, ", \"next_hop\": ");
	(void)show_json_string(&b, view_of(r->nexthop));
	(void)buf_printf(&b, ", \"waiting\": %u, \"active\": %u, "
	    "\"window\": %u, \"limit\": %u, \"deferred\": %u, \"ages\": [",
	    r->waiting, r->busy, r->window, r->limit, r->deferred);
	for (i = 0; i < DEST_AGES; i++)
		(void)buf_printf(&b, "%s%u", i > 0 ? ", " : "", r->age[i]);
	(void)buf_puts(&b, "], \"held_by\": ");
	(void)show_json_string(&b, view_of(r->held_by));
	if (r->next_s >= 0)
		(void)buf_printf(&b, ", \"next_attempt_in\": %lld",
		    (long long)r->next_s);
	if (r->why[0] != '\0') {
		(void)buf_puts(&b, ", \"last_error\": ");
		(void)show_json_string(&b, view_of(r->why));
	}
	printf("%s}\n", buf_cstr(&b));
	buf_free(&b);
}

static unsigned
screen_lines(void)
{
	struct winsize w;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row > 5 ?
	    w.ws_row - 1u : 24;
}

int
live_view(const struct conf *cf, unsigned seconds, bool json)
{
	bool screen = isatty(STDOUT_FILENO) && !json && seconds > 0;
	struct view_table t;
	size_t i;

	do {
		t = (struct view_table){ 0 };
		view_ask(cf, &t);
		if (screen)
			printf("\033[H\033[2J");
		for (i = 0; json && i < t.n; i++)
			row_json(&t.rows[i]);
		if (!json)
			view_print(&t, screen ? screen_lines() : 0);
		view_end(&t);
		if (fflush(stdout) != 0)
			return errno == EPIPE ? 0 : EXIT_SYSTEM;
		if (seconds > 0)
			sleep(seconds);
	} while (seconds > 0);
	return 0;
}
