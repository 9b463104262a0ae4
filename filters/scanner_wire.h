/*
 * Between filter, keeper and the process that scans: packets on sockets that
 * keep their borders.  Each is checked by who gets it.
 */
#ifndef FILTERS_SCANNER_WIRE_H
#define FILTERS_SCANNER_WIRE_H

#include <sys/types.h>

#include "filters/attach_name.h"
#include "filters/scanner.h"

#define WIRE_KIND_MAX	80u
#define WIRE_INSIDE_MAX	4096u
#define WIRE_NAME_MAX	(2 * ATTACH_NAME_MAX)

#define WIRE_MESSAGE_MAX	(1ull << 40)

enum keeper_order { KEEPER_START = 1, KEEPER_KILL };
struct wire_order {
	uint32_t order;
	uint64_t size;		/* of the message */
};

/* From the keeper.  STARTED has the socket with it. */
enum keeper_word { KEEPER_STARTED = 1, KEEPER_FAILED, KEEPER_ENDED };
struct wire_keeper {
	uint32_t word;
	int32_t pid, status;	/* as of waitpid() */
	uint64_t cpu_us, rss_kb;
};

/* How the process ends when there is no memory for it. */
#define WORK_NO_MEMORY	3

struct wire_file {
	uint32_t slot;
	uint32_t name_n;
	uint64_t size;
	char name[WIRE_NAME_MAX];
};

enum wire_word { WIRE_MEMBER = 1, WIRE_FILE };
struct wire_item {
	uint32_t word;
	uint32_t groups;
	uint64_t flags, size;
	uint32_t kind_n, inside_n, name_n;
	char text[WIRE_KIND_MAX + WIRE_INSIDE_MAX + WIRE_NAME_MAX];
};
#define WIRE_ITEM_HEAD	offsetof(struct wire_item, text)

/* What filter and scanning process share: the files, and a word. */
struct wire_room {
	char *files;		/* SCANNER_SLOTS of them */
	size_t size;		/* of each */
	_Atomic uint32_t *stop;	/* the message is decided */
};

/* In the keeper; never returns.  fd: to the filter. */
void scanner_keep(int fd, struct scan *scan, const struct scan_limits *l,
    const struct wire_room *room, scanner_jail *jail)
    __attribute__((noreturn));

#endif
