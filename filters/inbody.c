#include "filters/inbody.h"

#define NAME_MAX_BYTES	1024u
#define LOOK_LINES	3u	/* that tell uuencode from prose */
#define LIKELY		20u
#define BARE_LINE	24u	/* bytes of a line that may begin a file */

void
inbody_init(struct inbody *b, const struct inbody_ops *ops, void *arg)
{
	*b = (struct inbody){ .ops = ops, .arg = arg };
}

void
inbody_begin(struct inbody *b)
{
	b->kind = INBODY_NONE;
	b->n = 0;
	b->rest = false;
}

static void
begin_file(struct inbody *b, enum inbody_kind kind, struct view name)
{
	b->kind = kind;
	b->conditions = (struct condition_set){ 0 };
	b->size = b->said = 0;
	b->crc = 0xffffffffu;
	b->escaped = false;
	b->lines = b->likely = 0;
	if (kind == INBODY_YENC || kind == INBODY_BASE64)
		condition_add(&b->conditions, kind == INBODY_YENC ?
		    MIME_YENC : MIME_UUENCODE);
	base64_begin(&b->base64, BASE64_GOES_ON);
	qp_begin(&b->qp, false);
	b->ops->begin(b->arg, kind, view_head(view_trim(name),
	    NAME_MAX_BYTES));
}

static void
bad(struct inbody *b)
{
	if (b->kind == INBODY_YENC)
		condition_add(&b->conditions, MIME_YENC_BAD);
	else if (b->kind == INBODY_UUENCODE || b->kind == INBODY_BASE64)
		condition_add(&b->conditions, MIME_UUENCODE_BAD);
}

static void
end_file(struct inbody *b)
{
	char out[BASE64_ROOM(0)];
	size_t n;

	if (b->kind == INBODY_NONE)
		return;
	if (b->kind == INBODY_BASE64 || b->kind == INBODY_BARE_BASE64) {
		n = base64_end(&b->base64, out);
		if (n > 0)
			b->ops->bytes(b->arg, view_make(out, n));
		if (b->base64.conditions.bits != 0)
			bad(b);
	}
	b->kind = INBODY_NONE;
	b->ops->end(b->arg, b->conditions);
}

/* "begin 644 name", "begin-base64 644 name" */
static bool
is_begin(struct view line, enum inbody_kind *ret_kind, struct view *ret_name)
{
	size_t digits = 0;

	*ret_kind = INBODY_UUENCODE;
	if (!view_starts_nocase(line, "begin"))
		return false;
	line = view_from(line, 5);
	if (view_starts_nocase(line, "-base64")) {
		*ret_kind = INBODY_BASE64;
		line = view_from(line, 7);
	}
	if (line.n == 0 || !view_space(line.p[0]))
		return false;
	while (line.n > 0 && view_space(line.p[0]))
		line = view_from(line, 1);
	while (digits < line.n && line.p[digits] >= '0' &&
	    line.p[digits] <= '7')
		digits++;
	if (digits < 3 || digits > 8 || digits >= line.n ||
	    !view_space(line.p[digits]))
		return false;
	*ret_name = view_trim(view_from(line, digits));
	return ret_name->n > 0;
}

/* The number behind " key="; false: there is none. */
static bool
number(struct view line, const char *key, unsigned base, uint64_t *ret)
{
	size_t n = strlen(key), i;
	uint64_t v = 0;

	for (i = 0; i < line.n; i++)
		if (line.p[i] == ' ' &&
		    view_starts_nocase(view_from(line, i + 1), key) &&
		    i + 1 + n < line.n && line.p[i + 1 + n] == '=')
			break;
	if (i == line.n)
		return false;
	for (i += n + 2; i < line.n && v < (uint64_t)1 << 58; i++) {
		char c = (char)(line.p[i] | 0x20);

		if (line.p[i] >= '0' && line.p[i] <= '9')
			v = v * base + (unsigned)(line.p[i] - '0');
		else if (base == 16 && c >= 'a' && c <= 'f')
			v = v * base + (unsigned)(c - 'a' + 10);
		else
			break;
	}
	*ret = v;
	return true;
}

static bool
is_ybegin(struct view line, struct view *ret_name)
{
	uint64_t v;
	size_t i;

	if (!view_starts_nocase(line, "=ybegin "))
		return false;
	/* "=ybegin on Usenet" is a sentence. */
	if (!number(line, "line", 10, &v) && !number(line, "size", 10, &v) &&
	    !number(line, "part", 10, &v))
		return false;
	for (i = 7; i + 6 < line.n; i++)
		if (view_starts_nocase(view_from(line, i), " name="))
			break;
	*ret_name = i + 6 < line.n ? view_trim(view_from(line, i + 6)) :
	    view_make("", 0);
	return true;
}

/* -- uuencode -------------------------------------------------------------- */

static unsigned
value(struct view line, size_t i)
{
	/* What is missing were spaces once. */
	return i < line.n ? (unsigned)(line.p[i] - ' ') & 63 : 0;
}

