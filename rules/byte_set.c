#include <ctype.h>

#include "rules/byte_set.h"

void
byte_set_range(struct byte_set *b, unsigned from, unsigned to)
{
	for (unsigned i = from; i <= to; i++)
		b->has[i] = true;
}

void
byte_set_invert(struct byte_set *b)
{
	for (unsigned i = 0; i < 256; i++)
		b->has[i] = !b->has[i];
}

static void
byte_set_union(struct byte_set *b, const struct byte_set *more)
{
	for (unsigned i = 0; i < 256; i++)
		b->has[i] = b->has[i] || more->has[i];
}

void
byte_set_fold(struct byte_set *b)
{
	for (unsigned i = 'a'; i <= 'z'; i++)
		b->has[i] = b->has[i - 32] = b->has[i] || b->has[i - 32];
}

int
byte_is_word(int c)
{
	return isalnum(c) || c == '_';
}

static int
is_ascii(int c)
{
	return c < 0x80;
}

bool
byte_set_class(struct byte_set *b, struct view name, bool negate)
{
	static const struct {
		const char *name;
		int (*is)(int);
	} known[] = {
		{ "alpha", isalpha }, { "lower", islower },
		{ "upper", isupper }, { "alnum", isalnum },
		{ "blank", isblank }, { "cntrl", iscntrl },
		{ "digit", isdigit }, { "graph", isgraph },
		{ "print", isprint }, { "punct", ispunct },
		{ "space", isspace }, { "xdigit", isxdigit },
		{ "word", byte_is_word }, { "ascii", is_ascii },
	};

	for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++) {
		if (!view_is(name, known[k].name))
			continue;
		for (int i = 0; i < 256; i++)
			if ((i < 0x80 && known[k].is(i) != 0) != negate)
				b->has[i] = true;
		return true;
	}
	return false;
}

bool
byte_set_escape(struct byte_set *b, int letter, bool posix)
{
	struct byte_set x = { .has = { false } };

	switch (letter) {
	case 'w': case 'W':
		(void)byte_set_class(&x, view_of("word"), false);
		break;
	case 's': case 'S':
		(void)byte_set_class(&x, view_of("space"), false);
		break;
	case 'd': case 'D':
		if (posix)
			return false;
		byte_set_range(&x, '0', '9');
		break;
	case 'h': case 'H':
		if (posix)
			return false;
		x.has['\t'] = x.has[' '] = x.has[0xa0] = true;
		break;
	case 'v': case 'V':
		if (posix)
			return false;
		byte_set_range(&x, '\n', '\r');
		x.has[0x85] = true;
		break;
	default:
		return false;
	}
	if (isupper(letter))
		byte_set_invert(&x);
	byte_set_union(b, &x);
	return true;
}
