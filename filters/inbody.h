/*
 * Files in the text of a body: uuencode (also "begin-base64") and yEnc; and a
 * program, archive or document in base64 or quoted-printable that nothing
 * declares here, but a field that only the receiver sees.  The
 * decoder takes decoded text however it is cut, and tells of each file:
 * begin, bytes, end.  One file is open at a time; a new begin line ends it.
 *
 * uuencode: any octal mode; a line without its trailing spaces, one that is
 * longer than it says, empty ones and missing ends are read as they are by
 * programs that show attachments, and noted.  A sentence may begin with "begin
 * 2000 with", which is a file for some: MIME_UUENCODE is noted only if one of
 * the first lines behind it looks like uuencode.
 */
#ifndef FILTERS_INBODY_H
#define FILTERS_INBODY_H

#include "filters/base64.h"
#include "filters/qp.h"
#include "rules/condition.h"
#include "lib/view.h"

#define INBODY_LINE_MAX	2048u	/* of a line that may begin or hold one */

enum inbody_kind { INBODY_NONE = 0, INBODY_UUENCODE, INBODY_BASE64,
	INBODY_YENC, INBODY_BARE_BASE64, INBODY_BARE_QP };

struct inbody_ops {
	void (*begin)(void *arg, enum inbody_kind kind, struct view name);
	void (*bytes)(void *arg, struct view bytes);
	void (*end)(void *arg, struct condition_set conditions);
};

struct inbody {
	const struct inbody_ops *ops;
	void *arg;
	enum inbody_kind kind;
	unsigned lines, likely;	/* uuencode: so far; those that fit */
	struct base64 base64;
	struct qp qp;
	struct condition_set conditions;
	uint64_t size, said;	/* yEnc: bytes so far, of =ybegin */
	uint32_t crc;
	bool escaped;		/* yEnc: behind an "=" */
	bool rest;		/* the line is over the maximum: its rest */
	char line[INBODY_LINE_MAX];
	size_t n;
};

void inbody_init(struct inbody *b, const struct inbody_ops *ops, void *arg);
void inbody_begin(struct inbody *b);
void inbody_feed(struct inbody *b, struct view text);
void inbody_end(struct inbody *b);

#endif
