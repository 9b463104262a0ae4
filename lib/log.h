/*
 * The log.  One line per event in Postfix's form:
 *
 *   Nov 21 03:08:31 host postern/smtpd[123]: text
 *
 * The process writes to a descriptor its parent opened (a file, appended to,
 * or a connection to syslog), so nothing is opened inside the jail.  Lines
 * are collected and written together by log_flush(), which the event loop
 * calls before it waits; warnings and worse are written at once.  Data from a
 * peer passes log_safe(), which makes control bytes visible.
 *
 * Severities are used exactly: info, warning (somebody should look), error
 * (this operation failed), fatal (the environment does not allow this process
 * to go on; it pauses 1 s and exits with 1), panic (our own mistake: role and
 * state are named, then abort()).
 */
#ifndef LIB_LOG_H
#define LIB_LOG_H

#include "lib/view.h"

enum log_sink { LOG_SINK_STDERR = 0, LOG_SINK_FILE, LOG_SINK_SYSLOG };

/* name: "postern/smtpd"; host: for the file form. Both copied. */
void log_open(const char *name, const char *host);
/* Take over fd as the sink; the old one is flushed and closed. */
void log_to(enum log_sink sink, int fd, int facility);
void log_facility(int facility);
/* In a forked child: the sink gets this number, unless it is stderr. */
void log_child(int fd);
void log_verbose(int level);
int log_level(void);
/* From this level on, what rules are looked at is written too. */
#define LOG_LEVEL_TRACE	2
static inline bool
log_tracing(void)
{
	return log_level() >= LOG_LEVEL_TRACE;
}
void log_flush(void);
/* Also copy warnings and worse to standard error (for commands). */
void log_tee(bool on);

void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A step of a decision, for `postern explain`; only when log_tracing(). */
void log_trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void fatal(const char *fmt, ...)
    __attribute__((format(printf, 1, 2), noreturn));
void panic(const char *fmt, ...)
    __attribute__((format(printf, 1, 2), noreturn));

/*
 * A last word from a signal handler: "error: ", what, name (may be NULL), and
 * the number in parentheses.  It takes no lock and allocates nothing, whatever
 * was interrupted; lines that were being written may be cut.
 */
void log_from_signal(const char *what, const char *name, unsigned number);

/*
 * Where a reader of configuration reports to (conf_report, table_report): an
 * error or a warning, one line each; the second leaves out warnings that
 * somebody else gave already.
 */
void log_report(bool error, const char *text, void *arg);
void log_report_errors(bool error, const char *text, void *arg);

/*
 * What a panic adds: a role sets this to describe the session it works on.
 * The text is read only if a panic happens; the pointer must stay valid.
 */
void log_context(const char *(*describe)(void *arg), void *arg);

/* Called when the sink stops working: to ask for a new one. */
void log_on_lost(void (*lost)(void));

/*
 * A printable form of peer data: control bytes, DEL and bytes that are not
 * valid UTF-8 become '?'.  The result lives in one of eight rotating buffers
 * and is cut at 1,000 bytes.
 */
const char *log_safe(struct view v);

/* Always compiled in; for what cannot happen, never for a peer's input. */
#define ensure(cond) do {						\
	if (!(cond))							\
		panic("%s:%d: %s: not true: %s",			\
		    __FILE__, __LINE__, __func__, #cond);		\
} while (0)

#endif
