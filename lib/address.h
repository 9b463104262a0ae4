/*
 * Mail addresses as they stand in the envelope (RFC 5321 section 4.1.2, RFC
 * 6531 for UTF-8).  The internal form has no quotes and no brackets: the
 * local part is what it means, so that one address has one form; the domain
 * is as given (compare without case).  The last '@' separates.
 */
#ifndef LIB_ADDRESS_H
#define LIB_ADDRESS_H

#include "lib/buf.h"
#include "lib/view.h"

#define ADDRESS_LOCAL_MAX	64	/* RFC 5321 4.5.3.1.1; accepted to 255 */
#define ADDRESS_DOMAIN_MAX	255
#define ADDRESS_MAX		1000	/* whole, internal form */

/* Is it UTF-8 (RFC 3629, and no C1 controls)?  *ret_any, if not NULL, tells
 * that bytes above 127 occur; set only when true is returned. */
bool address_utf8(struct view v, bool *ret_any);

enum address_error {
	ADDRESS_OK = 1,
	ADDRESS_SYNTAX,		/* 501 5.1.7 / 5.1.3 Bad address syntax */
	ADDRESS_TOO_LONG
};

/*
 * Read the path of MAIL FROM: or RCPT TO: at the start of *rest: "<...>", or
 * without brackets up to a space unless strict.  A source route
 * ("@a,@b:user@c") is recognised and dropped (RFC 5321 appendix C).  The
 * internal form is appended to out; *rest moves behind the path.  "<>" gives
 * an empty address.  *ret_utf8 tells that bytes above 127 occur; bytes that
 * are not UTF-8, control bytes and NUL are ADDRESS_SYNTAX.
 */
enum address_error address_path(struct view *rest, bool strict,
    struct buf *out, bool *ret_utf8);

/* Parts of an internal address; domain is empty when there is no '@'. */
struct view address_local(struct view addr);
struct view address_domain(struct view addr);
/* External form: the local part quoted where RFC 5321 needs it. */
bool address_quote(struct view addr, struct buf *out);
/* A host name by RFC 1123 with LDH labels (underscore allowed), or UTF-8
 * labels; no trailing dot. */
bool address_valid_hostname(struct view name);
/* "[192.0.2.1]" or "[IPv6:2001:db8::1]" */
bool address_valid_literal(struct view domain);

#endif
