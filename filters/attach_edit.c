#include "filters/attach_edit.h"

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

	if (v.n == 0 || v.p[0] == '\r' || v.p[0] == '\n')
		return 0;
	do {
		end = view_find(view_from(v, n), '\n');
		n += end + 1;
	} while (n < v.n && (v.p[n] == ' ' || v.p[n] == '\t'));
	return n < v.n ? n : v.n;
}

static bool
is_field(struct view h, const char *name)
{
	size_t n = strlen(name);

	if (!view_starts_nocase(h, name))
		return false;
	while (n < h.n && (h.p[n] == ' ' || h.p[n] == '\t'))
		n++;
	return n < h.n && h.p[n] == ':';
}

/*
 * Put text for the first header whose name begins so, and take the others
 * away.
 */
static bool
replace_headers(struct findings *f, const struct leaf *l, const char *name,
    bool prefix, struct view text)
{
	uint64_t at = l->header_offset;
	struct view h;
	size_t n;

	while (at < l->body_offset && at < f->text.n && (n = header_size(
	    view_from(f->text, (size_t)at))) > 0) {
		h = view_head(view_from(f->text, (size_t)at), n);
		if (prefix ? view_starts_nocase(h, name) : is_field(h, name)) {
			if (!findings_replace_earlier(f, at, n, text))
				return false;
			text = view_make("", 0);
		}
		at += n;
	}
	return true;
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
		ok = replace_headers(f, l, "Content-", true, view_of(
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
	ok = replace_headers(f, l, "Content-Type", false, buf_view(&b));
	buf_clear(&b);
	(void)buf_puts(&b, "Content-Disposition: attachment;\r\n"
	    "\tfilename=\"");
	put_name(&b, name);
	(void)buf_puts(&b, "\"\r\n");
	ok = ok && replace_headers(f, l, "Content-Disposition", false,
	    buf_view(&b));
	buf_free(&b);
	return ok;
}
