#include "lib/address.h"
#include "lib/dsn.h"
#include "lib/envelope.h"

static const struct {
	const char *word;
	uint8_t bit;
} notify_words[] = {
	{ "NEVER", NOTIFY_NEVER },
	{ "SUCCESS", NOTIFY_SUCCESS },
	{ "FAILURE", NOTIFY_FAILURE },
	{ "DELAY", NOTIFY_DELAY },
};
#define NOTIFY_WORDS	(sizeof notify_words / sizeof notify_words[0])

uint8_t
dsn_ret(struct view text)
{
	return view_is_nocase(text, "FULL") ? 'F' :
	    view_is_nocase(text, "HDRS") ? 'H' : 0;
}

static uint8_t
notify_bit(struct view word)
{
	size_t i;

	for (i = 0; i < NOTIFY_WORDS; i++)
		if (view_is_nocase(word, notify_words[i].word))
			return notify_words[i].bit;
	return 0;
}

uint8_t
dsn_notify(struct view text)
{
	uint8_t all = 0, bit;
	size_t n;

	for (;;) {
		n = view_find(text, ',');
		bit = notify_bit(view_head(text, n));
		/* Each once. */
		if (bit == 0 || (all & bit) != 0)
			return 0;
		all |= bit;
		if (n == text.n)
			break;
		text = view_from(text, n + 1);
	}
	/* NEVER stands alone (RFC 3461 section 4.1). */
	return (all & NOTIFY_NEVER) != 0 && all != NOTIFY_NEVER ? 0 : all;
}

