#include <ctype.h>
#include <errno.h>
#include <iconv.h>
#include <stdlib.h>

#include "filters/charset.h"
#include "lib/address.h"
#include "lib/log.h"
#include "lib/mem.h"

#define REPLACEMENT	"\xef\xbf\xbd"

/* What mail is written in.  Names as iconv knows them; "-" and "_" and case
 * do not count when a name of a message is looked up. */
static const char *const names[] = {
	"us-ascii", "utf-8", "iso-8859-1", "windows-1252", "iso-8859-2",
	"iso-8859-3", "iso-8859-4", "iso-8859-5", "iso-8859-6", "iso-8859-7",
	"iso-8859-8", "iso-8859-9", "iso-8859-10", "iso-8859-13",
	"iso-8859-14", "iso-8859-15", "iso-8859-16", "windows-1250",
	"windows-1251", "windows-1253", "windows-1254", "windows-1255",
	"windows-1256", "windows-1257", "windows-1258", "windows-874",
	"koi8-r", "koi8-u", "ibm437", "ibm850", "ibm852", "ibm866",
	"macintosh", "tis-620", "iso-2022-jp", "shift_jis", "windows-31j",
	"euc-jp", "iso-2022-kr", "euc-kr", "uhc", "gb2312", "gbk", "gb18030",
	"big5", "big5-hkscs", "hz", "utf-7", "utf-16", "utf-16le",
	"utf-16be", "utf-32", "utf-32le", "utf-32be",
};
#define NAMES		(sizeof names / sizeof names[0])
#define FALLBACK	3	/* windows-1252 */

static const struct {
	const char *alias, *name;
} aliases[] = {
	{ "ascii", "us-ascii" }, { "ansix341968", "us-ascii" },
	{ "utf8", "utf-8" }, { "unicode11utf8", "utf-8" },
	{ "latin1", "iso-8859-1" }, { "iso88591", "iso-8859-1" },
	{ "cp1252", "windows-1252" }, { "cp1250", "windows-1250" },
	{ "cp1251", "windows-1251" }, { "cp932", "windows-31j" },
	{ "sjis", "shift_jis" }, { "xsjis", "shift_jis" },
	{ "ksc56011987", "uhc" }, { "ksc5601", "uhc" }, { "cp949", "uhc" },
	{ "cp936", "gbk" }, { "xgbk", "gbk" }, { "cp950", "big5" },
	{ "cp437", "ibm437" }, { "cp850", "ibm850" }, { "cp866", "ibm866" },
	{ "hzgb2312", "hz" }, { "iso88598i", "iso-8859-8" },
	{ "iso88598e", "iso-8859-8" }, { "unicode", "utf-16" },
	{ "xmacroman", "macintosh" }, { "csiso2022jp", "iso-2022-jp" },
};

struct charsets {
	iconv_t open[NAMES];	/* (iconv_t)-1: the system has none */
};

struct charsets *
charsets_open(void)
{
	struct charsets *cs = mem_alloc(sizeof *cs);
	size_t i;

	for (i = 0; i < NAMES; i++) {
		char in[] = "a", out[16], *ip = in, *op = out;
		size_t n = 1, room = sizeof out;

		cs->open[i] = iconv_open("utf-8", names[i]);
		/* What is set up at the first use is set up now. */
		if (cs->open[i] != (iconv_t)-1)
			(void)iconv(cs->open[i], &ip, &n, &op, &room);
	}
	return cs;
}

void
charsets_free(struct charsets **cs)
{
	size_t i;

	if (*cs == NULL)
		return;
	for (i = 0; i < NAMES; i++)
		if ((*cs)->open[i] != (iconv_t)-1)
			(void)iconv_close((*cs)->open[i]);
	free(*cs);
	*cs = NULL;
}

static bool
same(struct view a, const char *b)
{
	size_t i;

	for (i = 0; i < a.n; i++) {
		if (a.p[i] == '-' || a.p[i] == '_')
			continue;
		while (*b == '-' || *b == '_')
			b++;
		if (*b == '\0' || tolower((unsigned char)a.p[i]) != *b++)
			return false;
	}
	while (*b == '-' || *b == '_')
		b++;
	return *b == '\0';
}

/* Index in names[], NAMES when there is none. */
static size_t
find(const struct charsets *cs, struct view name)
{
	size_t i, k;

	for (k = 0; k < sizeof aliases / sizeof aliases[0]; k++)
		if (same(name, aliases[k].alias))
			name = view_of(aliases[k].name);
	for (i = 0; i < NAMES; i++)
		if (same(name, names[i]))
			return cs->open[i] != (iconv_t)-1 ? i : NAMES;
	return NAMES;
}

const char *
charsets_name(const struct charsets *cs, struct view name)
{
	size_t i = find(cs, name);

	return i < NAMES ? names[i] : NULL;
}

/* One step of iconv; returns true when there is nothing more to do. */
static bool
step(iconv_t cd, char **p, size_t *left, bool final, struct buf *out)
{
	char chunk[1024], *o = chunk;
	size_t room = sizeof chunk, r;
	int error;

	r = iconv(cd, p, left, &o, &room);
	error = r == (size_t)-1 ? errno : 0;
	if (!buf_put(out, chunk, sizeof chunk - room)) {
		*p += *left;
		*left = 0;
		return true;
	}
	if (error == 0)
		return true;
	if (error == E2BIG)
		return false;
	if (error == EINVAL && !final)
		return true;
	/* Not valid, or not complete: one byte is taken for it. */
	(void)buf_puts(out, REPLACEMENT);
	if (*left > 0) {
		++*p;
		--*left;
	}
	return *left == 0;
}

size_t
charsets_convert(const struct charsets *cs, struct view name,
    struct view text, bool final, struct buf *out, bool *ret_known)
{
	size_t i = find(cs, name), left = text.n;
	char *p = (char *)(uintptr_t)text.p;

	*ret_known = i < NAMES;
	if (text.n == 0)
		return 0;
	if (i == NAMES)
		i = FALLBACK;
	if (cs->open[i] == (iconv_t)-1) {
		(void)buf_putv(out, text);
		return text.n;
	}
	(void)iconv(cs->open[i], NULL, NULL, NULL, NULL);
	while (left > 0)
		if (step(cs->open[i], &p, &left, final, out))
			break;
	return text.n - left;
}

bool
charsets_utf8(const struct charsets *cs, struct view name, struct view text,
    struct buf *out)
{
	bool known;

	(void)charsets_convert(cs, name, text, true, out, &known);
	return known;
}

void
charsets_mend(const struct charsets *cs, struct view text, struct buf *out)
{
	if (address_utf8(text, NULL))
		(void)buf_putv(out, text);
	else
		(void)charsets_utf8(cs, view_of(names[FALLBACK]), text, out);
}
