/*
 * What documents of Office before 2007 say about themselves: encrypted
 * ([MS-DOC] 2.5.2, [MS-XLS] 2.4.117 FilePass) and sheets of Excel 4 macros
 * ([MS-XLS] 2.4.28 BoundSheet8).
 */
#include "filters/scan_priv.h"

#define LOOK_MAX	(1u << 20)	/* of a workbook */

#define RECORD_EOF	0x000au
#define RECORD_FILEPASS	0x002fu
#define RECORD_SHEET	0x0085u
#define SHEET_MACRO	1u	/* its type */
#define FIB_ENCRYPTED	0x0100u

/* n bytes, or as many as there are; to may be NULL to skip them. */
static size_t
take(struct scan_member *m, char *to, size_t n)
{
	char skipped[512];
	size_t have = 0, most;
	long got;

	while (have < n) {
		most = n - have;
		if (to == NULL && most > sizeof skipped)
			most = sizeof skipped;
		got = m->read(m, to == NULL ? skipped : to + have, most);
		if (got <= 0)
			break;
		have += (size_t)got;
	}
	return have;
}

void
scan_workbook(struct scan_member *m, uint64_t *flags)
{
	char head[4], data[6];
	size_t used = 0, n, some;
	uint32_t type;

	while (used < LOOK_MAX && take(m, head, sizeof head) == sizeof head) {
		type = le16_at(view_make(head, 4), 0);
		n = le16_at(view_make(head, 4), 2);
		used += sizeof head + n;
		if (type == RECORD_EOF)
			return;
		if (type == RECORD_FILEPASS)
			*flags |= SCAN_ENCRYPTED;
		some = type == RECORD_SHEET && n >= sizeof data ?
		    sizeof data : 0;
		if (take(m, data, some) < some)
			return;
		if (some > 0 && (unsigned char)data[5] == SHEET_MACRO)
			*flags |= SCAN_MACRO | SCAN_XLM;
		if (take(m, NULL, n - some) < n - some)
			return;
	}
}

void
scan_word(struct scan_member *m, uint64_t *flags)
{
	char fib[12];

	if (take(m, fib, sizeof fib) == sizeof fib &&
	    (le16_at(view_make(fib, sizeof fib), 10) & FIB_ENCRYPTED) != 0)
		*flags |= SCAN_ENCRYPTED;
}
