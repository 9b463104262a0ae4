/*
 * Where files are looked into.  What is inside an archive was made by an
 * attacker and is read by libraries that were not made for that, so a filter
 * does it in a process of its own for each message: it has the files of this
 * message, a socket to the filter, and hard limits of memory and CPU time.  If
 * it passes them, crashes or says nothing, the file has a flag that says so,
 * and so have the message's other files that would need it.
 *
 * The processes are started by a keeper, which is forked while that is still
 * allowed and locked in as the filter is.  It reads no mail.  What is plain to
 * see (text, pictures, ...) is judged in the filter itself.
 */
#ifndef FILTERS_SCANNER_H
#define FILTERS_SCANNER_H

#include "filters/scan.h"
#include "lib/jail.h"

#define SCANNER_SLOTS	4u	/* files that are filled at a time */

struct scanner;

/* Locks the calling process in; says whether system calls are filtered. */
typedef bool scanner_jail(const struct jail_spec *spec);

/*
 * Reads libmagic's database: before the jail.  jail: of the keeper; NULL:
 * everything is done in this process.  NULL: *ret_error says why.
 */
struct scanner *scanner_new(const struct scan_limits *l, scanner_jail *jail,
    const char **ret_error);
void scanner_free(struct scanner **s);
/* Begin a message of that size: the limits begin anew.  End it: its process
 * ends. */
void scanner_begin(struct scanner *s, uint64_t size);
void scanner_end(struct scanner *s);
/* The content of a file, in pieces; false: there is no room for it. */
void scanner_clear(struct scanner *s, unsigned slot);
bool scanner_put(struct scanner *s, unsigned slot, struct view bytes);
/* As scan_file(), of what was put. */
void scanner_file(struct scanner *s, unsigned slot, struct scan_item *ret,
    scan_tell *tell, void *arg);

struct scanner_cost {
	uint64_t started, failed;
	uint64_t cpu_us;	/* of all that ended */
	uint64_t rss_kb;	/* the most that one had */
};
struct scanner_cost scanner_cost(const struct scanner *s);
/* Readable when the keeper has something to say: then scanner_heard(), which
 * ends the filter if the keeper has ended.  -1: there is none. */
int scanner_fd(const struct scanner *s);
void scanner_heard(struct scanner *s);
/* Until the process of the message has ended and is counted. */
void scanner_wait(struct scanner *s);

#endif
