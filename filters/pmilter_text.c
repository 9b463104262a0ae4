#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "filters/pmilter_text.h"
#include "lib/log.h"
#include "lib/mem.h"

/* Written when there is that much; a piece of a body is at most 64 KB. */
#define PENDING_MAX	(128u << 10)
#define SEALS		(F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)

void
pmilter_text_init(struct pmilter_text *t, uint64_t limit)
{
	*t = (struct pmilter_text){ .fd = -1, .limit = limit };
	buf_init(&t->pending, PENDING_MAX);
}

void
pmilter_text_clear(struct pmilter_text *t)
{
	uint64_t limit = t->limit;

	if (t->fd >= 0)
		(void)close(t->fd);
	free(t->headers);
	buf_free(&t->pending);
	pmilter_text_init(t, limit);
}

static bool
text_write(struct pmilter_text *t, struct view v)
{
	ssize_t k;

	if (t->fd < 0)
		t->fd = memfd_create("text", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	while (t->fd >= 0 && v.n > 0) {
		k = write(t->fd, v.p, v.n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			break;
		v = view_from(v, (size_t)k);
	}
	if (t->fd < 0 || v.n > 0)
		t->trouble = TEXT_NO_MEMORY;
	return t->trouble == TEXT_FINE;
}

static void
text_add(struct pmilter_text *t, struct view v)
{
	if (t->trouble != TEXT_FINE)
		return;
	if (t->limit > 0 && v.n > t->limit + t->own_size - t->size) {
		t->trouble = TEXT_TOO_BIG;
		return;
	}
	t->size += v.n;
	if (buf_putv(&t->pending, v))
		return;
	if (!text_write(t, buf_view(&t->pending)))
		return;
	buf_clear(&t->pending);
	if (!buf_putv(&t->pending, v))
		(void)text_write(t, v);
}

/* A line end is CRLF whatever it was before. */
static void
text_add_lines(struct pmilter_text *t, struct view v)
{
	size_t n;

	while ((n = view_find(v, '\n')) < v.n) {
		text_add(t, view_head(v, n > 0 && v.p[n - 1] == '\r' ?
		    n - 1 : n));
		text_add(t, view_of("\r\n"));
		v = view_from(v, n + 1);
	}
	text_add(t, v);
}

/* Its name stands at the end of the text.  NULL: no more of them. */
static struct pmilter_header *
text_begin_header(struct pmilter_text *t, size_t name)
{
	struct pmilter_header *h;

	if (t->trouble != TEXT_FINE)
		return NULL;
	if (t->n == PMILTER_HEADERS_MAX) {
		t->trouble = TEXT_HEADERS;
		return NULL;
	}
	if (t->n == t->cap) {
		t->cap = t->cap * 2 + 32;
		t->headers = mem_resize(t->headers, t->cap,
		    sizeof *t->headers);
	}
	h = &t->headers[t->n++];
	*h = (struct pmilter_header){ .offset = t->size,
		.name = (uint32_t)name };
	return h;
}

void
pmilter_text_header(struct pmilter_text *t, struct view name,
    struct view value, bool space)
{
	struct pmilter_header *h = text_begin_header(t, name.n);

	if (h == NULL)
		return;
	text_add(t, name);
	text_add(t, view_of(space ? ":" : ": "));
	text_add_lines(t, value);
	text_add(t, view_of("\r\n"));
	h->size = t->size - h->offset;
	t->head = t->size;
}

void
pmilter_text_prepend(struct pmilter_text *t, struct view line)
{
	size_t name = view_find(line, ':'), i;
	struct pmilter_header *h;

	ensure(t->n == t->own && !t->body);
	for (i = 0; i < name; i++)
		if (line.p[i] <= ' ' || line.p[i] > '~')
			break;
	if (i == 0 || i == line.n || i < name) {
		t->trouble = TEXT_PREPEND;
		return;
	}
	h = text_begin_header(t, name);
	if (h == NULL)
		return;
	t->own++;
	t->own_size += line.n + 2;
	text_add(t, line);
	text_add(t, view_of("\r\n"));
	h->size = t->size - h->offset;
	t->head = t->size;
}

void
pmilter_text_body(struct pmilter_text *t, struct view piece)
{
	if (!t->body)
		text_add(t, view_of("\r\n"));
	t->body = true;
	text_add(t, piece);
}

bool
pmilter_text_end(struct pmilter_text *t)
{
	/* A message without a body has the empty line all the same. */
	if (!t->body)
		pmilter_text_body(t, view_of(""));
	if (t->trouble != TEXT_FINE || !text_write(t, buf_view(&t->pending)))
		return false;
	buf_free(&t->pending);
	if (fcntl(t->fd, F_ADD_SEALS, SEALS) != 0)
		t->trouble = TEXT_NO_MEMORY;
	return t->trouble == TEXT_FINE;
}

bool
pmilter_text_read(const struct pmilter_text *t, uint64_t offset, char *to,
    size_t n)
{
	ssize_t got;

	while (n > 0) {
		got = pread(t->fd, to, n, (off_t)offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		to += got;
		offset += (uint64_t)got;
		n -= (size_t)got;
	}
	return true;
}
