#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/conf_choice.h"
#include "lib/log_sink.h"
#include "lib/mem.h"
#include "proxy/master.h"

#define LOG_RETRY_MS	2000

int
master_log_fd(struct master *m, enum log_sink *ret_sink)
{
	return log_sink_open(m->log_file, ret_sink);
}

const struct reporter master_log_reporter = { log_report, NULL };

bool
master_log_open(struct master *m, const struct conf *cf,
    const struct reporter *r)
{
	char host[256] = "localhost", *name;
	enum log_sink sink;
	int fd;

	free(m->log_file);
	m->log_file = mem_strdup(cf->maillog_file);
	m->log_facility = (int)conf_choice("syslog_facility",
	    view_of(cf->syslog_facility));
	fd = master_log_fd(m, &sink);
	if (sink == LOG_SINK_STDERR && m->log_file[0] != '\0') {
		report_error(r, "cannot open the log %s: %s", m->log_file,
		    strerror(errno));
		close(fd);
		return false;
	}
	m->log_stderr = sink == LOG_SINK_STDERR;
	if (m->log_stderr)
		report_warn(r, "no syslog at /dev/log: logging to standard "
		    "error; maillog_file = /file/name gives a log file");
	(void)gethostname(host, sizeof host - 1);
	name = mem_printf("%s/master", cf->syslog_name);
	log_open(name, host);
	free(name);
	log_to(sink, fd, m->log_facility);
	return true;
}

static void
master_log_send(struct instance *i)
{
	enum log_sink sink;
	struct buf *b;
	int fd;

	if (i->control == NULL)
		return;
	fd = master_log_fd(i->m, &sink);
	i->log_lost = sink == LOG_SINK_STDERR && i->log_lost;
	b = chan_begin(i->control, MSG_LOG);
	put_u8(b, (uint8_t)sink);
	chan_put_fd(i->control, fd, false);
	chan_end(i->control);
}

void
master_log_again(struct master *m)
{
	enum log_sink sink;
	struct instance *i;
	int fd = master_log_fd(m, &sink);

	log_to(sink, fd, m->log_facility);
	for (i = m->instances; i != NULL; i = i->next)
		master_log_send(i);
}

static void
master_log_on_time(evutil_socket_t fd, short what, void *arg)
{
	struct master *m = arg;
	struct instance *i;

	(void)fd;
	(void)what;
	for (i = m->instances; i != NULL; i = i->next) {
		if (i->log_lost)
			master_log_send(i);
		if (i->log_lost)
			event_add(&m->log_timer, loop_timeout(LOG_RETRY_MS));
	}
}

/*
 * syslogd was restarted, or the disk is full.  Not at once: a role whose new
 * descriptor does not work either would ask without end.
 */
void
master_log_lost(struct instance *i)
{
	struct master *m = i->m;

	i->log_lost = true;
	if (!event_initialized(&m->log_timer))
		event_assign(&m->log_timer, loop_base(), -1, 0,
		    master_log_on_time, m);
	if (!event_pending(&m->log_timer, EV_TIMEOUT, NULL))
		event_add(&m->log_timer, loop_timeout(LOG_RETRY_MS));
}
