/* link: filters */
/*
 * What a file is: every file has a name for it and known groups; a look
 * without libraries says the same as one with them, or that it cannot.
 */
#include <stdint.h>

#include "filters/scan.h"
#include "lib/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct file_magic *magic;
	struct view v = view_make(data, size);
	struct file_kind quick, full;
	struct scan_item i = { .size = 0 };
	const char *error = "", *p;

	if (magic == NULL)
		magic = file_magic_open(&error);
	ensure(magic != NULL);
	quick = file_kind_quick(v);
	full = file_kind(magic, v);
	ensure(full.name != NULL && full.name[0] != '\0');
	ensure((full.groups & ~(unsigned)GROUP_ALL) == 0);
	for (p = full.name; *p != '\0'; p++)
		ensure(*p > ' ');
	if (quick.name != NULL)
		ensure(strcmp(quick.name, full.name) == 0 &&
		    quick.groups == full.groups);
	if (scan_shallow(v, &i))
		ensure((i.kind.groups & quick.groups) == quick.groups &&
		    (i.kind.name == quick.name ||
		    (i.kind.groups & GROUP_DISK) != 0));
	ensure((i.flags & ~SCAN_ALL) == 0);
	(void)scan_name_flags(view_of("pdf.exe"), &full);
	return 0;
}
