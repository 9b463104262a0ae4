/*
 * What the fuzz targets of the scanner's readers share: a scanner with small
 * limits, and what must hold of all that it tells.
 */
#ifndef T_FUZZ_SCAN_HELP_H
#define T_FUZZ_SCAN_HELP_H

#include <stdint.h>

#include "filters/scan_priv.h"
#include "lib/log.h"

#define MEMBERS	50u

static bool
tell(void *arg, const struct scan_item *i)
{
	unsigned *told = arg;

	ensure(i->kind.name != NULL && i->kind.name[0] != '\0');
	ensure((i->flags & ~SCAN_ALL) == 0);
	/* Beyond the limit only the archives that are open. */
	ensure(++*told <= MEMBERS + 16);
	return true;
}

/* Ready for one file of so many bytes. */
static struct scan *
fuzz_scan(size_t size)
{
	static const struct scan_limits limits = { .depth = 2,
		.members = MEMBERS, .bytes = 1u << 20, .ratio = 100,
		.cpu_ms = 500 };
	static struct scan *s;
	static unsigned told;
	const char *error;

	if (s == NULL)
		s = scan_new(&limits, &error);
	ensure(s != NULL);
	scan_begin(s, size);
	told = 0;
	s->tell = tell;
	s->arg = &told;
	s->stopped = false;
	s->level[0].in = size;
	s->level[0].out = 0;
	return s;
}

#endif
