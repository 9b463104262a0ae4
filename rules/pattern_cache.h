/*
 * A directory of results that took long to work out: each file holds what was
 * asked, to the letter, and what came of it.  It is written by roles while
 * they load, with the rights of master: the directory and the files in it are
 * that user's and nobody else may write to them, else they are not used.  So
 * no role behind its jail can put anything there.  A file that is damaged,
 * cut short or about something else is as good as none; it is replaced.  A
 * failure to write is no failure, the result is at hand.
 */
#ifndef RULES_PATTERN_CACHE_H
#define RULES_PATTERN_CACHE_H

#include "lib/buf.h"
#include "lib/view.h"

/* Of all files together; what was not used for longest goes first. */
#define PATTERN_CACHE_MAX	(64u << 20)
#define PATTERN_CACHE_FILES_MAX	64u

/* The answer to this question, appended to ret; false: not there. */
bool pattern_cache_get(const char *dir, struct view question,
    struct buf *ret);
/* The directory is made if it is not there.  False with errno. */
bool pattern_cache_put(const char *dir, struct view question,
    struct view answer);

#endif
