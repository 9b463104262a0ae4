/*
 * A header's value: no read past its end, and what comes out is an address
 * in internal form that can be written and read again.
 */
#include <stdlib.h>

#include "lib/address.h"
#include "lib/address_list.h"
#include "lib/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
each(struct view addr, void *arg)
{
	struct buf quoted, again;
	struct view rest;
	unsigned *n = arg;
	bool utf8;

	ensure(addr.n > 0 && addr.n <= ADDRESS_MAX);
	buf_init(&quoted, 3 * ADDRESS_MAX);
	buf_init(&again, ADDRESS_MAX);
	ensure(buf_putc(&quoted, '<') && address_quote(addr, &quoted) &&
	    buf_putc(&quoted, '>'));
	rest = buf_view(&quoted);
	ensure(address_path(&rest, true, &again, &utf8) == ADDRESS_OK);
	ensure(view_eq(buf_view(&again), addr));
	buf_free(&quoted);
	buf_free(&again);
	return ++*n < 1000;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view in = view_make(data, size), bad = { NULL, 0 };
	unsigned n = 0;

	if (address_list_read(in, each, &n, &bad) == ADDRESS_LIST_SYNTAX)
		ensure(bad.n <= size);
	return 0;
}
