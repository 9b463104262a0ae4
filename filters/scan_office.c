/*
 * What documents of Office before 2007 say about themselves: encrypted
 * ([MS-DOC] 2.5.2, [MS-XLS] 2.4.117 FilePass), sheets of Excel 4 macros
 * ([MS-XLS] 2.4.28 BoundSheet8), and macros that are compressed in a record
 * ([MS-PPT] 2.4.11 VbaInfoAtom).
 */
#include "filters/scan_priv.h"

#define LOOK_MAX	(1u << 20)	/* of a workbook */

#define RECORD_BOF	0x09u	/* and the version, in the other byte */
#define RECORD_EOF	0x000au
#define RECORD_FILEPASS	0x002fu
#define RECORD_SHEET	0x0085u
#define SHEET_MACRO	1u	/* its type */
#define BOF_MACRO	0x40u	/* of a file that is one sheet */
#define FIB_ENCRYPTED	0x0100u

size_t
scan_take(struct scan_member *m, char *to, size_t n)
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

	while (used < LOOK_MAX && scan_take(m, head, sizeof head) == sizeof head) {
		type = le16_at(view_make(head, 4), 0);
		n = le16_at(view_make(head, 4), 2);
		used += sizeof head + n;
		if (type == RECORD_EOF)
			return;
		if (type == RECORD_FILEPASS)
			*flags |= SCAN_ENCRYPTED;
		some = type == RECORD_SHEET && n >= sizeof data ?
		    sizeof data : (type & 0xff) == RECORD_BOF && n >= 4 ?
		    4 : 0;
		if (scan_take(m, data, some) < some)
			return;
		if ((some == sizeof data &&
		    (unsigned char)data[5] == SHEET_MACRO) || (some == 4 &&
		    le16_at(view_make(data, 4), 2) == BOF_MACRO))
			*flags |= SCAN_MACRO | SCAN_XLM;
		if (scan_take(m, NULL, n - some) < n - some)
			return;
	}
}

void
scan_word(struct scan_member *m, uint64_t *flags)
{
	char fib[12];

	if (scan_take(m, fib, sizeof fib) == sizeof fib &&
	    (le16_at(view_make(fib, sizeof fib), 10) & FIB_ENCRYPTED) != 0)
		*flags |= SCAN_ENCRYPTED;
}

/* The head of the record, an identifier, and that there are macros. */
void
scan_presentation(struct scan_member *m, uint64_t *flags)
{
	static const char head[] = { 2, 0, 0, 4, 12, 0, 0, 0 };
	char some[2048], *p;
	size_t keep = 0, n, at;

	while ((n = scan_take(m, some + keep, sizeof some - keep)) > 0) {
		n += keep;
		for (at = 0; (p = memmem(some + at, n - at, head,
		    sizeof head)) != NULL; at = (size_t)(p - some) + 1)
			if ((size_t)(p - some) + 16 <= n && p[12] == 1)
				*flags |= SCAN_MACRO;
		keep = n < 15 ? n : 15;
		memmove(some, some + n - keep, keep);
	}
}