/*
 * Is it no sentence?  The first character says how many there are.  Those
 * of a uuencoder are no small letters, though decoders take these, too: then
 * two lines have to fit.  Blanks at the end may have been lost.
 */
static bool
is_uuencoded(struct inbody *b, struct view line)
{
	size_t n = value(line, 0), need = (n + 2) / 3 * 4, have = line.n - 1;
	bool small = false;
	size_t i;

	for (i = 0; i < line.n; i++) {
		if (line.p[i] < ' ' || line.p[i] > '~')
			return false;
		small = small || line.p[i] > '`';
	}
	if (n == 0 || have > need + 2)
		return false;
	if (!small)
		return 2 * have >= need;
	b->likely += n >= LIKELY && have >= need;
	return b->likely > 1;
}

static void
uu_line(struct inbody *b, struct view line)
{
	char out[64];
	size_t n, i, o = 0;

	if (line.n == 3 && view_is_nocase(line, "end")) {
		end_file(b);
		return;
	}
	if (line.n == 0)
		return;
	if (b->lines++ < LOOK_LINES && is_uuencoded(b, line))
		condition_add(&b->conditions, MIME_UUENCODE);
	n = value(line, 0);
	for (i = 0; i < line.n; i++)
		if (line.p[i] < ' ' || line.p[i] > '`') {
			bad(b);
			break;
		}
	/* One character more is a checksum that some add. */
	if (line.n > 1 + (n + 2) / 3 * 4 + 2)
		bad(b);
	for (i = 1; o < n; i += 4) {
		unsigned v = value(line, i) << 18 | value(line, i + 1) << 12 |
		    value(line, i + 2) << 6 | value(line, i + 3);

		out[o++] = (char)(v >> 16);
		if (o < n)
			out[o++] = (char)(v >> 8);
		if (o < n)
			out[o++] = (char)v;
	}
	if (o > 0)
		b->ops->bytes(b->arg, view_make(out, o));
}

static void
base64_line(struct inbody *b, struct view line)
{
	char out[BASE64_ROOM(INBODY_LINE_MAX)];
	size_t n;

	if (line.n >= 4 && memcmp(line.p, "====", 4) == 0) {
		end_file(b);
		return;
	}
	n = base64_decode(&b->base64, line, out);
	if (n > 0)
		b->ops->bytes(b->arg, view_make(out, n));
}

/* -- yEnc ------------------------------------------------------------------ */

static uint32_t
crc32(uint32_t crc, const char *p, size_t n)
{
	static const uint32_t table[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
		0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
		0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
		0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};
	size_t i;

	for (i = 0; i < n; i++) {
		crc ^= (unsigned char)p[i];
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return crc;
}

static void
yenc_end(struct inbody *b, struct view line)
{
	uint64_t v;

	if (number(line, "size", 10, &v) && v != b->size)
		bad(b);
	if ((number(line, "pcrc32", 16, &v) ||
	    number(line, "crc32", 16, &v)) && (uint32_t)v != ~b->crc)
		bad(b);
	end_file(b);
}

static void
yenc_line(struct inbody *b, struct view line)
{
	char out[INBODY_LINE_MAX];
	size_t i, o = 0;

	if (view_starts_nocase(line, "=yend")) {
		yenc_end(b, line);
		return;
	}
	if (view_starts_nocase(line, "=ypart"))
		return;
	for (i = 0; i < line.n; i++) {
		unsigned char c = (unsigned char)line.p[i];

		if (!b->escaped && c == '=') {
			b->escaped = true;
			continue;
		}
		if (c != '\r' && c != '\n')
			out[o++] = (char)(b->escaped ? c - 64 - 42 : c - 42);
		b->escaped = false;
	}
	b->size += o;
	b->crc = crc32(b->crc, out, o);
	if (o > 0)
		b->ops->bytes(b->arg, view_make(out, o));
}

/* -- without a begin ------------------------------------------------------- */

/* How files begin in which there is something to find. */
static bool
is_magic(struct view v)
{
	static const char *const magic[] = { "PK\3\4", "Rar!", "7z\xbc\xaf",
		"\xd0\xcf\x11\xe0", "\x1f\x8b\x08", "MSCF", "ITSF",
		"\177ELF" };
	size_t i;

	if (v.n >= 4 && memcmp(v.p, "MZ", 2) == 0)
		return true;
	for (i = 0; i < sizeof magic / sizeof magic[0]; i++)
		if (v.n >= strlen(magic[i]) &&
		    memcmp(v.p, magic[i], strlen(magic[i])) == 0)
			return true;
	return false;
}

static bool
is_base64_line(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++) {
		char c = (char)(v.p[i] | 0x20);

		if (!(c >= 'a' && c <= 'z') && !(v.p[i] >= '0' &&
		    v.p[i] <= '9') && strchr("+/=", v.p[i]) == NULL)
			return false;
	}
	return v.n > 0;
}

