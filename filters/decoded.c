#include "filters/decoded.h"
#include "lib/log.h"

#define CHUNK	(32u << 10)	/* converted at once */

static struct decoded *
decoded_of(struct leaf_sink *s)
{
	return (struct decoded *)(void *)s;
}

static bool
over(const struct decoded *d)
{
	return findings_final(d->findings) || d->findings->passed;
}

static void
ask(struct decoded *d, struct view line)
{
	struct view head;

	while (line.n > 0 && !over(d)) {
		head = view_head(line, d->line_max);
		/* Not in the middle of a character. */
		while (head.n < line.n && head.n > 1 &&
		    ((unsigned char)line.p[head.n] & 0xc0) == 0x80)
			head.n--;
		line = view_from(line, head.n);
		checks_decoded(d->checks, head);
	}
}

static void
html_line_shown(struct view line, void *arg)
{
	ask(arg, line);
}

/* A line, or a piece of one too long, in UTF-8 or what should be. */
static void
take_line(struct decoded *d, struct view v)
{
	if (v.n > 0 && v.p[v.n - 1] == '\r')
		v.n--;
	buf_clear(&d->mended);
	charsets_mend(d->charsets, v, &d->mended);
	v = buf_view(&d->mended);
	ask(d, v);
	if (d->is_html && !over(d)) {
		html_feed(&d->html, v);
		html_feed(&d->html, view_make("\n", 1));
	}
}

static void
take_utf8(struct decoded *d, struct view v)
{
	size_t n;

	while (v.n > 0 && !over(d)) {
		n = view_find(v, '\n');
		if (n < v.n && d->utf8.n == 0) {
			take_line(d, view_head(v, n));
			v = view_from(v, n + 1);
			continue;
		}
		if (n > CHUNK - d->utf8.n)
			n = CHUNK - d->utf8.n;
		ensure(buf_put(&d->utf8, v.p, n));
		v = view_from(v, n);
		if (v.n > 0 && (v.p[0] == '\n' || d->utf8.n == CHUNK)) {
			take_line(d, buf_view(&d->utf8));
			buf_clear(&d->utf8);
			if (v.p[0] == '\n')
				v = view_from(v, 1);
		}
	}
}

/*
 * Convert what has come.  Some charsets switch between alphabets, and all of
 * these begin a line with ASCII; so whole lines are converted, but of those
 * whose characters have more than a byte each.
 */
static void
convert(struct decoded *d, bool final)
{
	struct view v = buf_view(&d->raw);
	bool wide = d->charset != NULL &&
	    (strncmp(d->charset, "utf-16", 6) == 0 ||
	    strncmp(d->charset, "utf-32", 6) == 0), known;
	size_t n = v.n, taken;
	struct buf out;

	if (!final && !wide) {
		while (n > 0 && v.p[n - 1] != '\n')
			n--;
		if (n == 0 && v.n < CHUNK)
			return;
		n = n > 0 ? n : v.n;
	}
	if (d->charset == NULL) {
		take_utf8(d, view_head(v, n));
		buf_consume(&d->raw, n);
		return;
	}
	buf_init(&out, 8 * (size_t)CHUNK);
	taken = charsets_convert(d->charsets, view_of(d->charset),
	    view_head(v, n), final || !wide, &out, &known);
	take_utf8(d, buf_view(&out));
	buf_free(&out);
	buf_consume(&d->raw, taken);
}

/* The mark in front says in which order the bytes are. */
static void
take_mark(struct decoded *d, struct view *v)
{
	if (d->seen > 0 || v->n < 2 || (d->charset != NULL &&
	    strncmp(d->charset, "utf-16", 6) != 0))
		return;
	if (memcmp(v->p, "\xff\xfe", 2) == 0)
		d->charset = "utf-16le";
	else if (memcmp(v->p, "\xfe\xff", 2) == 0)
		d->charset = "utf-16be";
	else
		return;
	*v = view_from(*v, 2);
}

static bool
decoded_on_begin(struct leaf_sink *s, const struct leaf *f)
{
	struct decoded *d = decoded_of(s);

	if (f->slot > 0 || over(d))
		return false;
	if (!view_is_nocase(f->type, "text") &&
	    !view_is_nocase(f->subtype, "xhtml+xml"))
		return false;
	d->is_html = view_is_nocase(f->subtype, "html") ||
	    view_is_nocase(f->subtype, "xhtml+xml");
	d->charset = charsets_name(d->charsets, f->charset);
	/* What is said to be ASCII is often not. */
	if (d->charset != NULL && (strcmp(d->charset, "us-ascii") == 0 ||
	    strcmp(d->charset, "utf-8") == 0))
		d->charset = NULL;
	d->seen = 0;
	buf_clear(&d->raw);
	buf_clear(&d->utf8);
	html_begin(&d->html, html_line_shown, d);
	return true;
}

static void
stop_if_final(struct decoded *d)
{
	if (!findings_final(d->findings))
		return;
	mime_stop(d->walk);
	leaves_stop(d->leaves);
}

static void
decoded_on_bytes(struct leaf_sink *s, const struct leaf *f, struct view v)
{
	struct decoded *d = decoded_of(s);
	struct view head;

	if (f->slot > 0)
		return;
	take_mark(d, &v);
	while (v.n > 0 && !over(d)) {
		if (d->limit > 0 && d->seen >= d->limit) {
			s->wants[0] = false;
			break;
		}
		head = view_head(v, 2 * CHUNK - d->raw.n);
		if (d->limit > 0 && head.n > d->limit - d->seen)
			head.n = (size_t)(d->limit - d->seen);
		v = view_from(v, head.n);
		d->seen += head.n;
		ensure(buf_putv(&d->raw, head));
		convert(d, false);
	}
	stop_if_final(d);
}

static void
decoded_on_end(struct leaf_sink *s, const struct leaf *f)
{
	struct decoded *d = decoded_of(s);

	if (f->slot > 0)
		return;
	if (d->raw.n > 0 && !over(d))
		convert(d, true);
	if (d->utf8.n > 0 && !over(d))
		take_line(d, buf_view(&d->utf8));
	if (d->is_html && !over(d))
		html_end(&d->html);
	buf_clear(&d->raw);
	buf_clear(&d->utf8);
	d->is_html = false;
	stop_if_final(d);
}

static const struct leaf_ops decoded_ops = { .name = "decoded",
	.begin = decoded_on_begin, .bytes = decoded_on_bytes,
	.end = decoded_on_end };

void
decoded_init(struct decoded *d, const struct conf *cf, struct checks *c,
    const struct charsets *cs, struct mime *walk, struct leaves *leaves,
    struct findings *findings)
{
	*d = (struct decoded){ .sink.ops = &decoded_ops, .checks = c,
		.charsets = cs, .walk = walk, .leaves = leaves,
		.findings = findings,
		.limit = (uint64_t)cf->body_checks_size_limit,
		.line_max = (size_t)cf->line_length_limit };
	buf_init(&d->raw, 2 * (size_t)CHUNK);
	buf_init(&d->utf8, CHUNK);
	/* A byte of windows-1252 is three of UTF-8 at most. */
	buf_init(&d->mended, 8 * (size_t)CHUNK);
}

void
decoded_free(struct decoded *d)
{
	buf_free(&d->raw);
	buf_free(&d->utf8);
	buf_free(&d->mended);
}
