/* link: filters */
/*
 * The reader of zip, also for what does not begin as one.
 */
#include "t/fuzz/scan_help.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scan *s = fuzz_scan(size);
	struct scan_item i = { .name = view_of("a"), .kind = { "zip",
		GROUP_ZIP } };

	scan_zip(s, 0, view_make(data, size), &i);
	ensure((i.flags & ~SCAN_ALL) == 0);
	return 0;
}
