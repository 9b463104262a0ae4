#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"

#define LOG_LINE_MAX	2000u
#define LOG_PENDING_MAX	16384u

/*
 * The log is one of the two things that are global in a process.  Nothing
 * here allocates: it must work when memory is out.
 */
static struct {
	char name[64];
	char host[256];
	enum log_sink sink;
	int fd;
	int facility;
	int level;
	bool tee;
	bool open;
	int pid;
	char pending[LOG_PENDING_MAX];
	size_t n;
	time_t stamp_at;
	char stamp[32];
	long zone;		/* seconds east of UTC, at that time */
	const char *(*describe)(void *);
	void *describe_arg;
	void (*lost)(void);
} the_log = { .fd = STDERR_FILENO };

void
log_open(const char *name, const char *host)
{
	size_t n;

	snprintf(the_log.name, sizeof the_log.name, "%s", name);
	n = strcspn(host, ".");
	snprintf(the_log.host, sizeof the_log.host, "%.*s", (int)n, host);
	the_log.open = true;
	/* A process that forks and goes on calls log_open() again. */
	the_log.pid = (int)getpid();
	/* Loads the time zone while files can still be opened. */
	tzset();
}

void
log_to(enum log_sink sink, int fd, int facility)
{
	log_flush();
	if (the_log.fd > STDERR_FILENO && the_log.fd != fd)
		close(the_log.fd);
	the_log.sink = sink;
	the_log.fd = fd;
	the_log.facility = facility;
}

void
log_child(int fd)
{
	the_log.n = 0;
	the_log.pid = (int)getpid();
	if (the_log.fd <= STDERR_FILENO || the_log.fd == fd)
		return;
	if (dup2(the_log.fd, fd) < 0)
		_exit(1);
	(void)close(the_log.fd);
	the_log.fd = fd;
}

void
log_facility(int facility)
{
	the_log.facility = facility;
}

void
log_verbose(int level)
{
	the_log.level = level;
}

int
log_level(void)
{
	return the_log.level;
}

void
log_tee(bool on)
{
	the_log.tee = on;
}

void
log_context(const char *(*describe)(void *arg), void *arg)
{
	the_log.describe = describe;
	the_log.describe_arg = arg;
}

void
log_on_lost(void (*lost)(void))
{
	the_log.lost = lost;
}

static void
log_write(const char *p, size_t n)
{
	ssize_t k;

	while (n > 0) {
		k = write(the_log.fd, p, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			/* Nobody to tell but master, who opens a new one. */
			if (the_log.lost != NULL)
				the_log.lost();
			return;
		}
		p += k;
		n -= (size_t)k;
	}
}

void
log_flush(void)
{
	size_t n = the_log.n;

	the_log.n = 0;
	if (n > 0)
		log_write(the_log.pending, n);
}

static void
log_stamp(void)
{
	time_t now = (time_t)(clock_wall().us / 1000000);
	struct tm tm;

	if (now == the_log.stamp_at)
		return;
	the_log.stamp_at = now;
	if (localtime_r(&now, &tm) == NULL ||
	    strftime(the_log.stamp, sizeof the_log.stamp, "%b %e %H:%M:%S",
	    &tm) == 0)
		the_log.stamp[0] = '\0';
	else
		the_log.zone = tm.tm_gmtoff;
}

__attribute__((format(printf, 3, 0)))
static void
log_line(int priority, const char *kind, const char *fmt, va_list ap)
{
	char line[LOG_LINE_MAX + 512], text[LOG_LINE_MAX];
	int n;
	size_t len;

	n = vsnprintf(text, sizeof text, fmt, ap);
	if (n < 0)
		return;
	for (len = 0; text[len] != '\0'; len++)
		if (text[len] == '\n' || text[len] == '\r')
			text[len] = ' ';
	log_stamp();
	switch (the_log.sink) {
	case LOG_SINK_STDERR:
		n = snprintf(line, sizeof line, "%s: %s%s\n",
		    the_log.open ? the_log.name : "postern", kind, text);
		log_flush();
		log_write(line, (size_t)n);
		return;
	case LOG_SINK_SYSLOG:
		/* One datagram for each line. */
		n = snprintf(line, sizeof line, "<%d>%s %s[%d]: %s%s",
		    the_log.facility | priority, the_log.stamp,
		    the_log.name, the_log.pid, kind, text);
		log_write(line, (size_t)n);
		break;
	case LOG_SINK_FILE:
		n = snprintf(line, sizeof line, "%s %s %s[%d]: %s%s\n",
		    the_log.stamp, the_log.host, the_log.name, the_log.pid,
		    kind, text);
		if (the_log.n + (size_t)n > sizeof the_log.pending)
			log_flush();
		memcpy(the_log.pending + the_log.n, line, (size_t)n);
		the_log.n += (size_t)n;
		if (priority <= LOG_WARNING)
			log_flush();
		break;
	}
	if (the_log.tee && priority <= LOG_WARNING)
		dprintf(STDERR_FILENO, "%s: %s%s\n", the_log.name, kind, text);
}

void
log_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_INFO, "", fmt, ap);
	va_end(ap);
}

void
log_debug(const char *fmt, ...)
{
	va_list ap;

	if (the_log.level == 0)
		return;
	va_start(ap, fmt);
	log_line(LOG_INFO, "debug: ", fmt, ap);
	va_end(ap);
}

void
log_trace(const char *fmt, ...)
{
	va_list ap;

	if (!log_tracing())
		return;
	va_start(ap, fmt);
	log_line(LOG_INFO, "trace: ", fmt, ap);
	va_end(ap);
}

void
log_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_WARNING, "warning: ", fmt, ap);
	va_end(ap);
}