bool
dsn_notify_put(struct buf *out, uint8_t notify)
{
	bool first = true;
	size_t i;

	for (i = 0; i < NOTIFY_WORDS; i++) {
		if ((notify & notify_words[i].bit) == 0)
			continue;
		if ((!first && !buf_putc(out, ',')) ||
		    !buf_puts(out, notify_words[i].word))
			return false;
		first = false;
	}
	return true;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	/* RFC 3461 knows capitals only; others write small ones. */
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static bool
printable(unsigned c)
{
	return c >= ' ' && c < 0x7f;
}

/* A printable byte that stands for itself. */
static bool
plain_byte(char c)
{
	return c > ' ' && c < 0x7f && c != '+' && c != '=';
}

static bool
xtext_read(struct buf *out, struct view t)
{
	int high, low;
	size_t i;

	for (i = 0; i < t.n; i++) {
		if (plain_byte(t.p[i])) {
			if (!buf_putc(out, t.p[i]))
				return false;
			continue;
		}
		if (t.p[i] != '+' || t.n - i < 3)
			return false;
		high = hex_value(t.p[i + 1]);
		low = hex_value(t.p[i + 2]);
		if (high < 0 || low < 0 ||
		    !printable((unsigned)(high << 4 | low)) ||
		    !buf_putc(out, (char)(high << 4 | low)))
			return false;
		i += 2;
	}
	return true;
}

bool
xtext_get(struct buf *out, struct view text)
{
	size_t n = out->n;

	if (xtext_read(out, text))
		return true;
	out->n = n;
	return false;
}

bool
xtext_put(struct buf *out, struct view plain)
{
	size_t i;

	for (i = 0; i < plain.n; i++)
		if (!(plain_byte(plain.p[i]) ?
		    buf_putc(out, plain.p[i]) :
		    buf_printf(out, "+%02X", (unsigned char)plain.p[i])))
			return false;
	return true;
}

static bool
put_utf8(struct buf *out, uint32_t c)
{
	if (c < 0x80)
		return buf_putc(out, (char)c);
	if (c < 0x800)
		return buf_putc(out, (char)(0xc0 | c >> 6)) &&
		    buf_putc(out, (char)(0x80 | (c & 63)));
	if (c < 0x10000)
		return buf_putc(out, (char)(0xe0 | c >> 12)) &&
		    buf_putc(out, (char)(0x80 | (c >> 6 & 63))) &&
		    buf_putc(out, (char)(0x80 | (c & 63)));
	return buf_putc(out, (char)(0xf0 | c >> 18)) &&
	    buf_putc(out, (char)(0x80 | (c >> 12 & 63))) &&
	    buf_putc(out, (char)(0x80 | (c >> 6 & 63))) &&
	    buf_putc(out, (char)(0x80 | (c & 63)));
}

/* "\x{HHHH}" at p[*at]; two to six digits. */
static bool
embedded_read(struct buf *out, struct view t, size_t *at)
{
	size_t i = *at + 3, digits = 0;
	uint32_t c = 0;

	if (t.n - *at < 3 || t.p[*at + 1] != 'x' || t.p[*at + 2] != '{')
		return false;
	while (i < t.n && digits < 6 && hex_value(t.p[i]) >= 0) {
		c = c << 4 | (uint32_t)hex_value(t.p[i++]);
		digits++;
	}
	if (i == t.n || t.p[i] != '}' || digits < 2 || c > 0x10ffff ||
	    (c < 0x80 && !printable(c)) || (c >= 0xd800 && c < 0xe000))
		return false;
	*at = i;
	return put_utf8(out, c);
}

static bool
unitext_read(struct buf *out, struct view t, bool raw)
{
	size_t i;

	for (i = 0; i < t.n; i++) {
		if (t.p[i] == '\\') {
			if (!embedded_read(out, t, &i))
				return false;
		} else if (!(plain_byte(t.p[i]) ||
		    (raw && (unsigned char)t.p[i] >= 0x80)) ||
		    !buf_putc(out, t.p[i])) {
			return false;
		}
	}
	return true;
}

bool
unitext_get(struct buf *out, struct view text, bool raw)
{
	size_t n = out->n;

	if (unitext_read(out, text, raw) &&
	    address_utf8(buf_part(out, n, out->n - n), NULL))
		return true;
	out->n = n;
	return false;
}

/* The character that begins at t.p[*at], which is UTF-8. */
static uint32_t
take_utf8(struct view t, size_t *at)
{
	unsigned char c = (unsigned char)t.p[*at];
	unsigned more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
	uint32_t code = more == 0 ? c : c & (0x3fu >> more);

	while (more-- > 0 && *at + 1 < t.n)
		code = code << 6 | ((unsigned char)t.p[++*at] & 63);
	return code;
}

bool
unitext_put(struct buf *out, struct view plain)
{
	size_t i;

	for (i = 0; i < plain.n; i++)
		if (!(plain_byte(plain.p[i]) && plain.p[i] != '\\' ?
		    buf_putc(out, plain.p[i]) :
		    buf_printf(out, "\\x{%02X}", take_utf8(plain, &i))))
			return false;
	return true;
}

bool
dsn_envid_get(struct buf *out, struct view text)
{
	size_t n = out->n;

	if (text.n > 0 && xtext_get(out, text) && out->n - n <= DSN_ENVID_MAX)
		return true;
	out->n = n;
	return false;
}

/* An RFC 5322 atom. */
static bool
type_valid(struct view type)
{
	size_t i;

	for (i = 0; i < type.n; i++)
		if (!isalnum((unsigned char)type.p[i]) &&
		    (type.p[i] == '\0' ||
		    strchr("!#$%&'*+-/=?^_`{|}~", type.p[i]) == NULL))
			return false;
	return type.n > 0 && type.n <= DSN_TYPE_MAX;
}

bool
dsn_orcpt_split(struct view orcpt, struct view *ret_type,
    struct view *ret_address)
{
	size_t n = view_find(orcpt, ';');

	if (n + 1 >= orcpt.n || !type_valid(view_head(orcpt, n)))
		return false;
	*ret_type = view_head(orcpt, n);
	*ret_address = view_from(orcpt, n + 1);
	return true;
}

bool
dsn_orcpt_get(struct buf *out, struct view text, bool raw)
{
	size_t n = out->n;
	struct view type, addr;

	if (text.n > DSN_ORCPT_MAX || !dsn_orcpt_split(text, &type, &addr))
		return false;
	if (buf_putv(out, type) && buf_putc(out, ';') &&
	    (view_is_nocase(type, "utf-8") ? unitext_get(out, addr, raw) :
	    xtext_get(out, addr)))
		return true;
	out->n = n;
	return false;
}

bool
dsn_orcpt_put(struct buf *out, struct view orcpt)
{
	struct view type, addr;

	return dsn_orcpt_split(orcpt, &type, &addr) &&
	    buf_putv(out, type) && buf_putc(out, ';') &&
	    (view_is_nocase(type, "utf-8") ? unitext_put(out, addr) :
	    xtext_put(out, addr));
}
