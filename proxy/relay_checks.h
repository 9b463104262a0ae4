/*
 * smtp_header_checks, smtp_mime_header_checks, smtp_nested_header_checks and
 * smtp_body_checks (header_checks(5)): rules for a text while it is
 * delivered.  What they change is so for this delivery only; the message in
 * the queue stays as it is, and another transport, or this one after a
 * reload, begins with that.
 *
 * A text is walked once for a delivery, before its conversation, a slice of it
 * in each turn of the loop: other deliveries go on meanwhile.
 */
#ifndef PROXY_RELAY_CHECKS_H
#define PROXY_RELAY_CHECKS_H

#include "proxy/relay_delivery.h"

/* What the rules may change in a message: changes, bytes put in. */
#define RELAY_CHECKS_EDITS	65536u

struct relay_checks;

/*
 * Open and compile what cf names.  *ret is NULL when that is nothing.  False:
 * each mistake was reported.  cf must outlive it.
 */
bool relay_checks_open(const struct conf *cf, table_report *report,
    void *arg, struct relay_checks **ret);
void relay_checks_free(struct relay_checks **c);

enum relay_checked { CHECKED_DONE = 1, CHECKED_MORE, CHECKED_FAILED };

/*
 * Look at d's text.  DONE: d->edits and d->size are what shall be sent.  MORE:
 * go_on(d), which calls this again, comes in a later turn.  FAILED: the text
 * cannot be read, a table does not answer, or there are too many changes;
 * logged, and *ret_why (static text) says what.  go_on NULL: in one go.
 */
enum relay_checked relay_check(struct relay_checks *c, struct delivery *d,
    void (*go_on)(struct delivery *d), const char **ret_why);
/* d is given up: forget how far it was looked at. */
void relay_check_cancel(struct delivery *d);

#endif
