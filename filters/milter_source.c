#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "filters/milter_source.h"
#include "lib/mem.h"

/* A shorter one is copied: that costs less than a mapping and its faults. */
#define READ_MAX	(128u << 10)

static bool
source_read(struct milter_source *s, int fd, uint64_t offset, size_t size)
{
	size_t got = 0;
	ssize_t n;

	s->bytes = mem_resize(NULL, size, 1);
	while (got < size) {
		n = pread(fd, s->bytes + got, size - got,
		    (off_t)(offset + got));
		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	s->text = view_make(s->bytes, size);
	return true;
}

static bool
source_map(struct milter_source *s, int fd, uint64_t offset, size_t size)
{
	size_t skip = (size_t)(offset % (uint64_t)sysconf(_SC_PAGESIZE));
	char *map = mmap(NULL, skip + size, PROT_READ, MAP_PRIVATE, fd,
	    (off_t)(offset - skip));

	if (map == MAP_FAILED)
		return false;
	s->map = map;
	s->map_size = skip + size;
	s->text = view_make(map + skip, size);
	return true;
}

bool
milter_source_open(struct milter_source *s, int fd, uint64_t offset,
    uint64_t size)
{
	struct stat st;

	*s = (struct milter_source){ .text = view_make("", 0) };
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < 0 ||
	    (uint64_t)st.st_size < offset ||
	    (uint64_t)st.st_size - offset < size)
		return false;
	if (size == 0)
		return true;
	return size <= READ_MAX ? source_read(s, fd, offset, (size_t)size) :
	    source_map(s, fd, offset, (size_t)size);
}

void
milter_source_close(struct milter_source *s)
{
	free(s->bytes);
	if (s->map != NULL)
		(void)munmap(s->map, s->map_size);
	*s = (struct milter_source){ .text = view_make("", 0) };
}
