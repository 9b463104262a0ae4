#include "filters/entity.h"

void
entity_init(struct entity *e, const struct charsets *cs)
{
	*e = (struct entity){ .leaf = false };
	names_init(&e->names, cs);
}

void
entity_free(struct entity *e)
{
	names_free(&e->names);
}

void
entity_begin(struct entity *e)
{
	struct part_names names = e->names;

	*e = (struct entity){ .disposition = DISPOSITION_NONE };
	e->names = names;
	names_clear(&e->names);
}

/* FNV-1a without case and white space; never 0. */
static uint64_t
hash(struct view v)
{
	uint64_t h = 0xcbf29ce484222325u;
	size_t i;

	for (i = 0; i < v.n; i++)
		if (!view_space(v.p[i]))
			h = (h ^ (unsigned char)(v.p[i] >= 'A' &&
			    v.p[i] <= 'Z' ? v.p[i] | 0x20 : v.p[i])) *
			    0x100000001b3u;
	return h | 1;
}

static size_t
keep(char *to, struct view v)
{
	v = view_head(v, ENTITY_WORD_MAX);
	if (v.n > 0)
		memcpy(to, v.p, v.n);
	return v.n;
}

/* A second field of a name that may be there once. */
static bool
again(struct entity *e, uint64_t *seen, struct view value,
    enum mime_condition c)
{
	uint64_t h = hash(value);

	if (*seen != 0 && *seen != h)
		condition_add(&e->conditions, c);
	if (*seen != 0)
		return true;
	*seen = h;
	return false;
}

/* "=?utf-8?q?base64?=" */
static bool
is_encoded(struct view v)
{
	return v.n > 4 && v.p[0] == '=' && v.p[1] == '?' &&
	    v.p[v.n - 2] == '?' && v.p[v.n - 1] == '=';
}

/* Is there a line of white space among the continuation lines?  One at the
 * end is only careless. */
static bool
has_blank_line(struct view v)
{
	bool blank = false;
	size_t i;

	v = view_trim(v);
	for (i = 0; i < v.n; i++) {
		if (v.p[i] == '\n') {
			if (blank)
				return true;
			blank = true;
		} else if (!view_space(v.p[i]))
			blank = false;
	}
	return false;
}

static bool
contains(struct view v, const char *word)
{
	for (; v.n > 0; v = view_from(v, 1))
		if (view_starts_nocase(v, word))
			return true;
	return false;
}

/* -- Content-Type ---------------------------------------------------------- */

static void
boundary(struct entity *e, const struct field_value *v, bool sections)
{
	uint64_t h = hash(v->text);
	size_t i;

	if (sections || (v->text.n > 0 &&
	    memchr(v->text.p, '\t', v->text.n) != NULL))
		condition_add(&e->conditions, MIME_BOUNDARY_FOLDED);
	if (e->boundary && h != e->boundary_hash)
		condition_add(&e->conditions, MIME_DUPLICATE_BOUNDARY);
	e->boundary = true;
	e->boundary_hash = h;
	if (v->text.n == 0)
		condition_add(&e->conditions, MIME_EMPTY_BOUNDARY);
	if (is_encoded(v->text))
		condition_add(&e->conditions, MIME_FIELD_ENCODED);
	/* What stands unquoted where programs stop: "a b", "a=b", "a(c)". */
	if (v->token_n < v->text.n || v->text.n > 70 || (v->text.n > 0 &&
	    view_space(v->text.p[v->text.n - 1])))
		condition_add(&e->conditions, MIME_BOUNDARY_SYNTAX);
	for (i = 0; i < v->text.n; i++)
		if ((unsigned char)v->text.p[i] > 126 ||
		    strchr("\"\\<>@[]{}|^`~!#$%&*;", v->text.p[i]) != NULL)
			condition_add(&e->conditions, MIME_BOUNDARY_SYNTAX);
}

