/* link: filters */
/*
 * Archives for libarchive, and the walk through RAR 5 in front of it.
 */
#include "t/fuzz/scan_help.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scan *s = fuzz_scan(size);
	struct scan_item i = { .name = view_of("a"), .kind = { "rar",
		GROUP_ARCHIVE } };

	scan_archive(s, 0, view_make(data, size), &i);
	ensure((i.flags & ~SCAN_ALL) == 0);
	return 0;
}
