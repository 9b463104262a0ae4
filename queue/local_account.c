#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/local.h"

#define NAME_MAX_BYTES	255u
#define ENTRY_MAX	65536u

/* A name that goes into paths: nothing that leads elsewhere. */
static bool
account_name_ok(struct view name)
{
	size_t i;

	if (name.n == 0 || name.n > NAME_MAX_BYTES || name.p[0] == '-' ||
	    name.p[0] == '.')
		return false;
	for (i = 0; i < name.n; i++)
		if ((unsigned char)name.p[i] <= ' ' || name.p[i] == 0x7f ||
		    name.p[i] == '/' || name.p[i] == ':')
			return false;
	return true;
}

enum account_answer
account_find(struct view name, struct account *ret)
{
	struct passwd pw, *found = NULL;
	char *text, *room;
	int rc;

	if (!account_name_ok(name))
		return ACCOUNT_NONE;
	text = mem_copy(name);
	room = mem_alloc(ENTRY_MAX);
	rc = getpwnam_r(text, &pw, room, ENTRY_MAX, &found);
	/* Some sources say so of a user they do not know. */
	if (rc == ENOENT || rc == ESRCH)
		rc = 0;
	if (found != NULL)
		*ret = (struct account){ .name = text,
			.home = mem_strdup(pw.pw_dir),
			.shell = mem_strdup(pw.pw_shell),
			.uid = pw.pw_uid, .gid = pw.pw_gid };
	else
		free(text);
	free(room);
	return found != NULL ? ACCOUNT_FOUND : rc != 0 ? ACCOUNT_FAILED :
	    ACCOUNT_NONE;
}

void
account_free(struct account *a)
{
	free(a->name);
	free(a->home);
	free(a->shell);
	*a = (struct account){ 0 };
}

/* root, who may no more than the owner of his files. */
static bool
account_powerless(void)
{
	cap_t none = cap_init();
	bool ok = none != NULL && cap_set_proc(none) == 0;

	if (none != NULL)
		(void)cap_free(none);
	return ok;
}

bool
account_become_with(uid_t uid, gid_t gid, gid_t later, struct fate *ret)
{
	(void)umask(077);
	if (!local.root) {
		if (uid == geteuid())
			return true;
		fate_set(ret, RCPT_DEFERRED, "4.3.5", "only root's instance "
		    "can deliver as user id %u", (unsigned)uid);
		return false;
	}
	if (setgroups(1, &gid) != 0 || setresgid(gid, gid, later) != 0 ||
	    setresuid(uid, uid, uid) != 0) {
		fate_errno(ret, "4.3.0", errno, "cannot become user id %u",
		    (unsigned)uid);
		return false;
	}
	if (uid == 0 && !account_powerless()) {
		fate_set(ret, RCPT_DEFERRED, "4.3.0", "cannot drop "
		    "capabilities");
		return false;
	}
	/* The way back must be closed. */
	if (uid != 0 && setuid(0) == 0) {
		fate_set(ret, RCPT_DEFERRED, "4.3.0", "could become root "
		    "again");
		return false;
	}
	/* The user must not look into it. */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return true;
}

bool
account_become(uid_t uid, gid_t gid, struct fate *ret)
{
	return account_become_with(uid, gid, gid, ret);
}

bool
account_join(gid_t later, struct fate *ret)
{
	if (!local.root || setresgid((gid_t)-1, later, (gid_t)-1) == 0)
		return true;
	fate_errno(ret, "4.3.0", errno, "cannot become group id %u",
	    (unsigned)later);
	return false;
}
