/*
 * A message's text with its edits applied, read piece by piece from the
 * descriptor that came with the delivery.  The descriptor is never written,
 * and its offset is not used: several deliveries share one queue file.
 */
#ifndef PROXY_RELAY_SOURCE_H
#define PROXY_RELAY_SOURCE_H

#include "lib/edit.h"

struct relay_source {
	int fd;
	uint64_t base;		/* where the text begins in the file */
	uint64_t size;		/* of the text */
	const struct edits *edits;
	uint64_t pos;		/* in the text */
	uint32_t edit;		/* the next edit */
	size_t inserted;	/* bytes of its insert already given */
};

enum relay_source_answer { SOURCE_DATA = 1, SOURCE_END, SOURCE_FAILED };

void relay_source_init(struct relay_source *s, int fd, uint64_t base,
    uint64_t size, const struct edits *edits);
/*
 * The next piece, at most max bytes: in space, or a view of an edit.
 * FAILED: the file cannot be read or is shorter than it was said to be.
 */
enum relay_source_answer relay_source_read(struct relay_source *s,
    char *space, size_t max, struct view *ret);
/* Nothing is left: the next read will say END. */
bool relay_source_at_end(struct relay_source *s);
/* True if the header, that is what stands before the first empty line, has a
 * byte above 127.  Reads at most 64 KB. */
bool relay_source_header_8bit(const struct relay_source *s, char *space,
    size_t max);

#endif