void
log_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_ERR, "error: ", fmt, ap);
	va_end(ap);
}

/* -- from a signal handler ------------------------------------------------- */

struct last_line {
	char text[LOG_LINE_MAX];
	size_t n;
};

static void
last_put(struct last_line *l, const char *s)
{
	while (*s != '\0' && l->n < sizeof l->text)
		l->text[l->n++] = *s++;
}

/* At least width characters; pad in front. */
static void
last_number(struct last_line *l, unsigned number, unsigned width, char pad)
{
	char digits[16];
	unsigned n = sizeof digits - 1;

	digits[n] = '\0';
	do {
		digits[--n] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	while (sizeof digits - 1 - n < width)
		digits[--n] = pad;
	last_put(l, digits + n);
}

/*
 * As log_stamp(), which may need the lock of the time zone: days since March
 * 1st of the year 0, since then the length of a month follows a rule.
 */
static void
last_stamp(struct last_line *l)
{
	static const char months[12][4] = { "Mar", "Apr", "May", "Jun", "Jul",
		"Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb" };
	int64_t s = clock_wall().us / 1000000 + the_log.zone;
	uint32_t day = (uint32_t)(s / 86400) + 719468u, of_year, month;
	uint32_t time = (uint32_t)(s % 86400);
	uint32_t of_era = day % 146097;
	uint32_t year = (of_era - of_era / 1460 + of_era / 36524 -
	    of_era / 146096) / 365;

	of_year = of_era - (365 * year + year / 4 - year / 100);
	month = (5 * of_year + 2) / 153;
	last_put(l, months[month]);
	last_put(l, " ");
	last_number(l, of_year - (153 * month + 2) / 5 + 1, 2, ' ');
	last_put(l, " ");
	last_number(l, time / 3600, 2, '0');
	last_put(l, ":");
	last_number(l, time / 60 % 60, 2, '0');
	last_put(l, ":");
	last_number(l, time % 60, 2, '0');
}

/* Postfix's form, as log_line() has it. */
static void
last_head(struct last_line *l)
{
	if (the_log.sink == LOG_SINK_SYSLOG) {
		last_put(l, "<");
		last_number(l, (unsigned)the_log.facility | LOG_ERR, 1, '0');
		last_put(l, ">");
	}
	if (the_log.sink != LOG_SINK_STDERR) {
		last_stamp(l);
		last_put(l, " ");
	}
	if (the_log.sink == LOG_SINK_FILE) {
		last_put(l, the_log.host);
		last_put(l, " ");
	}
	last_put(l, the_log.open ? the_log.name : "postern");
	if (the_log.sink != LOG_SINK_STDERR) {
		last_put(l, "[");
		last_number(l, (unsigned)the_log.pid, 1, '0');
		last_put(l, "]");
	}
	last_put(l, ": error: ");
}

static void
last_write(const char *p, size_t n)
{
	ssize_t k;

	/* Nobody can be asked for another sink here. */
	while (n > 0) {
		k = write(the_log.fd, p, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return;
		p += k;
		n -= (size_t)k;
	}
}

void
log_from_signal(const char *what, const char *name, unsigned number)
{
	struct last_line l = { .n = 0 };
	size_t pending = the_log.n;

	the_log.n = 0;
	if (pending <= sizeof the_log.pending)
		last_write(the_log.pending, pending);
	last_head(&l);
	last_put(&l, what);
	last_put(&l, name != NULL ? name : "?");
	last_put(&l, " (");
	last_number(&l, number, 1, '0');
	last_put(&l, the_log.sink == LOG_SINK_SYSLOG ? ")" : ")\n");
	last_write(l.text, l.n);
}

/* -- reports --------------------------------------------------------------- */

void
log_report(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		log_error("%s", text);
	else
		log_warn("%s", text);
}

void
log_report_errors(bool error, const char *text, void *arg)
{
	if (error)
		log_report(error, text, arg);
}

/*
 * The pause keeps a process that cannot start from being restarted, and from
 * filling the log, as fast as the machine can.
 */
void
fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_CRIT, "fatal: ", fmt, ap);
	va_end(ap);
	log_flush();
	if (the_log.sink != LOG_SINK_STDERR)
		sleep(1);
	_exit(1);
}

void
panic(const char *fmt, ...)
{
	static bool again;
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_CRIT, "panic: ", fmt, ap);
	va_end(ap);
	if (!again && the_log.describe != NULL) {
		again = true;
		log_error("panic: while working on: %s",
		    the_log.describe(the_log.describe_arg));
	}
	log_flush();
	abort();
}

/* Length of the valid UTF-8 sequence at p, 0 if there is none. */
static size_t
utf8_length(const unsigned char *p, size_t left)
{
	uint32_t c;
	size_t n, i;

	if (p[0] < 0xc2)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
	if (n == 0 || n > left)
		return 0;
	c = p[0] & (0x7fu >> n);
	for (i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) ||
	    (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff ||
	    (c >= 0x80 && c < 0xa0))
		return 0;
	return n;
}

const char *
log_safe(struct view v)
{
	static char ring[8][1001];
	static unsigned next;
	char *out = ring[next++ % 8];
	const unsigned char *p = (const unsigned char *)v.p;
	size_t i = 0, o = 0, n;

	while (i < v.n && o < 996) {
		if (p[i] >= 0x20 && p[i] < 0x7f) {
			out[o++] = (char)p[i++];
			continue;
		}
		n = p[i] >= 0x80 ? utf8_length(p + i, v.n - i) : 0;
		if (n == 0) {
			out[o++] = '?';
			i++;
			continue;
		}
		memcpy(out + o, p + i, n);
		o += n;
		i += n;
	}
	out[o] = '\0';
	return out;
}