static bool
is_printable(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if ((v.p[i] < ' ' || v.p[i] > '~') && v.p[i] != '\t')
			return false;
	return true;
}

static bool
is_bare(struct view line, enum inbody_kind *ret_kind)
{
	/* Of the magics, as they are, in base64, and encoded. */
	static const char begins[] = "TUN0HSf" "MPR7I=";
	char out[BASE64_ROOM(BARE_LINE)];
	struct base64 d;
	struct qp q;
	size_t n;

	while (line.n > 0 && view_space(line.p[0]))
		line = view_from(line, 1);
	/* Every line comes here: look at one byte of most. */
	if (line.n < BARE_LINE || memchr(begins, line.p[0],
	    sizeof begins - 1) == NULL)
		return false;
	line = view_trim(line);
	if (is_base64_line(line)) {
		*ret_kind = INBODY_BARE_BASE64;
		base64_begin(&d, BASE64_GOES_ON);
		n = base64_decode(&d, view_head(line, BARE_LINE), out);
		if (is_magic(view_make(out, n)))
			return true;
	}
	*ret_kind = INBODY_BARE_QP;
	line = view_head(line, 12);
	/* The file itself is not encoded, though it may have a '=', as a
	 * member of an archive from 07:40 has in its time. */
	if (memchr(line.p, '=', line.n) == NULL || !is_printable(line))
		return false;
	qp_begin(&q, false);
	n = qp_decode(&q, line, false, out);
	return is_magic(view_make(out, n));
}

static void
bare_line(struct inbody *b, struct view line)
{
	char out[INBODY_LINE_MAX + 8];
	size_t n;

	_Static_assert(BASE64_ROOM(INBODY_LINE_MAX) <= sizeof out, "room");
	if (b->kind == INBODY_BARE_BASE64) {
		line = view_trim(line);
		if (!is_base64_line(line)) {
			end_file(b);
			return;
		}
		n = base64_decode(&b->base64, line, out);
	} else
		n = qp_decode(&b->qp, line, true, out);
	if (n > 0)
		b->ops->bytes(b->arg, view_make(out, n));
}

/* -- lines ----------------------------------------------------------------- */

static void
take_line(struct inbody *b, struct view line)
{
	enum inbody_kind kind;
	struct view name;
	bool first = !b->rest;

	if (first && line.n > 6 && (line.p[0] | 0x20) == 'b' &&
	    is_begin(line, &kind, &name)) {
		if (b->kind != INBODY_NONE)
			bad(b);
		end_file(b);
		begin_file(b, kind, name);
		return;
	}
	if (first && line.n > 7 && line.p[0] == '=' &&
	    is_ybegin(line, &name)) {
		if (b->kind != INBODY_NONE)
			bad(b);
		end_file(b);
		begin_file(b, INBODY_YENC, name);
		return;
	}
	if (first && b->kind == INBODY_NONE && line.n >= BARE_LINE &&
	    is_bare(line, &kind))
		begin_file(b, kind, view_make("", 0));
	switch (b->kind) {
	case INBODY_NONE:
		break;
	case INBODY_BARE_BASE64:
	case INBODY_BARE_QP:
		bare_line(b, line);
		break;
	case INBODY_UUENCODE:
		uu_line(b, line);
		break;
	case INBODY_BASE64:
		base64_line(b, line);
		break;
	case INBODY_YENC:
		yenc_line(b, line);
		break;
	}
}

/* A line that is complete, or a piece of one too long. */
static void
end_line(struct inbody *b, struct view line, bool last)
{
	if (last && line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	take_line(b, line);
	b->rest = !last;
}

void
inbody_feed(struct inbody *b, struct view text)
{
	const char *nl;
	size_t n;

	while (text.n > 0) {
		nl = memchr(text.p, '\n', text.n);
		n = nl != NULL ? (size_t)(nl - text.p) : text.n;
		if (b->n == 0 && nl != NULL && n <= INBODY_LINE_MAX) {
			end_line(b, view_head(text, n), true);
			text = view_from(text, n + 1);
			continue;
		}
		if (n > INBODY_LINE_MAX - b->n)
			n = INBODY_LINE_MAX - b->n;
		memcpy(b->line + b->n, text.p, n);
		b->n += n;
		text = view_from(text, n);
		if (text.n > 0 && text.p[0] == '\n') {
			end_line(b, view_make(b->line, b->n), true);
			b->n = 0;
			text = view_from(text, 1);
		} else if (b->n == INBODY_LINE_MAX) {
			/* Its last byte may belong to a line end. */
			end_line(b, view_make(b->line, b->n - 1), false);
			b->line[0] = b->line[b->n - 1];
			b->n = 1;
		}
	}
}

void
inbody_end(struct inbody *b)
{
	if (b->n > 0)
		end_line(b, view_make(b->line, b->n), true);
	b->n = 0;
	if (b->kind != INBODY_NONE)
		bad(b);
	end_file(b);
}
