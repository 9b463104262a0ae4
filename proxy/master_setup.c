#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/master_setup.h"

static const char *const account_params[SETUP_ACCOUNTS] = {
	"mail_owner", "net_user", "scan_user", "relay_user", "auth_user",
};

const char *const *
setup_account_params(void)
{
	return account_params;
}

const char *
setup_account(const struct conf *cf, size_t i)
{
	const char *const names[SETUP_ACCOUNTS] = {
		cf->mail_owner, cf->net_user, cf->scan_user, cf->relay_user,
		cf->auth_user,
	};

	return names[i];
}

bool
setup_account_is_own(const struct conf *cf, uid_t uid)
{
	const struct passwd *pw;
	size_t i;

	for (i = 0; i < SETUP_ACCOUNTS; i++)
		if ((pw = getpwnam(setup_account(cf, i))) != NULL &&
		    pw->pw_uid == uid)
			return true;
	return false;
}

/* Another account with the same uid could signal and trace our processes. */
static bool
setup_uid_is_unique(const char *param, const char *name, uid_t uid,
    const struct reporter *r)
{
	struct passwd *pw;
	bool ok = true;

	setpwent();
	while (ok && (pw = getpwent()) != NULL)
		if (pw->pw_uid == uid && strcmp(pw->pw_name, name) != 0) {
			report_error(r, "%s: account %s has the same user id "
			    "as %s", param, name, pw->pw_name);
			ok = false;
		}
	endpwent();
	return ok;
}

bool
setup_check_accounts(const struct conf *cf, const struct reporter *r)
{
	uid_t uid[SETUP_ACCOUNTS] = { 0 };
	struct group *gr = getgrnam(cf->setgid_group);
	struct passwd *pw;
	const char *name;
	bool ok = true;
	size_t i, k;

	for (i = 0; i < SETUP_ACCOUNTS; i++) {
		name = setup_account(cf, i);
		pw = getpwnam(name);
		if (pw == NULL) {
			report_error(r, "%s: no such account: %s",
			    account_params[i], name);
			ok = false;
			continue;
		}
		uid[i] = pw->pw_uid;
		if (pw->pw_uid == 0 || pw->pw_gid == 0) {
			report_error(r, "%s: account %s is privileged (user "
			    "or group 0)", account_params[i], name);
			ok = false;
			continue;
		}
		/* What users may borrow must be worth nothing else. */
		if (gr != NULL && gr->gr_gid == pw->pw_gid) {
			report_error(r, "setgid_group and %s must not have "
			    "the same group", account_params[i]);
			ok = false;
		}
		for (k = 0; k < i; k++)
			if (uid[k] == uid[i]) {
				report_error(r, "%s and %s must be different "
				    "accounts", account_params[k],
				    account_params[i]);
				ok = false;
			}
		ok = setup_uid_is_unique(account_params[i], name, uid[i], r) &&
		    ok;
	}
	return ok;
}

static bool
setup_directory(const char *path, uid_t uid, gid_t gid, mode_t mode,
    const struct reporter *r)
{
	struct stat st;
	int fd;

	if (mkdir(path, 0700) == 0) {
		/* By descriptor: nobody can put a link in between. */
		fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
		    O_CLOEXEC);
		if (fd < 0 || (geteuid() == 0 && fchown(fd, uid, gid) != 0) ||
		    fchmod(fd, mode) != 0) {
			report_error(r, "directory %s: %s", path,
			    strerror(errno));
			if (fd >= 0)
				close(fd);
			return false;
		}
		close(fd);
		report_warn(r, "creating missing directory: %s", path);
		return true;
	}
	if (errno != EEXIST) {
		report_error(r, "cannot create directory %s: %s", path,
		    strerror(errno));
		return false;
	}
	if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
		report_error(r, "%s is not a directory", path);
		return false;
	}
	if (st.st_uid != uid)
		report_warn(r, "%s is owned by user id %u, not %u", path,
		    (unsigned)st.st_uid, (unsigned)uid);
	if ((st.st_mode & 07777) != mode)
		report_warn(r, "%s has mode %04o, not %04o", path,
		    (unsigned)st.st_mode & 07777, (unsigned)mode);
	return true;
}

/*
 * maildrop/: 1730 for a set-gid postdrop, 1733 for everybody, 0700 for an
 * ordinary user's own instance.  Each of them is right; see postern(1).
 */
