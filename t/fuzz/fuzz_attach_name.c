/* link: filters */
/*
 * Names of attachments: whatever comes, one word comes out, its extensions
 * are in lower case and stand at its end.
 */
#include <stdint.h>

#include "filters/attach_name.h"
#include "lib/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view raw = view_make(data, size), last;
	struct buf name, ext, again, ext2;
	unsigned odd;
	size_t i, dots = 0;

	buf_init(&name, 4 * ATTACH_NAME_MAX);
	buf_init(&ext, 4 * ATTACH_NAME_MAX);
	buf_init(&again, 4 * ATTACH_NAME_MAX);
	buf_init(&ext2, 4 * ATTACH_NAME_MAX);
	odd = attach_name(raw, &name, &ext);
	ensure((odd & ODDITY_LONG) != 0 || view_trim(raw).n <=
	    ATTACH_NAME_MAX);
	for (i = 0; i < name.n; i++)
		ensure((unsigned char)name.p[i] > ' ' && name.p[i] != 0x7f);
	for (i = 0; i < ext.n; i++) {
		ensure(ext.p[i] < 'A' || ext.p[i] > 'Z');
		ensure((unsigned char)ext.p[i] > ' ' && ext.p[i] != '/');
		dots += ext.p[i] == '.';
	}
	ensure(dots < ATTACH_EXTENSIONS);
	last = attach_last(ext.n > 0 ? buf_view(&ext) : view_make("", 0));
	ensure(last.n <= ext.n && view_find(last, '.') == last.n);
	ensure((odd & ODDITY_DOUBLE) == 0 || dots > 0);
	/* What was made plain is plain. */
	if (name.n > 0 && name.n <= ATTACH_NAME_MAX) {
		(void)attach_name(buf_view(&name), &again, &ext2);
		ensure(view_eq(buf_view(&name), buf_view(&again)));
		ensure(ext.n == ext2.n && (ext.n == 0 ||
		    memcmp(ext.p, ext2.p, ext.n) == 0));
	}
	buf_free(&name);
	buf_free(&ext);
	buf_free(&again);
	buf_free(&ext2);
	return 0;
}
