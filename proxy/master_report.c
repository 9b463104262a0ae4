#include <stdarg.h>

#include "proxy/master_report.h"

#define REPORT_MAX	2048u

__attribute__((format(printf, 3, 0)))
static void
report_line(const struct reporter *r, bool error, const char *fmt, va_list ap)
{
	struct buf b;

	buf_init(&b, REPORT_MAX);
	if (!buf_vprintf(&b, fmt, ap)) {
		buf_clear(&b);
		(void)buf_puts(&b, "(a text too long to show)");
	}
	r->fn(error, buf_cstr(&b), r->arg);
	buf_free(&b);
}

void
report_error(const struct reporter *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report_line(r, true, fmt, ap);
	va_end(ap);
}

void
report_warn(const struct reporter *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	report_line(r, false, fmt, ap);
	va_end(ap);
}

void
report_errors_only(bool error, const char *text, void *arg)
{
	const struct reporter *r = arg;

	if (error)
		r->fn(error, text, r->arg);
}
