/*
 * A lookup-TYPE program run by a command, which asks it over a pipe and waits:
 * postmap -q, `postern check`.  Roles use lib/table_client.h.
 */
#ifndef LIB_TABLE_PROGRAM_H
#define LIB_TABLE_PROGRAM_H

#include <sys/types.h>

#include "lib/buf.h"
#include "lib/msg.h"

struct table_program {
	pid_t pid;
	int to, from;
};

/* False: it cannot be started; errno. */
bool table_program_start(struct table_program *p, const char *daemon_dir,
    const char *type, const char *table, const char *config_dir);
/* TABLE_REPLY_FAILED also if the program has ended. */
enum table_reply table_program_ask(struct table_program *p, struct view key,
    struct buf *value);
/* True: it ended with status 0, so it could open the table. */
bool table_program_end(struct table_program *p);

#endif
