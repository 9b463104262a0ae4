/* link: queue/maildrop.c */
/*
 * A maildrop file of any bytes: read in pieces of two sizes it gives the same
 * end, the same records and as much text; its records decode or are refused.
 * So that what stands behind the checksum is reached too, the input is also
 * used as records of a file that we write.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/log.h"
#include "queue/maildrop.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_records(struct view records)
{
	struct arena *a = arena_new(records.n * 32 + 65536);
	struct envelope e, again;
	const char *why = NULL;
	struct arena *b;
	struct buf out;
	uint32_t i;

	if (maildrop_envelope(records, a, &e, &why)) {
		ensure(e.nrcpts > 0 && e.nrcpts <= ENVELOPE_RCPTS_MAX);
		ensure((e.flags & ENVELOPE_NO_FILTER) == 0);
		ensure(e.login.n == 0 && e.client_addr.n == 0);
		for (i = 0; i < e.nrcpts; i++)
			ensure(e.rcpts[i].addr.n > 0 &&
			    e.rcpts[i].addr.n <= ADDRESS_MAX);
		/* qmgr takes it. */
		buf_init(&out, records.n * 16 + 65536);
		ensure(envelope_put(&out, &e));
		b = arena_new(out.n * 16 + 65536);
		ensure(envelope_get(buf_view(&out), b, &again));
		arena_free(&b);
		buf_free(&out);
	} else
		ensure(why != NULL);
	arena_free(&a);
}

static enum maildrop_event
run(struct view in, size_t step, uint64_t *ret_text, uint64_t *ret_records)
{
	enum maildrop_event e, last = MAILDROP_MORE;
	struct maildrop_reader r;
	struct view piece, text;
	uint64_t n = 0;

	maildrop_reader_init(&r);
	while (in.n > 0 && last != MAILDROP_BAD) {
		piece = view_head(in, step);
		in = view_from(in, piece.n);
		while ((e = maildrop_read(&r, &piece, &text)) !=
		    MAILDROP_MORE) {
			last = e;
			if (e == MAILDROP_BAD)
				break;
			if (e == MAILDROP_TEXT)
				n += text.n;
			if (e == MAILDROP_RECORDS)
				check_records(buf_view(&r.records));
		}
	}
	*ret_text = n;
	*ret_records = r.records.n;
	maildrop_reader_free(&r);
	return last;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view in = view_make(data, size);
	uint64_t text[2], records[2];
	enum maildrop_event whole, cut;
	struct maildrop_writer w;
	int fd;

	whole = run(in, size + 1, &text[0], &records[0]);
	cut = run(in, 3, &text[1], &records[1]);
	ensure(whole == cut && text[0] == text[1] &&
	    records[0] == records[1]);
	if (size > 0 && size <= MAILDROP_ENVELOPE_MAX) {
		check_records(in);
		fd = memfd_create("drop", 0);
		ensure(fd >= 0);
		maildrop_write_begin(&w, fd, in);
		maildrop_write(&w, in);
		ensure(maildrop_write_end(&w) == 0);
		(void)close(fd);
	}
	return 0;
}
