#include "filters/part_name.h"
#include "lib/log.h"
#include "rules/field.h"

#define SECTIONS_MAX	64u
#define PARAMS_BYTES_MAX	(1u << 20)

void
names_init(struct part_names *n, const struct charsets *cs)
{
	*n = (struct part_names){ .charsets = cs };
	buf_init(&n->bytes, PART_NAMES_BYTES_MAX);
	buf_init(&n->scratch, 2 * PARAMS_BYTES_MAX + 1);
	buf_init(&n->decoded, PART_NAMES_BYTES_MAX);
	buf_init(&n->joined, PART_NAMES_BYTES_MAX);
}

void
names_free(struct part_names *n)
{
	buf_free(&n->bytes);
	buf_free(&n->scratch);
	buf_free(&n->decoded);
	buf_free(&n->joined);
}

void
names_clear(struct part_names *n)
{
	n->n = 0;
	n->overflow = n->control = n->bidi = false;
	n->unknown_charset = n->twice = false;
	buf_clear(&n->bytes);
}

/* Look for what a name should not have. */
static void
inspect(struct part_names *n, struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++) {
		unsigned char c = (unsigned char)v.p[i];

		/* ISO 2022 shifts with these; decoded, they are gone. */
		if ((c < ' ' && c != '\t' && c != 27 && c != 14 && c != 15) ||
		    c == 127)
			n->control = true;
		if (c == 0xe2 && i + 2 < v.n) {
			unsigned char d = (unsigned char)v.p[i + 1],
			    e = (unsigned char)v.p[i + 2];

			if ((d == 0x80 && e >= 0xaa && e <= 0xae) ||
			    (d == 0x81 && e >= 0xa6 && e <= 0xa9))
				n->bidi = true;
		}
	}
}

/* Keep one form of a name; the list's views move with the buffer. */
static void
keep(struct part_names *n, struct view v, uint32_t source)
{
	size_t i;

	if (v.n == 0)
		return;
	if (v.n > PART_NAME_LENGTH_MAX) {
		v = view_from(v, v.n - PART_NAME_LENGTH_MAX);
		n->overflow = true;
	}
	for (i = 0; i < n->n; i++)
		if (view_eq(n->list[i].text, v)) {
			n->list[i].source |= source & 0xff;
			return;
		}
	if (n->n == PART_NAMES_MAX ||
	    n->bytes.n + v.n > PART_NAMES_BYTES_MAX) {
		n->overflow = true;
		return;
	}
	n->at[n->n] = n->bytes.n;
	ensure(buf_putv(&n->bytes, v));
	n->list[n->n++] = (struct part_name){ { NULL, v.n }, source };
	for (i = 0; i < n->n; i++)
		n->list[i].text.p = n->bytes.p + n->at[i];
}

static void
keep_forms(struct part_names *n, struct view v, uint32_t source)
{
	struct view t;

	inspect(n, v);
	keep(n, v, source);
	t = view_head(v, view_find(v, '\0'));
	if (t.n < v.n)
		keep(n, t, source | NAME_CUT);
	/* Windows drops them. */
	while (t.n > 0 && (view_space(t.p[t.n - 1]) || t.p[t.n - 1] == '.' ||
	    t.p[t.n - 1] == '\0'))
		t.n--;
	if (t.n < v.n)
		keep(n, t, source | NAME_TRIMMED);
}

void
names_add(struct part_names *n, struct view raw, const char *charset,
    uint32_t source)
{
	if (raw.n > PART_NAME_LENGTH_MAX) {
		raw = view_from(raw, raw.n - PART_NAME_LENGTH_MAX);
		n->overflow = true;
	}
	buf_clear(&n->decoded);
	if (!charsets_utf8(n->charsets, view_of(charset), raw, &n->decoded))
		n->unknown_charset = true;
	keep_forms(n, buf_view(&n->decoded), source);
}

/* -- parameters ------------------------------------------------------------ */

struct section {
	struct view text;
	bool encoded;
	unsigned number;
};

struct reading {
	struct part_names *names;
	const char *word;
	uint32_t source;
	struct view plain;	/* the first value */
	struct section list[SECTIONS_MAX];
	size_t n;
};

static void
plain_value(struct reading *r, const struct field_value *v)
{
	struct part_names *n = r->names;

	if (r->plain.p != NULL && !view_eq(r->plain, v->text))
		n->twice = true;
	r->plain = v->text;
	names_add(n, v->text, "utf-8", r->source);
	if (v->token_n < v->text.n)
		names_add(n, view_head(v->text, v->token_n), "utf-8",
		    r->source | NAME_TOKEN);
	buf_clear(&n->decoded);
	if (charsets_words(n->charsets, v->text, &n->decoded))
		keep_forms(n, buf_view(&n->decoded),
		    r->source | NAME_RFC2047);
}

/* "*", "*0", "*0*", "*00"; what is none of them is no section. */
static bool
section_of(struct view suffix, struct section *ret)
{
	unsigned number = 0;
	size_t digits;

	if (suffix.n == 0 || suffix.p[0] != '*')
		return false;
	suffix = view_from(suffix, 1);
	for (digits = 0; digits < suffix.n && suffix.p[digits] >= '0' &&
	    suffix.p[digits] <= '9'; digits++)
		if (number < 100000)
			number = number * 10 +
			    (unsigned)(suffix.p[digits] - '0');
	suffix = view_from(suffix, digits);
	ret->number = number;
	ret->encoded = digits == 0 || suffix.n > 0;
	return suffix.n == 0 || (suffix.n == 1 && suffix.p[0] == '*');
}

