/* The directory of compiled sets of patterns, for the tests of it. */
#ifndef T_UNIT_CACHE_HELP_H
#define T_UNIT_CACHE_HELP_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "t/unit/table_help.h"

static char cache[200];

static void
cache_remove(void)
{
	char path[500];
	DIR *d = opendir(cache);
	const struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", cache, e->d_name);
		(void)unlink(path);
	}
	if (d != NULL)
		(void)closedir(d);
	(void)rmdir(cache);
}

/* The path of the only file in it; how many there are. */
static unsigned
cache_files(char *path, size_t n)
{
	DIR *d = opendir(cache);
	const struct dirent *e;
	unsigned found = 0;

	while (d != NULL && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.') {
			snprintf(path, n, "%s/%s", cache, e->d_name);
			found++;
		}
	if (d != NULL)
		(void)closedir(d);
	return found;
}

static void
change_byte(const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	char c;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	(void)close(fd);
}

#endif
