/*
 * What a client may say about notifications (RFC 3461, RFC 6533): the values
 * of RET, ENVID, NOTIFY and ORCPT, from the wire to the envelope and back.
 *
 * In an envelope ENVID and the address of ORCPT stand decoded: printable
 * ASCII, in an address of type "utf-8" also UTF-8.  What decodes to a control
 * byte (as "+00") or to anything else is refused, so it never gets that far.
 */
#ifndef LIB_DSN_H
#define LIB_DSN_H

#include "lib/buf.h"
#include "lib/view.h"

#define DSN_ENVID_MAX	100u	/* bytes, decoded (RFC 3461 section 4.4) */
#define DSN_ORCPT_MAX	500u	/* as on the wire (RFC 3461 section 4.2) */
#define DSN_TYPE_MAX	64u	/* of an address type */

/* "FULL" or "HDRS": 'F' or 'H'; 0 for anything else. */
uint8_t dsn_ret(struct view text);
/* "NEVER" or a list of SUCCESS, FAILURE, DELAY: bits of enum dsn_notify
 * (lib/envelope.h); 0 for anything else. */
uint8_t dsn_notify(struct view text);
bool dsn_notify_put(struct buf *out, uint8_t notify);

/* RFC 3461 section 4: +HH for what is not printable, for + and for =.  On
 * failure out is as it was. */
bool xtext_get(struct buf *out, struct view text);
bool xtext_put(struct buf *out, struct view plain);
/* RFC 6533 section 3: \x{HHHH} for the same and for other than ASCII.  raw:
 * UTF-8 may also stand as it is (unitext, which needs SMTPUTF8). */
bool unitext_get(struct buf *out, struct view text, bool raw);
bool unitext_put(struct buf *out, struct view plain);

bool dsn_envid_get(struct buf *out, struct view text);
/* "type;address"; out gets it with the address decoded. */
bool dsn_orcpt_get(struct buf *out, struct view text, bool raw);
/* The same backwards; ASCII. */
bool dsn_orcpt_put(struct buf *out, struct view orcpt);
/* Split a decoded one.  False: it has no type or no address. */
bool dsn_orcpt_split(struct view orcpt, struct view *ret_type,
    struct view *ret_address);

#endif
