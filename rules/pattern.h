/*
 * One regular expression, POSIX extended or PCRE2, and the engine that a
 * table's patterns share: limits, the JIT stack, room for the groups.  PCRE2's
 * JIT runs when patterns are compiled, because a jailed role may not make
 * memory executable; matching takes memory from the heap only where the C
 * library's regexec() does so, or when a long key needs more than the JIT
 * stack (at most 32 MB).  A key is bytes, not a C string.
 */
#ifndef RULES_PATTERN_H
#define RULES_PATTERN_H

#include "lib/buf.h"
#include "lib/view.h"

#define PATTERN_GROUPS_MAX	99u

enum pattern_syntax { PATTERN_POSIX = 1, PATTERN_PCRE };
/* PATTERN_LIMIT: gave up; neither a match nor none. */
enum pattern_answer { PATTERN_MATCH = 1, PATTERN_NO_MATCH, PATTERN_LIMIT };

struct pattern;
struct pattern_engine;

/* match_limit: how many steps PCRE2 may take for one key. */
struct pattern_engine *pattern_engine_new(enum pattern_syntax syntax,
    uint32_t match_limit);
/* After its patterns. */
void pattern_engine_free(struct pattern_engine **e);

/*
 * flags: of regexp_table(5) "imx" or of pcre_table(5) "imsxAEUX"; each
 * toggles.  groups: the highest $n that will be asked for.  On a mistake
 * NULL, and why is the text of it.  There is no NUL in text.
 */
struct pattern *pattern_compile(struct pattern_engine *e, struct view text,
    struct view flags, unsigned groups, struct buf *why);
void pattern_free(struct pattern **p);

enum pattern_answer pattern_match(struct pattern_engine *e,
    const struct pattern *p, struct view key);
/* What group n (1 or higher, at most groups) took from the key of the last
 * match; empty if it took no part. */
struct view pattern_group(const struct pattern_engine *e, struct view key,
    unsigned n);

#endif
