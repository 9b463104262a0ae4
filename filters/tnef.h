/*
 * TNEF, the winmail.dat of Outlook and Exchange ([MS-OXTNEF]): tells of each
 * attachment, also of those in embedded messages: begin, names, bytes, end.
 * Bytes come in however they are cut.  A name may come before the data or
 * behind them.
 *
 * Memory is bounded: one value of up to TNEF_VALUE_MAX bytes for each of
 * TNEF_DEPTH_MAX levels.  What is wrong or over a limit is noted, and read as
 * far as it makes sense.
 */
#ifndef FILTERS_TNEF_H
#define FILTERS_TNEF_H

#include "lib/buf.h"
#include "lib/view.h"

#define TNEF_VALUE_MAX		(64u << 10)
#define TNEF_DEPTH_MAX		6u
#define TNEF_ATTACHMENTS_MAX	1000u
#define TNEF_SIGNATURE		"\x78\x9f\x3e\x22"

struct tnef_ops {
	void (*begin)(void *arg);
	/* charset: "utf-16le", "windows-1252" */
	void (*name)(void *arg, struct view name, const char *charset);
	void (*bytes)(void *arg, struct view bytes);
	void (*end)(void *arg);
};

struct tnef;

struct tnef *tnef_new(const struct tnef_ops *ops, void *arg);
void tnef_free(struct tnef **t);
void tnef_begin(struct tnef *t);
void tnef_feed(struct tnef *t, struct view bytes);
/* The end; returns false if something in it was wrong. */
bool tnef_end(struct tnef *t);

#endif
