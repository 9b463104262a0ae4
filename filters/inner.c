#include <stdlib.h>

#include "filters/attach_name.h"
#include "filters/cms.h"
#include "filters/inner.h"
#include "lib/header.h"
#include "lib/log.h"
#include "lib/mem.h"

#define KEEP_MAX	(1u << 20)	/* memory kept between messages */

/* One file that was collected. */
struct file {
	size_t at, n;		/* in text */
	size_t head;		/* bytes in front that are not of the part */
	enum mime_block block;	/* what it begins with */
	bool cms;		/* it is signed: what is in there counts */
	bool guess;		/* headers in a body: only files in it count */
};

/* For all depths. */
struct share {
	struct mime_options options;
	const struct charsets *charsets;
	struct mime *walk;
	struct leaves *leaves;
	struct stage *rules;
	struct leaf_sink *sinks[LEAF_SINKS_MAX];
	size_t n_sinks;
	uint64_t left;		/* bytes that may still be walked */
};

struct inner {
	struct leaf_sink sink;	/* first */
	struct share *share;
	unsigned depth;		/* 1: of the text as received */
	struct leaves *from;	/* whose sink this is */
	/* What it is walked with, made when there is a first file. */
	struct mime *walk;
	struct leaves *leaves;
	struct inner *deeper;

	struct buf text;
	struct file list[INNER_FILES];
	size_t n;
	bool open;		/* the last file is being collected */
	bool peek;		/* ... if its begin looks like a message */
	bool full;
	uint32_t slot;		/* of its leaf */
};

static struct inner *
inner_of(struct leaf_sink *s)
{
	return (struct inner *)(void *)s;
}

/* -- what is walked -------------------------------------------------------- */

/* As the system sees them that opens the file: "a.eml. " is one, too. */
static bool
has_extension(const struct leaf *f, const char *const *list, size_t count)
{
	struct buf name, ext;
	bool found = false;
	size_t i, k;

	if (f->names == NULL || f->names->n == 0)
		return false;
	buf_init(&name, 4 * ATTACH_NAME_MAX);
	buf_init(&ext, 4 * ATTACH_NAME_MAX);
	for (i = 0; !found && i < f->names->n; i++) {
		(void)attach_name(f->names->list[i].text, &name, &ext);
		for (k = 0; !found && k < count; k++)
			found = view_is(attach_last(buf_view(&ext)), list[k]);
	}
	buf_free(&name);
	buf_free(&ext);
	return found;
}

static bool
is_message_file(const struct leaf *f)
{
	static const char *const list[] = { "eml", "mht", "mhtml", "nws" };

	return f->holds_message ||
	    has_extension(f, list, sizeof list / sizeof list[0]);
}

static bool
is_cms(const struct leaf *f)
{
	static const char *const list[] = { "p7m" };

	return view_is_nocase(f->subtype, "pkcs7-mime") ||
	    view_is_nocase(f->subtype, "x-pkcs7-mime") ||
	    has_extension(f, list, 1);
}

/* "MIME-Version:" in front: Word opens such a file whatever its name is. */
static bool
looks_like_mime(struct view v)
{
	while (v.n > 0 && view_space(v.p[0]))
		v = view_from(v, 1);
	return view_starts_nocase(v, "mime-version:");
}

/*
 * Fields of MIME in a body: some programs see a part there, as where a blank
 * line stands too early, or something in front of a boundary.  Where the first
 * stands; v.n: there is none.
 */
static size_t
find_fields(struct view v)
{
	struct view name, rest;
	size_t at, n;

	for (at = 0; at < v.n; at += n + 1) {
		n = view_find(view_from(v, at), '\n');
		rest = view_from(v, at);
		if (n > 14 && (rest.p[0] | 0x20) == 'c' &&
		    view_starts_nocase(rest, "content-") &&
		    header_split(view_head(rest, n), &name, &rest) &&
		    field_is_mime(field_find(name)))
			return at;
	}
	return v.n;
}

/* The fields that say how the parts are kept apart; not the encoding, which
 * is gone. */
static bool
put_type(struct inner *in, struct view header)
{
	bool type = false, ok = true;
	struct view line, name, rest;
	size_t n;

	while (header.n > 0) {
		n = view_find(header, '\n');
		line = view_head(header, n + 1);
		header = view_from(header, n + 1);
		if (line.n > 0 && line.p[0] != ' ' && line.p[0] != '\t')
			type = header_split(line, &name, &rest) &&
			    field_find(name) == FIELD_CONTENT_TYPE;
		if (type)
			ok = ok && buf_putv(&in->text, line);
	}
	return ok && buf_puts(&in->text, "\r\n");
}

