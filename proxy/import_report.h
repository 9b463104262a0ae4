/*
 * What became of each line of another mail server's configuration: the report
 * of `postern import`.  An entry is a place, what stands there, and an
 * outcome with its reason.  Every line with a meaning gets at least one entry,
 * so that nothing is dropped silently; several entries of a line stay in the
 * order they were made.  Texts are copied; control bytes in them are made
 * visible when they are printed.
 */
#ifndef PROXY_IMPORT_REPORT_H
#define PROXY_IMPORT_REPORT_H

#include "lib/buf.h"

#define IMPORT_ENTRIES_MAX	500000u
#define IMPORT_TEXT_MAX		400u	/* of an entry; the rest is cut */
#define IMPORT_REPORT_MAX	(256u << 20)

/* Where something was read. */
struct import_place {
	const char *file;	/* NULL: nowhere, such as a default */
	unsigned line;		/* 0: the file as a whole */
};

/* Copies of file names, each once, for those who keep places. */
struct import_names {
	char **list;
	size_t n;
};
const char *import_name(struct import_names *names, const char *file);
void import_names_free(struct import_names *names);

enum import_outcome {
	IMPORT_CARRIED = 1,	/* means the same here */
	IMPORT_CHANGED,		/* carried over, but not quite the same */
	IMPORT_DROPPED,		/* not carried over, for this reason */
	IMPORT_UNKNOWN,		/* not understood */
	IMPORT_OUTCOMES
};
const char *import_outcome_name(enum import_outcome outcome);

struct import_report;

struct import_report *import_report_new(void);
void import_report_free(struct import_report **r);
/* why: the reason, or the settings it became. */
void import_note(struct import_report *r, struct import_place at,
    struct view text, enum import_outcome outcome, const char *why, ...)
    __attribute__((format(printf, 5, 6)));
size_t import_report_count(const struct import_report *r,
    enum import_outcome outcome);
/* Is there an entry for this line? */
bool import_report_has(const struct import_report *r,
    struct import_place at);
/*
 * The whole report, under title: the counts, then what is unknown, dropped,
 * changed and carried over, each as
 *
 *	file:line: OUTCOME: text
 *		why
 *
 * False: out has no room.
 */
bool import_report_print(const struct import_report *r, const char *title,
    struct buf *out);

#endif
