/*
 * The threads of a lookup-TYPE program: each table has some, each with a
 * handle of the engine, so that one question that takes long does not hold
 * the others.  Everything here is called by the loop's thread, but the engine.
 *
 * A table whose server fails WORK_FAILURES times in a row is left alone for
 * a second, then two, up to WORK_PAUSE_MAX_MS; meanwhile its answer is
 * ENGINE_TEMPORARY at once.
 */
#ifndef PROXY_ENGINE_WORK_H
#define PROXY_ENGINE_WORK_H

#include "lib/clock.h"
#include "proxy/lookup_engine.h"

#define WORK_QUEUE_MAX		4000u	/* questions waiting, of one table */
#define WORK_FAILURES		3u
#define WORK_PAUSE_MS		1000
#define WORK_PAUSE_MAX_MS	16000
#define WORK_LOG_US		60000000	/* between two complaints */

struct work_table;
struct conf;

/* Opens n handles.  NULL: err says why. */
struct work_table *work_open(const char *table, unsigned n,
    const struct conf *main_cf, struct buf *err);
struct work_table *work_find(struct view table);
/* The first; then the next of one; NULL: no more. */
struct work_table *work_next(struct work_table *t);
const char *work_name(const struct work_table *t);

/* An answer; void after the call. */
typedef void work_done(void *arg, uint32_t tag, enum engine_answer a,
    struct view value);
/* Inside the jail: start the threads. */
void work_start(void);
/*
 * done(arg, tag) is called later, from the loop, unless work_forget(arg) was.
 * False: not now; it is not called.
 */
bool work_ask(struct work_table *t, struct view key, int64_t ms,
    work_done *done, void *arg, uint32_t tag);
void work_forget(const void *arg);
void work_status(struct buf *b);

#endif
