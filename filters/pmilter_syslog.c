/*
 * libmilter writes to syslog, where this process has no way to; our log has.
 * So these take the place of the C library's.  <syslog.h> is not included: it
 * makes other things of their names.
 */
#include <stdarg.h>
#include <stdio.h>

#include "filters/pmilter.h"

/* Of syslog(3). */
#define PRIORITY_MASK		7
#define PRIORITY_WARNING	4

void syslog(int priority, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void __syslog_chk(int priority, int flag, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

__attribute__((format(printf, 2, 0)))
static void
note(int priority, const char *fmt, va_list ap)
{
	char text[1000];

	(void)vsnprintf(text, sizeof text, fmt, ap);
	pmilter_note((priority & PRIORITY_MASK) <= PRIORITY_WARNING,
	    mem_printf("libmilter: %s", text));
}

void
syslog(int priority, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	note(priority, fmt, ap);
	va_end(ap);
}

void
__syslog_chk(int priority, int flag, const char *fmt, ...)
{
	va_list ap;

	(void)flag;
	va_start(ap, fmt);
	note(priority, fmt, ap);
	va_end(ap);
}
