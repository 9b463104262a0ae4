/* link: proxy/gate_header.c */
/* A proxy's header: cut anywhere, it ends where it ended. */
#include "lib/log.h"
#include "proxy/gate_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view in = view_make(data, size);
	struct netaddr a = { .family = 0 }, b = { .family = 0 };
	enum gate_header whole, part;
	size_t n, used, i;

	whole = gate_header_read(in, &n, &a, &b);
	if (whole == GATE_HEADER_MORE)
		ensure(n == size && size < GATE_HEADER_MAX);
	if (whole == GATE_HEADER_CLIENT || whole == GATE_HEADER_LOCAL)
		ensure(n > 0 && n <= size && n <= GATE_HEADER_MAX);
	ensure((whole == GATE_HEADER_CLIENT) == (a.family != 0));
	for (i = 0; i < size && i < 200; i++) {
		part = gate_header_read(view_head(in, i), &used, &a, &b);
		if (whole != GATE_HEADER_BAD)
			ensure(part == (i < n ? GATE_HEADER_MORE : whole));
	}
	return 0;
}
