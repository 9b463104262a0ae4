/* link: proxy/smtpd_text.c */
/* The text decoder: cut anywhere it gives the same, and its output has no CR
 * or LF but in CRLF. */
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t
decode(struct view in, size_t step, char *out, bool *ret_end)
{
	struct text t;
	size_t n = 0, got, used;

	text_init(&t, true);
	while (in.n > 0 && t.state != TEXT_END) {
		used = text_decode(&t, view_head(in, step), out + n, &got);
		ensure(used > 0);
		n += got;
		in = view_from(in, used);
	}
	*ret_end = t.state == TEXT_END;
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view in = view_make(data, size);
	char *a = mem_alloc(2 * size + TEXT_SPARE);
	char *b = mem_alloc(2 * size + TEXT_SPARE);
	bool end_a, end_b;
	size_t n = decode(in, size, a, &end_a), i;

	ensure(decode(in, 1, b, &end_b) == n && end_a == end_b);
	ensure(memcmp(a, b, n) == 0);
	for (i = 0; i < n; i++) {
		ensure(a[i] != '\r' || (i + 1 < n && a[i + 1] == '\n'));
		ensure(a[i] != '\n' || (i > 0 && a[i - 1] == '\r'));
	}
	free(a);
	free(b);
	return 0;
}
