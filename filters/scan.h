/*
 * The scanner: what is inside a file.  It tells of the file's members, and
 * of the members of those, each with the begin of its content known; then of
 * the file itself.  Archives are read in memory, within limits; each limit
 * that is passed ends the reading and is a flag of the file.
 *
 * Zip, compound files (OLE), PDF, RTF and HTML are read by own code, other
 * archives by libarchive.  Nothing here opens a file or starts a process.
 */
#ifndef FILTERS_SCAN_H
#define FILTERS_SCAN_H

#include "filters/file_kind.h"
#include "lib/buf.h"

enum scan_flag_bit {
#define FLAG(symbol, name)	symbol##_BIT,
#include "filters/scan_flag.def"
#undef FLAG
	SCAN_FLAGS
};
enum scan_flag {
#define FLAG(symbol, name)	symbol = 1ull << symbol##_BIT,
#include "filters/scan_flag.def"
#undef FLAG
};
_Static_assert(SCAN_FLAGS < 64, "a set is one word");

#define SCAN_ALL	((1ull << SCAN_FLAGS) - 1)
#define SCAN_LIMITS	(SCAN_LIMIT_DEPTH | SCAN_LIMIT_MEMBERS |	\
	SCAN_LIMIT_BYTES | SCAN_LIMIT_RATIO | SCAN_LIMIT_TIME |		\
	SCAN_LIMIT_MEMORY)
#define SCAN_DEPTH_MAX	16u	/* that depth may be */

struct scan_limits {
	uint32_t depth;		/* archives in archives */
	uint32_t members;	/* all of a message */
	uint64_t bytes;		/* unpacked and kept, all of a message */
	uint32_t ratio;		/* unpacked to packed, of one archive */
	uint32_t cpu_ms;	/* of a message */
	uint32_t cpu_ms_mb;	/* more, for each full MB of it */
	uint64_t memory;	/* bytes; only scanner.h obeys it */
};

#define SCAN_MEMORY_MB	(8u << 20)	/* more, for each full MB */

/* For a message of that size. */
static inline uint64_t
scan_cpu_ms(const struct scan_limits *l, uint64_t size)
{
	return l->cpu_ms + l->cpu_ms_mb * (size >> 20);
}

static inline uint64_t
scan_memory(const struct scan_limits *l, uint64_t size)
{
	return l->memory + SCAN_MEMORY_MB * (size >> 20);
}


struct scan_item {
	struct view inside;	/* "outer.zip!inner.zip"; empty: the file */
	struct view name;	/* as it was given */
	struct file_kind kind;
	uint64_t size;		/* as far as known */
	uint64_t flags;		/* enum scan_flag */
};

/* False: decided, go no further. */
typedef bool scan_tell(void *arg, const struct scan_item *i);

struct scan;

/* Reads libmagic's database: before the jail.  NULL: *ret_error. */
struct scan *scan_new(const struct scan_limits *l, const char **ret_error);
void scan_free(struct scan **s);
/* Begin a message of that size: the limits begin anew. */
void scan_begin(struct scan *s, uint64_t size);
/*
 * What can be told of a file without libraries, in time linear in its size.
 * False: there may be more to tell; then kind.name may be NULL.
 */
bool scan_shallow(struct view content, struct scan_item *ret);
/*
 * Look into a file.  tell() is called for members, not for the file, whose
 * flags and kind are returned in *ret (name is taken from there).
 */
void scan_file(struct scan *s, struct view content, struct scan_item *ret,
    scan_tell *tell, void *arg);
/* Flags of a name (attach_name()) and a kind. */
uint64_t scan_name_flags(struct view name, const struct file_kind *k);
const char *scan_flag_name(enum scan_flag_bit b);

#endif
