/*
 * BINARYMIME (RFC 3030 section 3) becomes a text of lines while it comes in:
 * what is declared binary in it is written as base64, in lines of 76, and its
 * Content-Transfer-Encoding field is replaced by one at the end of the header
 * block that says so.  A multipart or an attached message may not be encoded
 * (RFC 2045 section 6.4): what is in it is, and it is said to be 8bit.  All
 * else goes the way of any octets of BDAT (proxy/smtpd_text.h).
 *
 * What is a part is for the walk to say (rules/mime.h).  In a binary part only
 * CRLF and a boundary end it, and the CRLF is no part of it; where there is no
 * multipart, the body is all that comes.
 *
 * Pure; input may be cut anywhere.  Memory is bounded by the limits of the
 * walk; of the text itself no more than BINARY_HELD bytes are kept.
 */
#ifndef PROXY_SMTPD_BINARY_H
#define PROXY_SMTPD_BINARY_H

#include "lib/buf.h"
#include "proxy/smtpd_text.h"
#include "rules/mime.h"

/* What was not yet decided on, at most. */
#define BINARY_HELD	24576u

struct binary;

/* lines, which was just made by text_init_chunks(), decodes what is lines; it
 * stays the caller's.  o: limits alone. */
struct binary *binary_new(const struct mime_options *o, struct text *lines);
void binary_free(struct binary **b);
/* What comes of in and what was held is appended to out, which takes twice
 * that, and TEXT_SPARE. */
void binary_decode(struct binary *b, struct view in, struct buf *out);
/* No more comes: the rest. */
void binary_finish(struct binary *b, struct buf *out);
/* Why it cannot be written so, as a reply; NULL: it can.  Nothing is appended
 * from then on. */
const char *binary_refusal(const struct binary *b);
/* Are there octets beyond ASCII in what was written? */
bool binary_is_8bit(const struct binary *b);

#endif
