/*
 * The date of a header (RFC 5322 section 3.3) in local time, with the name of
 * the zone as a comment, whatever the locale.  The time zone must have been
 * loaded (tzset()) before the jail.
 */
#ifndef LIB_MAIL_DATE_H
#define LIB_MAIL_DATE_H

#include "lib/buf.h"
#include "lib/clock.h"

/* false: b is full */
bool mail_date_put(struct buf *b, struct wall when);

#endif