static bool
setup_maildrop(const struct conf *cf, uid_t uid, gid_t gid,
    const struct reporter *r)
{
	struct group *gr = NULL;
	struct stat st;
	mode_t mode = 0700;
	char *path;
	bool ok;

	if (geteuid() == 0)
		gr = getgrnam(cf->setgid_group);
	if (gr != NULL) {
		mode = SETUP_MAILDROP_GROUP;
		gid = gr->gr_gid;
	}
	path = mem_printf("%s/maildrop", cf->queue_directory);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
	    ((st.st_mode & 07777) == SETUP_MAILDROP_GROUP ||
	    (st.st_mode & 07777) == SETUP_MAILDROP_ALL))
		mode = st.st_mode & 07777;
	ok = setup_directory(path, uid, gid, mode, r);
	free(path);
	return ok;
}

/*
 * private/: sockets of servers on this host, such as Dovecot's.  The client
 * of LMTP may pass through it, other users of the host may not.
 */
static bool
setup_private(const struct conf *cf, uid_t uid, gid_t gid,
    const struct reporter *r)
{
	const struct passwd *pw = uid == 0 || geteuid() != 0 ? NULL :
	    getpwnam(cf->relay_user);
	char *path = mem_printf("%s/private", cf->queue_directory);
	bool ok = setup_directory(path, uid, pw != NULL ? pw->pw_gid : gid,
	    0710, r);

	free(path);
	return ok;
}

bool
setup_directories(const struct conf *cf, const struct reporter *r)
{
	/* The first two belong to root even in root's instance. */
	static const struct {
		const char *name;
		mode_t mode;
		bool root;
	} queues[] = {
		{ "pid", 0755, true },
		{ "incoming", 0700, false },
		{ "active", 0700, false },
		{ "deferred", 0700, false },
		{ "hold", 0700, false },
		{ "corrupt", 0700, false },
		{ "journal", 0700, false },
		{ "bounce", 0700, false },
		{ "defer", 0700, false },
		{ "public", 0710, false },
	};
	uid_t me = geteuid(), uid = me;
	gid_t my_group = getegid(), gid = my_group;
	struct passwd *pw;
	char *path;
	bool ok;
	size_t i;

	if (me == 0) {
		pw = getpwnam(cf->mail_owner);
		if (pw == NULL)
			return false;
		uid = pw->pw_uid;
		gid = pw->pw_gid;
	}
	ok = setup_directory(cf->queue_directory, me, my_group, 0755, r) &&
	    setup_directory(cf->data_directory, me, my_group, 0755, r);
	for (i = 0; ok && i < sizeof queues / sizeof queues[0]; i++) {
		path = mem_printf("%s/%s", cf->queue_directory,
		    queues[i].name);
		ok = setup_directory(path, queues[i].root ? me : uid,
		    queues[i].root ? my_group : gid, queues[i].mode, r);
		free(path);
	}
	ok = ok && setup_private(cf, uid, gid, r) &&
	    setup_maildrop(cf, uid, gid, r);
	if (ok) {
		path = mem_printf("%s/empty", cf->data_directory);
		ok = setup_directory(path, me, my_group, 0555, r);
		free(path);
	}
	return ok;
}

static void
setup_check_file(const char *path, const struct reporter *r)
{
	struct stat st;

	if (stat(path, &st) != 0) {
		report_warn(r, "%s: %s", path, strerror(errno));
		return;
	}
	if (st.st_uid != 0 && st.st_uid != geteuid())
		report_warn(r, "%s is owned by user id %u, not by root", path,
		    (unsigned)st.st_uid);
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		report_warn(r, "%s can be changed by group or others (mode "
		    "%04o)", path, (unsigned)st.st_mode & 07777);
}

void
setup_check_permissions(const char *config_dir, const struct reporter *r)
{
	struct dirent *d;
	char *path;
	DIR *dir;

	setup_check_file(config_dir, r);
	dir = opendir(config_dir);
	if (dir == NULL)
		return;
	while ((d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.')
			continue;
		path = mem_printf("%s/%s", config_dir, d->d_name);
		setup_check_file(path, r);
		free(path);
	}
	closedir(dir);
}

bool
setup_check_programs(const struct conf *cf, const struct plan *p,
    const struct reporter *r)
{
	bool ok = true;
	char *path;
	size_t i;

	for (i = 0; i < p->n; i++) {
		if (i > 0 && p->list[i].kind == p->list[i - 1].kind &&
		    p->list[i].kind != ROLE_TABLE)
			continue;
		path = mem_printf("%s/%s", cf->daemon_directory,
		    plan_program(&p->list[i]));
		if (access(path, X_OK) != 0) {
			report_error(r, "%s: %s%s", path, strerror(errno),
			    p->list[i].kind == ROLE_TABLE ? ", but tables of "
			    "this type are configured" : "");
			ok = false;
		}
		free(path);
	}
	return ok;
}
