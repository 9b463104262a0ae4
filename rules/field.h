/*
 * One header field: its name, and the parameters of a structured value
 * (RFC 2045 section 5.1, RFC 2231).  Parsing is lenient where receivers are:
 * the question is what some receiver could read, not what the sender ought to
 * have written.  Nothing here fails or allocates but in the scratch buffer.
 */
#ifndef RULES_FIELD_H
#define RULES_FIELD_H

#include "lib/buf.h"
#include "lib/view.h"

enum field {
	FIELD_OTHER = 0,
	FIELD_CONTENT_DESCRIPTION, FIELD_CONTENT_DISPOSITION,
	FIELD_CONTENT_ID, FIELD_CONTENT_TRANSFER_ENCODING,
	FIELD_CONTENT_TYPE, FIELD_MIME_VERSION,
	FIELD_DELIVERED_TO, FIELD_MESSAGE_ID, FIELD_RECEIVED,
	FIELD_RESENT_MESSAGE_ID
};

enum field field_find(struct view name);
/* The fields that describe a MIME entity, which mime_header_checks sees. */
bool field_is_mime(enum field f);

/*
 * The type and subtype of a Content-Type value; empty when there is none.
 * *ret_rest is where the parameters begin.
 */
void field_type(struct view value, struct view *ret_type,
    struct view *ret_subtype, struct view *ret_rest);

/*
 * One reading of a parameter.  The first token_n bytes are what a parser sees
 * that ends an unquoted value at the first byte RFC 2045 does not allow there;
 * others go on to the next space or semicolon.
 */
struct field_value {
	struct view text;
	size_t token_n;
};
typedef void field_each(const struct field_value *v, void *arg);

/*
 * Call each for every value that the parameter has: each plain occurrence,
 * then the one joined from RFC 2231 sections (name*, name*0, name*1*...),
 * percent-decoded, charset dropped.  The values point into scratch, which is
 * cleared first and must be able to hold twice params.n bytes.
 */
void field_param(struct view params, const char *name, struct buf *scratch,
    field_each *each, void *arg);

/*
 * All parameters in their order, each word as it is written ("name*0*").
 * scratch as above; values stay good until it is used again.  Returns false
 * when there are more than FIELD_PARAMS_MAX of them, which no program writes.
 */
#define FIELD_PARAMS_MAX	100u
typedef void field_param_each(struct view word, const struct field_value *v,
    void *arg);
bool field_params(struct view params, struct buf *scratch,
    field_param_each *each, void *arg);

#endif
