/* Paths: what is accepted and written again reads as the same address. */
#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view rest = view_make(data, size), again;
	struct buf a, b, c;
	bool utf8;

	buf_init(&a, ADDRESS_MAX);
	buf_init(&b, 3 * ADDRESS_MAX);
	buf_init(&c, ADDRESS_MAX);
	if (address_path(&rest, false, &a, &utf8) == ADDRESS_OK && a.n > 0) {
		ensure(rest.n <= size);
		ensure(buf_putc(&b, '<') && address_quote(buf_view(&a), &b) &&
		    buf_putc(&b, '>'));
		again = buf_view(&b);
		ensure(address_path(&again, true, &c, &utf8) == ADDRESS_OK);
		ensure(again.n == 0 && view_eq(buf_view(&a), buf_view(&c)));
	}
	buf_free(&a);
	buf_free(&b);
	buf_free(&c);
	return 0;
}
