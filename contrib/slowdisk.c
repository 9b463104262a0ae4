/*
 * A disk with a slow cache flush, for measurements: a FUSE file system with
 * one file, /img, that lies in another file and whose fsync takes a given
 * time longer.  A loop device on it, with a file system, is such a disk.
 *
 *	slowdisk BACKING-FILE MICROSECONDS MOUNT-POINT
 *
 * It ends when it is unmounted (fusermount3 -u MOUNT-POINT).  contrib/bench
 * --slow builds and uses it.
 */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int backing;
static struct timespec flush_time;

static int
disk_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	(void)fi;
	memset(st, 0, sizeof *st);
	if (strcmp(path, "/") == 0) {
		st->st_mode = S_IFDIR | 0755;
		st->st_nlink = 2;
		return 0;
	}
	if (strcmp(path, "/img") != 0)
		return -ENOENT;
	return fstat(backing, st) == 0 ? 0 : -errno;
}

static int
disk_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t offset,
    struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	(void)path;
	(void)offset;
	(void)fi;
	(void)flags;
	return fill(buf, "img", NULL, 0, 0) == 0 ? 0 : -ENOMEM;
}

static int
disk_open(const char *path, struct fuse_file_info *fi)
{
	fi->keep_cache = 1;
	return strcmp(path, "/img") == 0 ? 0 : -ENOENT;
}

static int
disk_read(const char *path, char *buf, size_t n, off_t at,
    struct fuse_file_info *fi)
{
	ssize_t k = pread(backing, buf, n, at);

	(void)path;
	(void)fi;
	return k < 0 ? -errno : (int)k;
}

static int
disk_write(const char *path, const char *buf, size_t n, off_t at,
    struct fuse_file_info *fi)
{
	ssize_t k = pwrite(backing, buf, n, at);

	(void)path;
	(void)fi;
	return k < 0 ? -errno : (int)k;
}

static int
disk_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
	(void)path;
	(void)data_only;
	(void)fi;
	nanosleep(&flush_time, NULL);
	return 0;
}

static const struct fuse_operations operations = {
	.getattr = disk_getattr,
	.readdir = disk_readdir,
	.open = disk_open,
	.read = disk_read,
	.write = disk_write,
	.fsync = disk_fsync,
};

static bool
parse_time(const char *p, struct timespec *ret)
{
	long us = 0;

	if (*p == '\0' || strlen(p) > 9)
		return false;
	for (; *p >= '0' && *p <= '9'; p++)
		us = us * 10 + (*p - '0');
	*ret = (struct timespec){ us / 1000000, us % 1000000 * 1000 };
	return *p == '\0';
}

int
main(int argc, char **argv)
{
	if (argc != 4 || !parse_time(argv[2], &flush_time)) {
		fprintf(stderr, "usage: slowdisk file microseconds dir\n");
		return 2;
	}
	backing = open(argv[1], O_RDWR);
	if (backing < 0) {
		perror(argv[1]);
		return 1;
	}
	/* FUSE sees its own name and the mount point. */
	argv[1] = argv[3];
	return fuse_main(2, argv, &operations, NULL);
}
