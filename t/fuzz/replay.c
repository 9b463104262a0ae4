/*
 * main() for a fuzz target without libFuzzer: run every file given (or found
 * in a directory given), each whole and cut short at many places, since a
 * parser may be stopped anywhere.  Each input lies in memory of its own
 * exact size, so that the sanitizer sees a read past its end.
 *
 *	fuzz_x DIRECTORY | FILE ...
 *
 * Prints the name of each input before it runs, and "N inputs" at the end.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_MAX	(16u << 20)
#define CUTS		256u	/* how many shorter forms of one input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned inputs;

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static void
run_head(const uint8_t *all, size_t n)
{
	uint8_t *own = malloc(n > 0 ? n : 1);

	if (own == NULL)
		die("malloc");
	if (n > 0)
		memcpy(own, all, n);
	/* An empty input may come as any pointer; not as one byte of memory. */
	LLVMFuzzerTestOneInput(n > 0 ? own : own + 1, n);
	free(own);
}

static void
run_file(const char *path)
{
	struct stat st;
	uint8_t *all;
	size_t size, got = 0, step;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		die(path);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > INPUT_MAX) {
		close(fd);
		return;
	}
	puts(path);
	fflush(stdout);
	size = (size_t)st.st_size;
	all = malloc(size + 1);
	if (all == NULL)
		die("malloc");
	while (got < size) {
		ssize_t n = read(fd, all + got, size - got);

		if (n <= 0)
			die(path);
		got += (size_t)n;
	}
	close(fd);
	run_head(all, size);
	step = size / CUTS + 1;
	for (size_t n = 0; n < size; n += step)
		run_head(all, n);
	free(all);
	inputs++;
}

static void
run_directory(const char *path)
{
	struct dirent **list;
	int n = scandir(path, &list, NULL, alphasort);

	if (n < 0)
		die(path);
	for (int i = 0; i < n; i++) {
		char name[4096];

		if (list[i]->d_name[0] != '.' && snprintf(name, sizeof(name),
		    "%s/%s", path, list[i]->d_name) < (int)sizeof(name))
			run_file(name);
		free(list[i]);
	}
	free(list);
}

int
main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) < 0)
			die(argv[i]);
		if (S_ISDIR(st.st_mode))
			run_directory(argv[i]);
		else
			run_file(argv[i]);
	}
	printf("%u inputs\n", inputs);
	return inputs > 0 ? 0 : 1;
}
