/* link: proxy/relay_text.c */
/*
 * Text as it is sent.  The first byte chooses the line limit, the second the
 * size of the pieces.  A strict receiver, which knows CRLF alone as a line
 * end, must find the one end of data at the very end, no line over the limit,
 * and, when it takes back folds and dots, the same text, but for stray CR and
 * LF (spaces) and the last line end.  In chunks it is the same without the dots
 * that are added.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/relay_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(int ok)
{
	if (!ok)
		abort();
}

static size_t
encode(struct view in, size_t limit, bool chunks, size_t piece, char *out)
{
	struct relay_text t;
	size_t n = 0, k, at;
	char *exact;

	relay_text_init(&t, limit, chunks);
	for (at = 0; at < in.n; at += k) {
		k = piece > in.n - at ? in.n - at : piece;
		/* in memory of its own, so that no byte is put behind it */
		exact = malloc(RELAY_TEXT_ROOM(k));
		check(exact != NULL);
		size_t put = relay_text_encode(&t,
		    view_make(in.p + at, k), exact);
		check(put <= RELAY_TEXT_ROOM(k));
		memcpy(out + n, exact, put);
		free(exact);
		n += put;
	}
	return n + relay_text_end(&t, out + n);
}

/* What the text should be for the receiver: CRLF kept, strays spaces. */
static size_t
expected(struct view in, char *out)
{
	size_t i, n = 0;

	for (i = 0; i < in.n; i++) {
		if (in.p[i] == '\r' && i + 1 < in.n && in.p[i + 1] == '\n') {
			out[n++] = '\r';
			out[n++] = '\n';
			i++;
		} else {
			out[n++] = in.p[i] == '\r' || in.p[i] == '\n' ? ' ' :
			    in.p[i];
		}
	}
	if (n > 0 && out[n - 1] != '\n') {
		out[n++] = '\r';
		out[n++] = '\n';
	}
	return n;
}

/* The receiver; compares as it goes.  A fold is known by the limit. */
static void
receive(const char *p, size_t n, const char *want, size_t want_n,
    size_t limit)
{
	const char *end = p + n, *eol;
	size_t line, w = 0;

	for (;;) {
		eol = memmem(p, (size_t)(end - p), "\r\n", 2);
		check(eol != NULL);
		line = (size_t)(eol - p);
		check(memchr(p, '\r', line) == NULL);
		check(memchr(p, '\n', line) == NULL);
		if (line == 1 && *p == '.')
			break;
		if (line > 0 && *p == '.') {
			p++;
			line--;
		}
		check(limit == 0 || line <= limit);
		/* a fold: the line does not begin where the text's does */
		if (w > 0 && want[w - 1] != '\n') {
			check(line > 0 && *p == ' ');
			p++;
			line--;
		}
		check(w + line <= want_n);
		check(line == 0 || memcmp(p, want + w, line) == 0);
		w += line;
		if (w + 2 <= want_n && memcmp(want + w, "\r\n", 2) == 0)
			w += 2;
		else
			check(limit > 0 && line + 4 >= limit);
		p = eol + 2;
	}
	check(p + 3 == end);
	check(w == want_n);
}

/* data is what DATA carries; the added dots are taken away, in place. */
static size_t
unstuff(char *data, size_t n)
{
	size_t i, k = 0;

	check(n >= 3);
	for (i = 0; i < n - 3; i++)
		if (data[i] != '.' || (i > 0 && data[i - 1] != '\n'))
			data[k++] = data[i];
	return k;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t limits[] = { 998, 0, 64, 65, 100, 1 };
	struct view in;
	size_t limit, piece, n, m, want_n;
	char *whole, *pieces, *want;

	if (size < 2)
		return 0;
	limit = limits[data[0] % (sizeof limits / sizeof limits[0])];
	piece = data[1] % 100u + 1;
	in = view_make(data + 2, size - 2);
	whole = malloc(RELAY_TEXT_ROOM(in.n) + RELAY_TEXT_END_ROOM);
	pieces = malloc(RELAY_TEXT_ROOM(in.n) + 16 * in.n +
	    RELAY_TEXT_END_ROOM);
	want = malloc(in.n + 2);
	check(whole != NULL && pieces != NULL && want != NULL);
	n = encode(in, limit, false, in.n + 1, whole);
	m = encode(in, limit, false, piece, pieces);
	check(n == m && memcmp(whole, pieces, n) == 0);
	want_n = expected(in, want);
	receive(whole, n, want, want_n, limit == 1 ? RELAY_TEXT_LINE_MIN :
	    limit);
	m = encode(in, limit, true, piece, pieces);
	n = unstuff(whole, n);
	check(n == m && memcmp(whole, pieces, n) == 0);
	free(whole);
	free(pieces);
	free(want);
	return 0;
}
