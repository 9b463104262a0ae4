/*
 * The text of a message in chunks (RFC 3030), for a server that offers
 * CHUNKING.  What it gets is what DATA would have brought, without the doubled
 * dots: nothing in the octets of a chunk is looked at, so nothing in them can
 * be taken for an end.
 *
 * The first chunk waits for the replies to all RCPT, so nobody is sent a text
 * that is not wanted, and no chunk stands open when all are refused.  Each but
 * the last has a fixed size at least, and most messages are one.  Where
 * PIPELINING is offered, they do not wait for the replies to one another.
 *
 * A refused chunk ends the transaction.  If all was answered the session goes
 * on with RSET (RFC 3030 leaves its state open); else it is closed.
 */
#ifndef PROXY_RELAY_BDAT_H
#define PROXY_RELAY_BDAT_H

#include "proxy/relay_session.h"

/* Bytes in front of a text, for the command. */
#define RELAY_BDAT_ROOM	40u

/* Is this the way for the text of s->delivery? */
bool relay_bdat_due(const struct session *s);
/* On entering RELAY_BDAT, and when more can be written: as many chunks as the
 * socket takes.  Then RELAY_LAST. */
void relay_bdat_send(struct session *s);
/* In RELAY_BDAT and RELAY_LAST. */
void relay_bdat_reply(struct session *s);

#endif