static bool
inner_on_begin(struct leaf_sink *s, const struct leaf *f)
{
	struct inner *in = inner_of(s);
	bool cms = is_cms(f), named = cms || is_message_file(f);
	struct file *to;

	if (f->slot == 0)
		in->n = 0;
	if (in->open || mime_stopped(in->share->walk))
		return false;
	if (in->depth > INNER_DEPTH || in->n == INNER_FILES) {
		if (named || f->holds_parts)
			leaves_tell(in->from, MIME_NOT_OPENED, f);
		return false;
	}
	if (in->n == 0)
		buf_clear(&in->text);
	to = &in->list[in->n++];
	*to = (struct file){ .at = in->text.n, .block = MIME_BLOCK_NESTED,
		.cms = cms && !f->holds_message && !f->holds_parts };
	in->open = true;
	in->slot = f->slot;
	in->peek = !named && !f->holds_parts;
	in->full = false;
	if (f->holds_parts) {
		to->block = MIME_BLOCK_PART;
		in->full = !put_type(in, f->header);
		to->head = in->text.n - to->at;
	}
	return true;
}

static void
inner_on_bytes(struct leaf_sink *s, const struct leaf *f, struct view v)
{
	struct inner *in = inner_of(s);
	size_t at;

	if (!in->open || f->slot != in->slot)
		return;
	/* The first bytes come as a chunk, unless there are no more. */
	if (in->peek && f->size == v.n) {
		if (f->names->n > 0 && looks_like_mime(v)) {
			while (view_space(v.p[0]))
				v = view_from(v, 1);
		} else if ((at = find_fields(v)) < v.n) {
			in->list[in->n - 1].block = MIME_BLOCK_PART;
			in->list[in->n - 1].guess = true;
			v = view_from(v, at);
		} else {
			in->open = s->wants[f->slot] = false;
			in->n--;
			return;
		}
	}
	if (!in->full && !buf_putv(&in->text, v))
		in->full = true;
}

/* -- the walk -------------------------------------------------------------- */

static struct inner *
inner_make(struct share *share, struct leaves *from, unsigned depth);

static void
make_walk(struct inner *in)
{
	struct share *s = in->share;

	if (in->walk != NULL)
		return;
	in->walk = mime_new(&s->options);
	mime_join(in->walk, s->walk);
	in->leaves = leaves_new(s->charsets);
	leaves_join(in->leaves, s->leaves);
	in->deeper = inner_make(s, in->leaves, in->depth + 1);
}

/*
 * Quoted-printable leaves most text as it is, and careless programs say so of
 * messages that have been walked already as they stand.  Is there a line that
 * counts for the structure, and the raw text has not?
 */
static bool
shows_more(struct view decoded, struct view raw)
{
	struct view a, b;
	size_t n;

	while (decoded.n > 0) {
		n = view_find(decoded, '\n');
		a = view_trim(view_head(decoded, n));
		decoded = view_from(decoded, n + 1);
		if (!view_starts_nocase(a, "--") &&
		    !view_starts_nocase(a, "content-"))
			continue;
		for (;;) {
			if (raw.n == 0)
				return true;
			n = view_find(raw, '\n');
			b = view_trim(view_head(raw, n));
			raw = view_from(raw, n + 1);
			if (view_eq(a, b))
				break;
		}
	}
	return false;
}

static void
walk_file(struct inner *in, const struct file *file, const struct leaf *f)
{
	struct share *s = in->share;
	struct view text = buf_part(&in->text, file->at, file->n);
	struct stage *stages[2];
	struct leaf_sink *sinks[LEAF_SINKS_MAX];
	size_t n = 0, i, k;

	if (text.n > s->left) {
		if (!file->guess)
			leaves_tell(in->from, MIME_NOT_OPENED, f);
		return;
	}
	s->left -= text.n;
	make_walk(in);
	for (i = k = 0; i < s->n_sinks; i++)
		if (!file->guess || !s->sinks[i]->only_conditions)
			sinks[k++] = s->sinks[i];
	sinks[k++] = &in->deeper->sink;
	leaves_begin_inside(in->leaves, text, sinks, k, f);
	if (s->rules != NULL && !file->guess)
		stages[n++] = s->rules;
	stages[n++] = leaves_stage(in->leaves);
	mime_begin_inside(in->walk, file->block, stages, n);
	mime_feed(in->walk, text);
	mime_end(in->walk);
	if (mime_stopped(s->walk))
		leaves_stop(s->leaves);
}

static bool
begins_with_field(struct view v)
{
	struct view name, rest;

	return header_split(view_head(v, view_find(v, '\n')), &name, &rest);
}