static void
take_param(struct view word, const struct field_value *v, void *arg)
{
	struct reading *r = arg;
	struct section s;

	if (!view_starts_nocase(word, r->word))
		return;
	word = view_from(word, strlen(r->word));
	if (word.n == 0) {
		plain_value(r, v);
		return;
	}
	if (!section_of(word, &s))
		return;
	if (r->n == SECTIONS_MAX) {
		r->names->overflow = true;
		return;
	}
	s.text = v->text;
	r->list[r->n++] = s;
}

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void
put_decoded(struct buf *b, struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++) {
		char c = v.p[i];

		if (c == '%' && i + 2 < v.n && hex(v.p[i + 1]) >= 0 &&
		    hex(v.p[i + 2]) >= 0) {
			c = (char)(hex(v.p[i + 1]) * 16 + hex(v.p[i + 2]));
			i += 2;
		}
		(void)buf_putc(b, c);
	}
}

/* charset'language'text: takes the first two off. */
static struct view
take_charset(struct view *text)
{
	struct view charset = view_make("", 0);
	size_t a = view_find(*text, '\''), b;

	if (a == text->n)
		return charset;
	b = view_find(view_from(*text, a + 1), '\'');
	if (a + 1 + b >= text->n)
		return charset;
	charset = view_head(*text, a);
	*text = view_from(*text, a + b + 2);
	return charset;
}

enum decoding { DECODE_AS_WRITTEN, DECODE_ALL, DECODE_NONE };

static void
join(struct reading *r, enum decoding how)
{
	struct part_names *n = r->names;
	struct view charset = view_make("utf-8", 5), text, name;
	size_t i;

	buf_clear(&n->joined);
	for (i = 0; i < r->n; i++) {
		text = r->list[i].text;
		if (i == 0 && how != DECODE_NONE &&
		    (r->list[i].encoded || how == DECODE_ALL)) {
			name = take_charset(&text);
			if (name.n > 0)
				charset = name;
		}
		if (how == DECODE_ALL ||
		    (how == DECODE_AS_WRITTEN && r->list[i].encoded))
			put_decoded(&n->joined, text);
		else
			(void)buf_putv(&n->joined, text);
	}
	buf_clear(&n->decoded);
	if (!charsets_utf8(n->charsets, charset, buf_view(&n->joined),
	    &n->decoded))
		n->unknown_charset = true;
	keep_forms(n, buf_view(&n->decoded), r->source | NAME_RFC2231);
	/* A receiver could decode words in the joined value too. */
	buf_clear(&n->decoded);
	if (charsets_words(n->charsets, buf_view(&n->joined), &n->decoded))
		keep_forms(n, buf_view(&n->decoded),
		    r->source | NAME_RFC2231 | NAME_RFC2047);
}

static void
sort_sections(struct reading *r)
{
	struct section s;
	size_t i, k;

	for (i = 1; i < r->n; i++) {
		s = r->list[i];
		for (k = i; k > 0 && r->list[k - 1].number > s.number; k--)
			r->list[k] = r->list[k - 1];
		r->list[k] = s;
	}
}

/* Of sections with one number only the first, or only the last, counts; and
 * nothing behind a gap. */
static void
join_unique(struct reading *r, bool last, bool gaps)
{
	struct reading u = *r;
	size_t i;

	u.n = 0;
	for (i = 0; i < r->n; i++) {
		if (u.n > 0 && u.list[u.n - 1].number == r->list[i].number) {
			if (last)
				u.list[u.n - 1] = r->list[i];
			continue;
		}
		if (!gaps && r->list[i].number != u.n)
			break;
		u.list[u.n++] = r->list[i];
	}
	if (u.n < r->n && u.n > 0) {
		r->names->twice = true;
		join(&u, DECODE_AS_WRITTEN);
	}
}

void
names_of_field(struct part_names *n, struct view params, const char *word,
    uint32_t source)
{
	struct reading r = { .names = n, .word = word, .source = source };
	size_t i;

	if (params.n > PARAMS_BYTES_MAX) {
		params.n = PARAMS_BYTES_MAX;
		n->overflow = true;
	}
	if (!field_params(params, &n->scratch, take_param, &r))
		n->overflow = true;
	if (r.n == 0)
		return;
	join(&r, DECODE_AS_WRITTEN);	/* in order of appearance */
	sort_sections(&r);
	join(&r, DECODE_AS_WRITTEN);
	join(&r, DECODE_ALL);
	join(&r, DECODE_NONE);
	join_unique(&r, false, false);
	join_unique(&r, false, true);
	join_unique(&r, true, true);
	if (r.n == 1)
		return;
	/* A program that knows no sections may take any of them. */
	for (i = 0; i < r.n && i < 8; i++) {
		struct reading one = r;

		one.n = 1;
		one.source |= NAME_TOKEN;
		one.list[0] = r.list[i];
		join(&one, DECODE_AS_WRITTEN);
	}
}

static struct view
extension(struct view v)
{
	size_t i;

	for (i = v.n; i > 0; i--)
		if (v.p[i - 1] == '.')
			return view_from(v, i);
	return view_make("", 0);
}

bool
names_differ(const struct part_names *n)
{
	/* Forms that are cut or not decoded differ anyhow. */
	const uint32_t not = NAME_TOKEN | NAME_CUT | NAME_TRIMMED;
	struct view first = { NULL, 0 }, e;
	size_t i;

	for (i = 0; i < n->n; i++) {
		struct view v = n->list[i].text;

		if ((n->list[i].source & not) != 0 ||
		    (v.n > 2 && v.p[0] == '=' && v.p[1] == '?'))
			continue;
		e = extension(v);
		if (e.n == 0 || e.n > 8)
			continue;
		if (first.p != NULL && !view_eq_nocase(e, first))
			return true;
		first = e;
	}
	return false;
}
