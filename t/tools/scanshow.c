/*
 * scanshow DEPTH MEMBERS BYTES RATIO MS MEMORY FILE...: what the scanner of
 * attachments says of files: a line for each member, one for the file, and
 * what all so far cost the processes that scan.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "filters/attach_name.h"
#include "filters/scanner.h"
#include "lib/log.h"

static void
show(const struct scan_item *i, const char *what)
{
	unsigned k;

	printf("%s magic=%s size=%llu is=,", what, i->kind.name,
	    (unsigned long long)i->size);
	for (k = 0; k < SCAN_FLAGS; k++)
		if ((i->flags >> k & 1) != 0)
			printf("%s,", scan_flag_name((enum scan_flag_bit)k));
	printf(" in=%.*s name=%.*s\n", VIEW_ARGS(i->inside),
	    VIEW_ARGS(i->name));
}

static bool
tell(void *arg, const struct scan_item *i)
{
	struct scan_item c = *i;

	(void)arg;
	c.flags |= scan_name_flags(view_make("", 0), &i->kind);
	show(&c, "member");
	return true;
}

static void
read_all(const char *path, struct buf *b)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;
	char *to;

	if (fd < 0)
		fatal("%s", path);
	do {
		to = buf_room(b, 65536);
		ensure(to != NULL);
		n = read(fd, to, 65536);
		ensure(n >= 0);
		b->n += (size_t)n;
	} while (n > 0);
	(void)close(fd);
}

static bool
locked_in(const struct jail_spec *spec)
{
	jail_enter(spec, NULL, NULL);
	return true;
}

int
main(int argc, char **argv)
{
	struct scan_limits l;
	struct scanner_cost c;
	const char *error;
	struct scanner *s;
	struct buf b;
	int i;

	ensure(argc > 7);
	log_open("scanshow", "localhost");
	l.depth = (uint32_t)strtoul(argv[1], NULL, 10);
	l.members = (uint32_t)strtoul(argv[2], NULL, 10);
	l.bytes = strtoull(argv[3], NULL, 10);
	l.ratio = (uint32_t)strtoul(argv[4], NULL, 10);
	l.cpu_ms = (uint32_t)strtoul(argv[5], NULL, 10);
	l.cpu_ms_mb = l.cpu_ms;
	l.memory = strtoull(argv[6], NULL, 10);
	s = scanner_new(&l, locked_in, &error);
	if (s == NULL)
		fatal("%s", error);
	buf_init(&b, 1u << 30);
	for (i = 7; i < argc; i++) {
		struct scan_item item = { .name = view_of(argv[i]) };

		buf_clear(&b);
		read_all(argv[i], &b);
		scanner_begin(s, b.n);
		scanner_clear(s, 0);
		if (!scanner_put(s, 0, buf_view(&b)))
			item.flags |= SCAN_LIMIT_BYTES;
		scanner_file(s, 0, &item, tell, NULL);
		item.flags |= scan_name_flags(view_make("", 0), &item.kind);
		item.inside = view_make("", 0);
		show(&item, "file");
		scanner_wait(s);
		c = scanner_cost(s);
		printf("cost cpu_us=%llu rss_kb=%llu\n",
		    (unsigned long long)c.cpu_us, (unsigned long long)c.rss_kb);
	}
	buf_free(&b);
	scanner_free(&s);
	return 0;
}
