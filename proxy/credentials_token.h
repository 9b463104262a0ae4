/*
 * A token (RFC 6750) as a file or a command has it: a line with nothing else,
 * or the JSON of a token endpoint (RFC 6749 section 5.1) or of a program that
 * keeps such tokens: access_token, and when it ends: expires_in, in seconds
 * from when the file was written; or expires_at, expires_on or expiry, in
 * seconds since 1970; as a number or a string.  Pure.
 */
#ifndef PROXY_CREDENTIALS_TOKEN_H
#define PROXY_CREDENTIALS_TOKEN_H

#include "lib/view.h"

#define TOKEN_TEXT_MAX	32768u	/* bytes of a file */
#define TOKEN_NAME_MAX	128u	/* bytes of a plain name */
#define TOKEN_MAX	8000u	/* bytes of a token */

struct token {
	struct view text;	/* of the file's text */
	int64_t expires;	/* s since 1970; 0: not known */
};

/* written: s since 1970.  NULL: *ret is it; else what is wrong. */
const char *token_read(struct view file, int64_t written, struct token *ret);
/* The name of a file in the directory: not hidden, no way out of it. */
bool token_name_good(struct view name);
/* And one that smtp_sasl_token_command gets as an argument: letters, digits and
 * "._@+-", no option. */
bool token_name_plain(struct view name);

#endif
