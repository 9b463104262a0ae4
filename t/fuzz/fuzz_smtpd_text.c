/* link: proxy/smtpd_text.c */
/* The text decoder: cut anywhere it gives the same, and its output has no CR
 * or LF but in CRLF. */
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t
decode(struct view in, bool chunks, size_t step, char *out, bool *ret_end)
{
	struct text t;
	size_t n = 0, got, used;

	if (chunks)
		text_init_chunks(&t, true);
	else
		text_init(&t, true);
	while (in.n > 0 && t.state != TEXT_END) {
		used = text_decode(&t, view_head(in, step), out + n, &got);
		ensure(used > 0);
		n += got;
		in = view_from(in, used);
	}
	if (chunks) {
		/* Nothing in them is their end. */
		ensure(t.state != TEXT_END);
		n += text_finish(&t, out + n);
		ensure(n == 0 || out[n - 1] == '\n');
	}
	*ret_end = t.state == TEXT_END;
	return n;
}

static void
cut(struct view in, bool chunks)
{
	size_t size = in.n;
	char *a = mem_alloc(2 * size + TEXT_SPARE);
	char *b = mem_alloc(2 * size + TEXT_SPARE);
	bool end_a, end_b;
	size_t n = decode(in, chunks, size, a, &end_a), i;

	ensure(decode(in, chunks, 1, b, &end_b) == n && end_a == end_b);
	ensure(memcmp(a, b, n) == 0);
	for (i = 0; i < n; i++) {
		ensure(a[i] != '\r' || (i + 1 < n && a[i + 1] == '\n'));
		ensure(a[i] != '\n' || (i > 0 && a[i - 1] == '\r'));
	}
	free(a);
	free(b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cut(view_make(data, size), false);
	cut(view_make(data, size), true);
	return 0;
}
