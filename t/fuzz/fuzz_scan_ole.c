/* link: filters */
/*
 * The reader of compound files, with what Office keeps in them.
 */
#include "t/fuzz/scan_help.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scan *s = fuzz_scan(size);
	struct scan_item i = { .name = view_of("a"), .kind = { "ole",
		GROUP_OLE } };

	scan_ole(s, 0, view_make(data, size), &i);
	ensure((i.flags & ~SCAN_ALL) == 0);
	return 0;
}
