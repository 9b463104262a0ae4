/* Where log lines go: opened by the process that starts the roles. */
#ifndef LIB_LOG_SINK_H
#define LIB_LOG_SINK_H

#include "lib/log.h"

/*
 * A new descriptor, which is the caller's: of a file (maillog_file), which is
 * made if it is not there; "/dev/stdout" and "/dev/stderr" are our own; of
 * syslog if file is empty.  What cannot be opened becomes standard error.
 */
int log_sink_open(const char *file, enum log_sink *ret_sink);

#endif
