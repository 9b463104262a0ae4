/* link: filters */
/*
 * The scanner: the first byte chooses limits, the rest is a file.  Limits
 * hold, and flags are known ones.
 */
#include <stdint.h>

#include "filters/attach_name.h"
#include "filters/scan.h"
#include "lib/log.h"

#define MEMBERS	50u

static bool
tell(void *arg, const struct scan_item *i)
{
	unsigned *told = arg;
	struct buf name, ext;
	size_t n;

	ensure(i->kind.name != NULL && i->kind.name[0] != '\0');
	/* Beyond the limit only the archives that are open. */
	ensure(++*told <= MEMBERS + 16);
	buf_init(&name, 4 * ATTACH_NAME_MAX);
	buf_init(&ext, 4 * ATTACH_NAME_MAX);
	(void)attach_name(i->name, &name, &ext);
	for (n = 0; n < name.n; n++)
		ensure(name.p[n] != ' ' && name.p[n] != '\n');
	for (n = 0; n < ext.n; n++)
		ensure(ext.p[n] < 'A' || ext.p[n] > 'Z');
	(void)scan_name_flags(buf_view(&ext), &i->kind);
	buf_free(&name);
	buf_free(&ext);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct scan_limits limits = { .depth = 3,
		.members = MEMBERS, .bytes = 1u << 20, .ratio = 100,
		.cpu_ms = 500, .cpu_ms_mb = 0 };
	static struct scan *s;
	struct scan_item i = { .name = view_of("a.zip") };
	const char *error;
	unsigned told = 0;

	if (s == NULL)
		s = scan_new(&limits, &error);
	ensure(s != NULL);
	scan_begin(s, size);
	scan_file(s, view_make(data, size), &i, tell, &told);
	ensure(i.size == size && i.kind.name != NULL);
	return 0;
}