/* What is signed is no message but a file, "a.pdf" in "a.pdf.p7m". */
static bool
put_file_head(struct inner *in, const struct leaf *f)
{
	struct view name = f->names->n > 0 ? f->names->list[0].text :
	    view_make("", 0);
	bool ok = buf_puts(&in->text, "Content-Type: application/"
	    "octet-stream; name=\"");
	size_t i;

	if (view_ends_nocase(name, view_of(".p7m")))
		name.n -= 4;
	for (i = 0; i < name.n; i++)
		ok = ok && buf_putc(&in->text, (unsigned char)name.p[i] < ' ' ||
		    name.p[i] == '"' || name.p[i] == '\\' ? '_' : name.p[i]);
	return ok && buf_puts(&in->text, "\"\r\nContent-Transfer-Encoding: "
	    "binary\r\n\r\n");
}

/* Put what is signed in the place of the file.  Returns false if nothing is,
 * or what is left is none. */
static bool
open_cms(struct inner *in, struct file *file, const struct leaf *f)
{
	struct buf content;
	bool found;

	buf_init(&content, INNER_BYTES_MAX);
	found = cms_content(buf_part(&in->text, file->at, file->n), &content);
	in->text.n = file->at;
	if (found && !begins_with_field(buf_view(&content))) {
		file->block = MIME_BLOCK_PART;
		file->guess = true;
		found = put_file_head(in, f);
	}
	if (found)
		found = buf_putv(&in->text, buf_view(&content));
	file->n = in->text.n - file->at;
	buf_free(&content);
	return found;
}

/*
 * When the part's own leaf is over, so that all slots are free: what was in
 * there is walked.
 */
static void
inner_on_end(struct leaf_sink *s, const struct leaf *f)
{
	struct inner *in = inner_of(s);
	struct file *file;
	size_t i;

	if (in->open && f->slot == in->slot) {
		file = &in->list[in->n - 1];
		file->n = in->text.n - file->at;
		in->open = false;
		if (in->full && !file->guess)
			leaves_tell(in->from, MIME_NOT_OPENED, f);
		if (in->peek && f->size == 0)
			in->n--;
		else if (file->cms && !open_cms(in, file, f))
			in->n--;
		else if (f->slot == 0 && f->encoding == ENCODING_QP &&
		    (f->holds_message || f->holds_parts) &&
		    !shows_more(buf_part(&in->text, file->at + file->head,
		    file->n - file->head), leaves_raw(in->from)))
			in->n--;
	}
	if (f->slot > 0)
		return;
	for (i = 0; i < in->n && !mime_stopped(in->share->walk); i++)
		walk_file(in, &in->list[i], f);
	in->n = 0;
	if (in->text.cap > KEEP_MAX)
		buf_free(&in->text);
}

static const struct leaf_ops inner_ops = { .name = "inner",
	.begin = inner_on_begin, .bytes = inner_on_bytes,
	.end = inner_on_end };

/* -- making ---------------------------------------------------------------- */

static struct inner *
inner_make(struct share *share, struct leaves *from, unsigned depth)
{
	struct inner *in = mem_alloc(sizeof *in);

	in->sink.ops = &inner_ops;
	in->share = share;
	in->from = from;
	in->depth = depth;
	buf_init(&in->text, INNER_BYTES_MAX);
	return in;
}

struct inner *
inner_new(const struct mime_options *o, const struct charsets *cs,
    struct mime *walk, struct leaves *leaves)
{
	struct share *s = mem_alloc(sizeof *s);

	s->options = *o;
	s->charsets = cs;
	s->walk = walk;
	s->leaves = leaves;
	return inner_make(s, leaves, 1);
}

void
inner_free(struct inner **in)
{
	struct inner *i = *in, *deeper;

	if (i == NULL)
		return;
	free(i->share);
	for (; i != NULL; i = deeper) {
		deeper = i->deeper;
		leaves_free(&i->leaves);
		mime_free(&i->walk);
		buf_free(&i->text);
		free(i);
	}
	*in = NULL;
}

struct leaf_sink *
inner_sink(struct inner *in)
{
	return &in->sink;
}

void
inner_begin(struct inner *in, uint64_t size, struct stage *rules,
    struct leaf_sink *const *sinks, size_t n)
{
	struct share *s = in->share;

	ensure(n < LEAF_SINKS_MAX);
	s->rules = rules;
	s->n_sinks = n;
	if (n > 0)
		memcpy(s->sinks, sinks, n * sizeof *sinks);
	s->left = size * INNER_TIMES + (1u << 20);
	for (; in != NULL; in = in->deeper) {
		in->n = 0;
		in->open = false;
	}
}
