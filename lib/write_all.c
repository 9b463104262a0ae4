#include <errno.h>
#include <unistd.h>

#include "lib/write_all.h"

bool
write_all(int fd, struct view v)
{
	ssize_t n;

	while (v.n > 0) {
		n = write(fd, v.p, v.n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		v = view_from(v, (size_t)n);
	}
	return true;
}
