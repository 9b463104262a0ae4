/*
 * What both sides of an authentication check of what the other sends
 * (RFC 4422, RFC 4954): mechanisms and their properties, the BASE64 of
 * challenges and responses, names of those who logged in.
 */
#ifndef LIB_SASL_H
#define LIB_SASL_H

#include "lib/view.h"

#define SASL_MECHANISM_MAX	20u	/* RFC 4422 section 3.1 */
#define SASL_MECHANISMS_MAX	32u	/* that one server offers */
#define SASL_TEXT_MAX		12288u	/* RFC 4954 section 4: in BASE64 */
#define SASL_LOGIN_MAX		255u
#define SASL_REASON_MAX		200u

/* What a mechanism is, as the security options name it. */
enum sasl_property {
	SASL_PLAINTEXT = 1 << 0,	/* shows the password */
	SASL_ACTIVE = 1 << 1,		/* open to active attacks */
	SASL_DICTIONARY = 1 << 2,	/* open to dictionary attacks */
	SASL_ANONYMOUS = 1 << 3,
	SASL_FORWARD_SECRECY = 1 << 4,
	SASL_MUTUAL = 1 << 5,		/* the server proves itself too */
	SASL_PRIVATE = 1 << 6,		/* not to be announced */
	SASL_PROPERTIES = (1 << 7) - 1
};

/* 1 to 20 of A-Z 0-9 - _ */
bool sasl_mechanism_good(struct view v);
/* Complete groups of four, padding at the end only; may be empty. */
bool sasl_base64_good(struct view v);
/* Not empty, not too long, no control characters: fit for logs, tables and
 * headers. */
bool sasl_login_good(struct view v);

/* Do security options (enum sasl_option)
 * permit a mechanism with these properties? */
enum sasl_option {
	SASL_NO_PLAINTEXT = 1 << 0,
	SASL_NO_ACTIVE = 1 << 1,
	SASL_NO_DICTIONARY = 1 << 2,
	SASL_NO_ANONYMOUS = 1 << 3,
	SASL_NEED_FORWARD_SECRECY = 1 << 4,
	SASL_NEED_MUTUAL = 1 << 5
};
bool sasl_permitted(uint32_t options, uint32_t properties);

#endif
