/*
 * milter_header_checks: rules for headers that outside filters add, insert and
 * change.  What a rule decides goes to the findings of the message; REPLACE,
 * PREPEND, IGNORE and STRIP change what the filter wanted.
 */
#ifndef FILTERS_MILTER_CHECKS_H
#define FILTERS_MILTER_CHECKS_H

#include "filters/findings.h"
#include "filters/milter_client.h"
#include "lib/conf.h"
#include "lib/envelope.h"

/* False after a report. */
bool milter_checks_load(const struct conf *cf, table_report *report,
    void *arg);
/*
 * The changes of one filter, looked at: *ret is list, or a changed copy in a.
 * False: they would be more than MILTER_EDITS_MAX, or a rule cannot be
 * carried out; it was logged.  id: the queue id as text.
 */
bool milter_checks_apply(const char *id, const struct envelope *e,
    const struct milter_edit *list, size_t n, struct arena *a,
    struct findings *f, const struct milter_edit **ret, size_t *ret_n);
/* "; from=<> to=<> proto= helo=<>" as in Postfix's lines of cleanup. */
void milter_log_envelope(struct buf *b, const struct envelope *e);

#endif
