#include <errno.h>
#include <unistd.h>

#include "proxy/relay_source.h"

#define HEADER_MAX	65536u

void
relay_source_init(struct relay_source *s, int fd, uint64_t base,
    uint64_t size, const struct edits *edits)
{
	*s = (struct relay_source){ .fd = fd, .base = base, .size = size,
		.edits = edits };
}

/* Behind an edit whose insert was given: step over what it removes. */
static void
source_step(struct relay_source *s)
{
	const struct edit *e;

	while (s->edit < s->edits->n) {
		e = &s->edits->list[s->edit];
		if (s->pos < e->offset || s->inserted < e->insert.n)
			return;
		s->pos = e->offset + e->remove;
		s->inserted = 0;
		s->edit++;
	}
}

bool
relay_source_at_end(struct relay_source *s)
{
	source_step(s);
	return s->pos == s->size && s->edit == s->edits->n;
}

enum relay_source_answer
relay_source_read(struct relay_source *s, char *space, size_t max,
    struct view *ret)
{
	const struct edit *e;
	uint64_t left;
	ssize_t n;

	if (relay_source_at_end(s))
		return SOURCE_END;
	e = s->edit < s->edits->n ? &s->edits->list[s->edit] : NULL;
	if (e != NULL && e->offset == s->pos) {
		*ret = view_head(view_from(e->insert, s->inserted), max);
		s->inserted += ret->n;
		return SOURCE_DATA;
	}
	left = (e != NULL ? e->offset : s->size) - s->pos;
	if (left < max)
		max = (size_t)left;
	do {
		n = pread(s->fd, space, max, (off_t)(s->base + s->pos));
	} while (n < 0 && errno == EINTR);
	if (n <= 0) {
		if (n == 0)
			errno = ENODATA;
		return SOURCE_FAILED;
	}
	s->pos += (uint64_t)n;
	*ret = view_make(space, (size_t)n);
	return SOURCE_DATA;
}

bool
relay_source_header_8bit(const struct relay_source *s, char *space,
    size_t max)
{
	struct relay_source copy;
	struct view piece;
	size_t seen = 0, i, line = 0;

	relay_source_init(&copy, s->fd, s->base, s->size, s->edits);
	while (seen < HEADER_MAX &&
	    relay_source_read(&copy, space, max, &piece) == SOURCE_DATA) {
		seen += piece.n;
		for (i = 0; i < piece.n; i++) {
			if ((unsigned char)piece.p[i] > 127)
				return true;
			if (piece.p[i] == '\n') {
				if (line == 0)
					return false;
				line = 0;
			} else if (piece.p[i] != '\r') {
				line++;
			}
		}
	}
	return false;
}
