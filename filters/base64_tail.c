#include "filters/base64_tail.h"

/*
 * Of 25,000 pieces of English and other text, as long as a footer may be or
 * shorter, one in a thousand gives 16 bytes of text or more in a row.
 */
#define TEXT_MAX	16u
/* "subscribers/announcements/unsubscribe" is 37. */
#define WORD_MAX	40u

static void
word_end(struct base64_tail *t)
{
	if (!t->word_other && t->word > 0 &&
	    (t->word_pad || t->word > WORD_MAX))
		t->data = true;
	t->word = 0;
	t->word_other = t->word_pad = false;
}

/* UTF-16 has NULs. */
static bool
is_text(uint32_t byte)
{
	return (byte >= 0x20 && byte < 0x7f) || byte == '\t' ||
	    byte == '\r' || byte == '\n' || byte == 0;
}

static void
character(struct base64_tail *t, uint32_t value)
{
	uint32_t i, n, two = t->last << 6 | value;

	for (i = 0; i < BASE64_GROUPINGS; i++) {
		n = t->group[i];
		t->group[i] = (n + 1) & 3;
		if (n == 0 || !t->any)
			continue;
		if (!is_text(two >> (6 - 2 * n) & 0xff))
			t->text[i] = 0;
		else if (++t->text[i] >= TEXT_MAX)
			t->data = true;
	}
	t->last = value;
	t->any = true;
	t->word++;
}

void
base64_tail_begin(struct base64_tail *t)
{
	*t = (struct base64_tail){ .group = { 0, 1, 2, 3, 0 } };
}

void
base64_tail_byte(struct base64_tail *t, unsigned kind)
{
	if (t->data)
		return;
	t->size++;
	if (kind < BASE64_SPACE) {
		if (!t->line || t->size > BASE64_FOOTER_MAX) {
			t->data = true;
			return;
		}
		character(t, kind);
	} else if (kind == BASE64_SPACE)
		word_end(t);
	else if (kind == BASE64_PAD) {
		t->word_pad = true;
		t->group[BASE64_GROUPINGS - 1] = 0;
	} else
		t->word_other = true;
}

void
base64_tail_line_end(struct base64_tail *t)
{
	t->line = true;
	word_end(t);
}

bool
base64_tail_data(struct base64_tail *t)
{
	word_end(t);
	return t->data;
}
