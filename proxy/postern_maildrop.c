/*
 * postern maildrop: how users of this host hand in mail.  1730: through
 * postdrop, which is set-gid; 1733: everybody may make files in the (sticky,
 * unreadable) directory, and no program has any privilege.  Both sides find
 * out by the mode of the directory, so nothing else has to be told.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/postern.h"

bool
postern_maildrop_group(const struct conf *cf, bool make, gid_t *ret)
{
	struct group *gr = getgrnam(cf->setgid_group);
	pid_t pid;
	int status;

	if (gr == NULL && make) {
		pid = fork();
		if (pid < 0)
			fatal("fork: %s", strerror(errno));
		if (pid == 0) {
			execlp("groupadd", "groupadd", "--system",
			    cf->setgid_group, (char *)NULL);
			_exit(127);
		}
		if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
		    WEXITSTATUS(status) == 0)
			printf("created the group %s (setgid_group)\n",
			    cf->setgid_group);
		/* Or somebody else made it at the same moment. */
		gr = getgrnam(cf->setgid_group);
	}
	if (gr == NULL)
		return false;
	*ret = gr->gr_gid;
	return true;
}

static int
maildrop_fd(const struct conf *cf, struct stat *st)
{
	char *path = mem_printf("%s/maildrop", cf->queue_directory);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, st) != 0)
		fatal("%s: %s", path, strerror(errno));
	free(path);
	return fd;
}

/* Where an installation has it, or beside this program in a build tree. */
char *
postern_own_program(const struct conf *cf, const char *name)
{
	char *path = mem_printf("%s/bin/%s", cf->daemon_directory, name);
	char self[PATH_MAX], *slash;
	ssize_t n;

	if (access(path, X_OK) == 0)
		return path;
	free(path);
	n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (n < 0)
		fatal("cannot find my own place: %s", strerror(errno));
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash != NULL)
		*slash = '\0';
	return mem_printf("%s/%s", self, name);
}

/* Set-gid or not, by descriptor: nobody can exchange it in between. */
static void
maildrop_set_program(const struct conf *cf, bool set_gid, gid_t gid)
{
	char *path = postern_own_program(cf, "postdrop");
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0)
		fatal("%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) || (set_gid && st.st_uid != 0))
		fatal("%s must be a file of root", path);
	/* The group first: a change of it takes the bit away. */
	if ((set_gid && fchown(fd, (uid_t)-1, gid) != 0) ||
	    fchmod(fd, set_gid ? 02755 : 0755) != 0)
		fatal("%s: %s", path, strerror(errno));
	close(fd);
	free(path);
}

static void
maildrop_set(const struct conf *cf, mode_t mode)
{
	struct stat st;
	gid_t gid = 0;
	int fd;

	if (geteuid() != 0)
		fatal("only root can open maildrop to other users");
	if (!postern_maildrop_group(cf, true, &gid))
		fatal("cannot create the group %s (setgid_group)",
		    cf->setgid_group);
	fd = maildrop_fd(cf, &st);
	/* Never more open than it is wanted, at no moment. */
	if (mode == SETUP_MAILDROP_GROUP) {
		maildrop_set_program(cf, true, gid);
		if (fchown(fd, (uid_t)-1, gid) != 0 || fchmod(fd, mode) != 0)
			fatal("maildrop: %s", strerror(errno));
	} else {
		if (fchown(fd, (uid_t)-1, gid) != 0 || fchmod(fd, mode) != 0)
			fatal("maildrop: %s", strerror(errno));
		maildrop_set_program(cf, false, gid);
	}
	close(fd);
}

static int
maildrop_tell(const struct conf *cf)
{
	char *path = postern_own_program(cf, "postdrop");
	struct stat dir, program;
	struct group *gr;
	mode_t mode;
	bool set_gid;
	gid_t gid = 0;
	int fd = maildrop_fd(cf, &dir);

	close(fd);
	mode = dir.st_mode & 07777;
	gr = getgrgid(dir.st_gid);
	printf("maildrop: mode %04o, group %s\n", (unsigned)mode,
	    gr != NULL ? gr->gr_name : "?");
	set_gid = stat(path, &program) == 0 &&
	    (program.st_mode & S_ISGID) != 0 && program.st_gid == dir.st_gid;
	if (mode == SETUP_MAILDROP_ALL)
		printf("All users hand in mail by themselves.\n");
	else if (mode != SETUP_MAILDROP_GROUP)
		printf("Only the owner of the directory hands in mail.\n");
	else if (set_gid && postern_maildrop_group(cf, false, &gid) &&
	    gid == dir.st_gid)
		printf("Users hand in mail through %s, which is set-gid.\n",
		    path);
	else
		printf("%s is not set-gid %s: users cannot hand in mail.\n"
		    "`postern maildrop --mode 1730` makes it so.\n", path,
		    cf->setgid_group);
	free(path);
	return 0;
}

int
postern_maildrop(struct postern *p, int argc, char **argv)
{
	struct reporter quiet = { log_report_errors, NULL };
	struct conf *cf = conf_load(p->config_dir, report_errors_only,
	    &quiet);
	mode_t mode = 0;
	int status;

	if (cf == NULL)
		fatal("main.cf is not usable");
	if (argc == 3 && strcmp(argv[1], "--mode") == 0) {
		if (strcmp(argv[2], "1730") == 0)
			mode = SETUP_MAILDROP_GROUP;
		else if (strcmp(argv[2], "1733") == 0)
			mode = SETUP_MAILDROP_ALL;
	}
	if (argc != 1 && mode == 0)
		fatal("usage: postern maildrop [--mode 1730|1733]");
	if (mode != 0)
		maildrop_set(cf, mode);
	status = maildrop_tell(cf);
	conf_free(&cf);
	return status;
}
