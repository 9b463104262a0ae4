#include "filters/attach_edit.h"
#include "lib/header.h"

#define NOTE_MAX	4096u
#define SHOWN_MAX	300u	/* bytes of a name or reason */

/* Anything beyond ASCII would need 8BITMIME from the next hop. */
static void
put_ascii(struct buf *b, struct view v)
{
	size_t i;

	v = view_head(v, SHOWN_MAX);
	for (i = 0; i < v.n; i++)
		(void)buf_putc(b, v.p[i] < ' ' || v.p[i] > 126 ? '?' :
		    v.p[i]);
}

static void
put_note(struct buf *b, struct view name, struct view why)
{
	(void)buf_puts(b, "An attachment was removed from this message.\r\n"
	    "\r\nName: ");
	put_ascii(b, name);
	if (why.n > 0) {
		(void)buf_puts(b, "\r\nReason: ");
		put_ascii(b, why);
	}
}

/* The header at the begin of v, with its line ends; 0: the block ends. */
static size_t
header_size(struct view v)
{
	size_t n = 0, end;

	/* A CR by itself is no line end: the walk goes on, too. */
	if (v.n == 0 || v.p[0] == '\n' || view_starts_nocase(v, "\r\n"))
		return 0;
	do {
		end = view_find(view_from(v, n), '\n');
		n += end + 1;
	} while (n < v.n && (v.p[n] == ' ' || v.p[n] == '\t'));
	return n < v.n ? n : v.n;
}

/* FIELD_OTHER stands for all those of MIME. */
static bool
is_field(struct view h, enum field field)
{
	struct view name, rest;
	enum field found;

	if (!header_split(view_head(h, view_find(h, '\n')), &name, &rest))
		return false;
	found = field_find(name);
	return field != FIELD_OTHER ? found == field :
	    field_is_mime(found) || view_starts_nocase(name, "Content-");
}

/*
 * Put text for the first header of this name, and take the others away;
 * without one it goes in front of all headers, but plain text needs none.
 */
static bool
replace_headers(struct findings *f, const struct leaf *l, enum field field,
    struct view text)
{
	uint64_t at = l->header_offset;
	struct view h;
	size_t n;

	while (at < l->body_offset && at < f->text.n && (n = header_size(
	    view_from(f->text, (size_t)at))) > 0) {
		h = view_head(view_from(f->text, (size_t)at), n);
		if (is_field(h, field)) {
			if (!findings_replace_earlier(f, at, n, text))
				return false;
			text = view_make("", 0);
		}
		at += n;
	}
	return text.n == 0 || field == FIELD_OTHER ||
	    findings_insert(f, l->header_offset, text);
}

static bool
replace_body(struct findings *f, const struct leaf *l, uint64_t from,
    struct buf *b)
{
	/* Whether the last line end is the body's or the boundary's. */
	if (l->end_offset >= from + 2 && memcmp(f->text.p + l->end_offset - 2,
	    "\r\n", 2) == 0)
		(void)buf_puts(b, "\r\n");
	return l->end_offset > from && findings_replace_earlier(f, from,
	    l->end_offset - from, buf_view(b));
}

bool
attach_strip(struct findings *f, const struct leaf *l, struct view name,
    struct view why)
{
	struct buf b;
	bool ok;

	if (l->in_signed || l->inside || l->origin == LEAF_UUENCODE ||
	    l->origin == LEAF_YENC || l->end_offset > f->text.n)
		return false;
	buf_init(&b, NOTE_MAX);
	if (l->part->block == MIME_BLOCK_PART) {
		(void)buf_puts(&b, "Content-Type: text/plain; "
		    "charset=us-ascii\r\nContent-Disposition: inline\r\n\r\n");
		put_note(&b, name, why);
		ok = replace_body(f, l, l->header_offset, &b);
	} else {
		put_note(&b, name, why);
		ok = replace_headers(f, l, FIELD_OTHER, view_of(
		    "Content-Type: text/plain; charset=us-ascii\r\n"
		    "Content-Disposition: inline\r\n")) &&
		    replace_body(f, l, l->body_offset, &b);
	}
	buf_free(&b);
	return ok;
}

static void
put_name(struct buf *b, struct view name)
{
	size_t i;

	for (i = 0; i < name.n && i < 200; i++)
		(void)buf_putc(b, name.p[i] > ' ' && name.p[i] < 127 &&
		    strchr("\"\\/:;<>|?*=%", name.p[i]) == NULL ? name.p[i] :
		    '_');
}

bool
attach_rename(struct findings *f, const struct leaf *l, struct view name)
{
	struct buf b;
	bool ok;

	if (l->in_signed || l->inside || l->origin != LEAF_PART)
		return false;
	buf_init(&b, NOTE_MAX);
	(void)buf_puts(&b, "Content-Type: application/octet-stream;\r\n"
	    "\tname=\"");
	put_name(&b, name);
	(void)buf_puts(&b, "\"\r\n");
	ok = replace_headers(f, l, FIELD_CONTENT_TYPE, buf_view(&b));
	buf_clear(&b);
	(void)buf_puts(&b, "Content-Disposition: attachment;\r\n"
	    "\tfilename=\"");
	put_name(&b, name);
	(void)buf_puts(&b, "\"\r\n");
	ok = ok && replace_headers(f, l, FIELD_CONTENT_DISPOSITION,
	    buf_view(&b));
	buf_free(&b);
	return ok;
}
