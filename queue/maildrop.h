/*
 * The form of a file in maildrop/, and of what sendmail tells postdrop on its
 * standard input; queue/MAILDROP.md describes it.  Both sides use this file;
 * the reader trusts nothing.  Neither opens, names or syncs a file: that is
 * queue/maildrop_file.h and queue/pickup*.c.
 */
#ifndef QUEUE_MAILDROP_H
#define QUEUE_MAILDROP_H

#include "lib/envelope.h"

/* 1 MB of records, with a domain of ours added to each recipient, still fits
 * into one message between roles. */
#define MAILDROP_ENVELOPE_MAX	(1u << 20)
#define MAILDROP_CHUNK_MAX	65536u
#define MAILDROP_FULL_NAME_MAX	200u

/* A file's name: so many hexadecimal digits, which nobody can guess. */
#define MAILDROP_NAME_DIGITS	32u
#define MAILDROP_NAME	(MAILDROP_NAME_DIGITS + 1)
bool maildrop_name_ok(struct view name);

/* The records. */
enum maildrop_record {
	MAILDROP_SENDER = 'S',		/* one; empty: the null sender */
	MAILDROP_FULL_NAME = 'F',
	MAILDROP_ENVID = 'E',
	MAILDROP_RET = 'D',		/* "F" or "H" */
	MAILDROP_BODY = 'B',		/* "8": 8BITMIME */
	MAILDROP_TLS = 'T',		/* "R": REQUIRETLS */
	MAILDROP_NOTIFY = 'N',		/* for the recipients that follow */
	MAILDROP_ORCPT = 'O',		/* for the next recipient */
	MAILDROP_RCPT = 'R'
};

/* Append a record.  False: it holds NUL, a line break or another control
 * byte, is too long, or the section would pass its maximum. */
bool maildrop_put(struct buf *b, enum maildrop_record type, struct view v);

/*
 * Decode the records; views into them, recipients in a (which needs room for
 * records.n * sizeof(struct recipient)).  Sets sender, full_name, envid, ret,
 * flags (8BIT, REQUIRETLS, and SMTPUTF8 when an address needs it) and the recipients of
 * *ret, nothing else.  False: *ret_why says what is wrong.
 */
bool maildrop_envelope(struct view records, struct arena *a,
    struct envelope *ret, const char **ret_why)
    __attribute__((warn_unused_result));

/* -- writing --------------------------------------------------------------- */

/* To a file or a pipe.  The first error is kept: an errno value. */
struct maildrop_writer {
	int fd;
	int error;
	struct buf chunk;
	void *hash;
	uint64_t text;
};

void maildrop_write_begin(struct maildrop_writer *w, int fd,
    struct view records);
void maildrop_write(struct maildrop_writer *w, struct view text);
/* Chunks, end, checksum.  Returns w->error and frees what w holds. */
int maildrop_write_end(struct maildrop_writer *w);
/* Give up. */
void maildrop_write_free(struct maildrop_writer *w);

/* -- reading --------------------------------------------------------------- */

enum maildrop_event {
	MAILDROP_MORE = 1,	/* all of *in is used */
	MAILDROP_RECORDS,	/* r->records is complete */
	MAILDROP_TEXT,		/* *ret_text is the next piece of it */
	MAILDROP_END,		/* complete, and the checksum is right */
	MAILDROP_BAD		/* and will stay so; r->why says why */
};

struct maildrop_reader {
	int state;
	char fixed[16];		/* numbers and magic, as they come */
	size_t have;
	uint32_t left;		/* of the records or the chunk */
	struct buf records;
	uint64_t text;
	void *hash;
	const char *why;
};

void maildrop_reader_init(struct maildrop_reader *r);
void maildrop_reader_free(struct maildrop_reader *r);
/*
 * Feed bytes, however they are cut; what was used is taken off *in.  Call it
 * until it says MAILDROP_MORE, and again with more; bytes behind the end are
 * MAILDROP_BAD.
 */
enum maildrop_event maildrop_read(struct maildrop_reader *r, struct view *in,
    struct view *ret_text);

#endif
