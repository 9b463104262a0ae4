/*
 * A message as people and programs read it: the listing of mailq, a line of
 * JSON.  Pure.  Nothing that stood in the message reaches a terminal as it
 * is: control bytes and what is not UTF-8 become '?' (listing) or are escaped
 * (JSON, RFC 8259; bytes that are not UTF-8 become U+FFFD).
 */
#ifndef QUEUE_QUEUE_SHOW_H
#define QUEUE_QUEUE_SHOW_H

#include "queue/queue_entry.h"

extern const char show_heading[];	/* of the listing, with its line end */

/* e is decoded.  In local time.  With more: what Postfix does not say. */
bool show_listing(struct buf *b, const struct queue_entry *e, bool more);
bool show_json(struct buf *b, const struct queue_entry *e, bool more);
bool show_json_string(struct buf *b, struct view v);
/* Printable UTF-8. */
bool show_text(struct buf *b, struct view v);
/* A held message: what and whose it is, why a rule holds it; three lines. */
bool show_held(struct buf *b, const struct queue_entry *e);
/* "-- 5 Kbytes in 1 Request." */
bool show_total(struct buf *b, uint64_t bytes, uint64_t messages);

#endif
