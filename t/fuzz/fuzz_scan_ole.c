/* link: filters */
/*
 * The reader of compound files, with what Office keeps in them.
 */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct scan_limits limits = { .depth = 2,
		.members = MEMBERS, .bytes = 1u << 20, .ratio = 100,
		.cpu_ms = 500 };
	static struct scan *s;
	struct scan_item i = { .name = view_of("a"), .kind = { "ole",
		GROUP_OLE } };
	const char *error;
	unsigned told = 0;

	if (s == NULL)
		s = scan_new(&limits, &error);
	ensure(s != NULL);
	scan_begin(s, size);
	s->tell = tell;
	s->arg = &told;
	s->stopped = false;
	s->level[0].in = size;
	s->level[0].out = 0;
	scan_ole(s, 0, view_make(data, size), &i);
	ensure((i.flags & ~SCAN_ALL) == 0);
	return 0;
}