static void
type_param(struct view word, const struct field_value *v, void *arg)
{
	struct entity *e = arg;

	if (view_is_nocase(word, "charset")) {
		if (e->charset_n == 0)
			e->charset_n = keep(e->charset, v->text);
		else if (!view_eq_nocase(view_head(v->text, ENTITY_WORD_MAX),
		    view_make(e->charset, e->charset_n)))
			condition_add(&e->conditions,
			    MIME_DUPLICATE_PARAMETER);
	} else if (view_is_nocase(word, "boundary"))
		boundary(e, v, false);
	else if (view_starts_nocase(word, "boundary*"))
		boundary(e, v, true);
}

static void
content_type(struct entity *e, struct view value)
{
	struct view type, subtype, rest;

	(void)again(e, &e->type_hash, value, MIME_DUPLICATE_TYPE);
	field_type(value, &type, &subtype, &rest);
	if (view_starts_nocase(view_trim(value), "=?"))
		condition_add(&e->conditions, MIME_FIELD_ENCODED);
	/* Some find it behind another one, or where a word follows. */
	if (!view_is_nocase(type, "multipart") &&
	    contains(view_head(value, view_find(value, ';')), "multipart/"))
		condition_add(&e->conditions, MIME_FIELD_BROKEN);
	if (type.n == 0 || subtype.n == 0 || (rest.n > 0 &&
	    rest.p[0] != ';' && !view_space(rest.p[0]) && rest.p[0] != '('))
		condition_add(&e->conditions, MIME_TYPE_SYNTAX);
	if (e->type_n == 0 && type.n > 0) {
		e->type_n = keep(e->type, type);
		e->subtype_n = keep(e->subtype, subtype);
	}
	if (view_is_nocase(type, "multipart")) {
		e->multipart = true;
		if (view_is_nocase(subtype, "signed") ||
		    view_is_nocase(subtype, "encrypted"))
			e->is_signed = true;
	} else if (view_is_nocase(type, "message") &&
	    (view_is_nocase(subtype, "rfc822") ||
	    view_is_nocase(subtype, "global") ||
	    view_is_nocase(subtype, "news")))
		e->message = true;
	else
		e->leaf = true;
	if (view_is_nocase(type, "message") &&
	    view_is_nocase(subtype, "partial"))
		condition_add(&e->conditions, MIME_PARTIAL);
	if (view_is_nocase(type, "message") &&
	    view_is_nocase(subtype, "external-body"))
		condition_add(&e->conditions, MIME_EXTERNAL);
	names_of_field(&e->names, rest, "name", NAME_OF_TYPE);
	names_of_field(&e->names, rest, "filename", NAME_OF_TYPE);
	if (!field_params(view_head(rest, 1u << 20), &e->names.scratch,
	    type_param, e))
		condition_add(&e->conditions, MIME_PARAMETERS);
}

static void
content_disposition(struct entity *e, struct view value)
{
	struct view type, subtype, rest;

	(void)again(e, &e->disposition_hash, value,
	    MIME_DUPLICATE_DISPOSITION);
	if (view_starts_nocase(view_trim(value), "=?"))
		condition_add(&e->conditions, MIME_FIELD_ENCODED);
	field_type(value, &type, &subtype, &rest);
	if (view_is_nocase(type, "inline")) {
		if (e->disposition == DISPOSITION_NONE)
			e->disposition = DISPOSITION_INLINE;
	} else
		e->disposition = DISPOSITION_ATTACHMENT;
	names_of_field(&e->names, rest, "filename", NAME_OF_DISPOSITION);
	names_of_field(&e->names, rest, "name", NAME_OF_DISPOSITION);
}

/* -- Content-Transfer-Encoding --------------------------------------------- */

static const struct {
	const char *name;
	enum leaf_encoding encoding;
} encodings[] = {
	{ "7bit", ENCODING_7BIT }, { "7-bit", ENCODING_7BIT },
	{ "8bit", ENCODING_8BIT }, { "8-bit", ENCODING_8BIT },
	{ "binary", ENCODING_BINARY }, { "base64", ENCODING_BASE64 },
	{ "quoted-printable", ENCODING_QP },
	{ "x-uuencode", ENCODING_UUENCODE }, { "x-uue", ENCODING_UUENCODE },
	{ "uuencode", ENCODING_UUENCODE }, { "uue", ENCODING_UUENCODE },
	{ "x-yenc", ENCODING_8BIT },
};
#define ENCODINGS	(sizeof encodings / sizeof encodings[0])

