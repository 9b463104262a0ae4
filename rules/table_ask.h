/*
 * All that an evaluation needs of tables behind connections (see
 * rules/table_remote.h), asked for at the same time.
 */
#ifndef RULES_TABLE_ASK_H
#define RULES_TABLE_ASK_H

#include "rules/table_remote.h"

struct table_asking;
typedef void table_asked(void *arg);

/*
 * After a table_known_end() that was true.  When the last answer is in k,
 * never before this returns, done is called, and what this returned is gone.
 * k must live as long.
 */
struct table_asking *table_ask_all(struct table_known *k, table_asked *done,
    void *arg);
/* done is not called any more; NULL is allowed. */
void table_ask_cancel(struct table_asking **a);

#endif
