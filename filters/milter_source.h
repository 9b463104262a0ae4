/*
 * The text of a message where qmgr keeps it: a part of a file, read or mapped.
 */
#ifndef FILTERS_MILTER_SOURCE_H
#define FILTERS_MILTER_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/view.h"

struct milter_source {
	struct view text;
	char *bytes;		/* NULL: it is mapped, or empty */
	char *map;		/* NULL: it is not */
	size_t map_size;
};

/* fd stays the caller's.  False: it has no such bytes, or is no file. */
bool milter_source_open(struct milter_source *s, int fd, uint64_t offset,
    uint64_t size);
void milter_source_close(struct milter_source *s);

#endif