void
entity_reading(struct entity *e, enum leaf_encoding encoding)
{
	size_t i;

	for (i = 0; i < e->n_encodings; i++)
		if (e->encodings[i] == encoding)
			return;
	if (e->n_encodings == LEAF_READINGS)
		condition_add(&e->conditions, MIME_READINGS);
	else
		e->encodings[e->n_encodings++] = encoding;
}

/*
 * The word alone, as it should be; else each encoding that is named anywhere
 * in the value, and none at all.
 */
static void
content_encoding(struct entity *e, struct view value)
{
	struct view token, none, rest;
	size_t i, n;

	(void)again(e, &e->encoding_hash, value, MIME_DUPLICATE_ENCODING);
	if (contains(value, "=?"))
		condition_add(&e->conditions, MIME_FIELD_ENCODED);
	field_type(value, &token, &none, &rest);
	for (i = 0; i < ENCODINGS; i++)
		if (view_is_nocase(token, encodings[i].name))
			entity_reading(e, encodings[i].encoding);
	if (token.n == value.n && e->n_encodings > 0)
		return;
	n = e->n_encodings;
	if (contains(value, "base64"))
		entity_reading(e, ENCODING_BASE64);
	if (contains(value, "quoted-printable"))
		entity_reading(e, ENCODING_QP);
	if (n < e->n_encodings || (token.n < value.n && n > 0 &&
	    e->encodings[0] >= ENCODING_BASE64)) {
		condition_add(&e->conditions, MIME_ENCODING_SYNTAX);
		entity_reading(e, ENCODING_UNKNOWN);
	} else if (n == 0) {
		/* "bas(e)64": there are programs that take it for one. */
		condition_add(&e->conditions, MIME_UNKNOWN_ENCODING);
		entity_reading(e, ENCODING_UNKNOWN);
		e->guess = true;
	}
}

/* -- the block ------------------------------------------------------------- */

static bool
starts_with_value(struct view v, const char *const *list, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (view_starts_nocase(v, list[i]))
			return true;
	return false;
}

/* "Content-Type: multipart/...", where something else is continued? */
static bool
is_folded_field(struct view line)
{
	static const char *const types[] = { "multipart/", "message/",
		"application/" }, *const codes[] = { "base64",
		"quoted-printable" }, *const files[] = { "attachment" };
	size_t n = view_find(line, ':');
	struct view name = view_trim(view_head(line, n));
	struct view value = view_trim(view_from(line, n + 1));

	enum field f = field_find(name);

	return (f == FIELD_CONTENT_TYPE &&
	    starts_with_value(value, types, 3)) ||
	    (f == FIELD_CONTENT_TRANSFER_ENCODING &&
	    starts_with_value(value, codes, 2)) ||
	    (f == FIELD_CONTENT_DISPOSITION &&
	    starts_with_value(value, files, 1));
}

/*
 * A MIME field for some: on a continuation line, with a comment in its name,
 * or behind the name of another one.
 */
static bool
is_hidden_field(const struct mime_header *h)
{
	struct view v = h->text, name = view_head(v, view_find(v, ':'));
	size_t i, n;

	if (view_starts_nocase(name, "content-") && !field_is_mime(h->field))
		for (i = 0; i < name.n; i++)
			if (strchr("()<>@,;\\\"[]?=", name.p[i]) != NULL)
				return true;
	if (h->field == FIELD_CONTENT_TYPE &&
	    view_starts_nocase(h->value, "content-type"))
		return true;
	for (n = view_find(v, '\n'); n < v.n; n = view_find(v, '\n')) {
		v = view_trim(view_from(v, n));
		if ((v.n > 8 && (v.p[0] | 0x20) == 'c') &&
		    is_folded_field(view_head(v, view_find(v, '\n'))))
			return true;
	}
	return false;
}

