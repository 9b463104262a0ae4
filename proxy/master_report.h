/*
 * Where mistakes in the configuration go: master writes them to its log,
 * `postern check` to the terminal.  One line each, without newline.
 */
#ifndef PROXY_MASTER_REPORT_H
#define PROXY_MASTER_REPORT_H

#include "lib/conf.h"

struct reporter {
	conf_report *fn;
	void *arg;
};

void report_error(const struct reporter *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void report_warn(const struct reporter *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* A conf_report that passes errors on and drops warnings; arg: reporter. */
void report_errors_only(bool error, const char *text, void *arg);

#endif