void
entity_field(struct entity *e, const struct mime_header *h, struct view raw)
{
	if (is_hidden_field(h))
		condition_add(&e->conditions, MIME_FIELD_BROKEN);
	/* Thunderbird knows these, too. */
	if (view_starts_nocase(h->text, "content-name:") ||
	    view_starts_nocase(h->text, "x-sun-data-name:"))
		names_add(&e->names, h->value, "utf-8", NAME_OF_TYPE);
	if (!field_is_mime(h->field))
		return;
	e->mime_fields = true;
	if (view_8bit(h->text))
		condition_add(&e->conditions, MIME_HEADER_8BIT);
	if (has_blank_line(h->text))
		condition_add(&e->conditions, MIME_FIELD_BLANK);
	if (memchr(h->text.p, '\0', h->text.n) != NULL)
		condition_add(&e->conditions, MIME_HEADER_NUL);
	raw = view_from(raw, h->offset + view_find(h->text, ':'));
	if (raw.n > 0 && raw.p[0] != ':')
		condition_add(&e->conditions, MIME_FIELD_NAME);
	if (h->field == FIELD_CONTENT_TYPE)
		content_type(e, h->value);
	else if (h->field == FIELD_CONTENT_DISPOSITION)
		content_disposition(e, h->value);
	else if (h->field == FIELD_CONTENT_TRANSFER_ENCODING)
		content_encoding(e, h->value);
	else if (h->field == FIELD_MIME_VERSION)
		e->version = true;
}

static void
check_composite(struct entity *e)
{
	size_t i;

	if (e->multipart && !e->boundary)
		condition_add(&e->conditions, MIME_NO_BOUNDARY);
	if (e->leaf)
		condition_add(&e->conditions, MIME_COMPOSITE_LEAF);
	for (i = 0; i < e->n_encodings; i++)
		if (e->encodings[i] == ENCODING_BASE64)
			condition_add(&e->conditions, e->multipart ?
			    MIME_COMPOSITE_BASE64 : MIME_MESSAGE_BASE64);
		else if (e->encodings[i] > ENCODING_BASE64)
			condition_add(&e->conditions,
			    MIME_COMPOSITE_ENCODING);
}

void
entity_end(struct entity *e, bool primary)
{
	if (primary && e->type_n > 0 && !e->version)
		condition_add(&e->conditions, MIME_NO_VERSION);
	if (entity_composite(e))
		check_composite(e);
	else
		/* A leaf has no boundary to be wrong. */
		e->conditions.bits &= ~((uint64_t)1 << MIME_EMPTY_BOUNDARY |
		    (uint64_t)1 << MIME_BOUNDARY_SYNTAX |
		    (uint64_t)1 << MIME_BOUNDARY_FOLDED |
		    (uint64_t)1 << MIME_DUPLICATE_BOUNDARY);
	if (e->n_encodings == 0)
		entity_reading(e, ENCODING_7BIT);
	e->guessed = LEAF_READINGS;
	if (e->guess && !entity_composite(e)) {
		e->guessed = e->n_encodings;
		entity_reading(e, ENCODING_BASE64);
		entity_reading(e, ENCODING_QP);
	}
	if (e->type_n == 0) {
		e->type_n = keep(e->type, view_of("text"));
		e->subtype_n = keep(e->subtype, view_of("plain"));
	}
	if (e->names.overflow)
		condition_add(&e->conditions, MIME_PARAMETERS);
	if (e->names.control)
		condition_add(&e->conditions, MIME_NAME_CONTROL);
	if (e->names.bidi)
		condition_add(&e->conditions, MIME_NAME_BIDI);
	if (e->names.unknown_charset)
		condition_add(&e->conditions, MIME_UNKNOWN_CHARSET);
	if (e->names.twice)
		condition_add(&e->conditions, MIME_DUPLICATE_PARAMETER);
	if (names_differ(&e->names))
		condition_add(&e->conditions, MIME_NAME_DIFFERS);
}
