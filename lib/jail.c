#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/jail.h"
#include "lib/log.h"
#include "lib/mem.h"

#if defined(__SANITIZE_ADDRESS__)
#define JAIL_SANITIZER	1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define JAIL_SANITIZER	1
#endif
#endif

#define CALLS_MAX	64
#define NAMES_MAX	512	/* numbers of system calls that have names */
#define LIST_MAX	4096u	/* instructions; the kernel's own limit */

struct jail_calls {
	uint32_t set;		/* 0: everybody */
	int call[CALLS_MAX];	/* ends with 0 and -1 is skipped */
};

#define NR(name)	SCMP_SYS(name)
#define END		INT32_MAX

static const struct jail_calls calls[] = {
	{ 0, {
		NR(read), NR(readv), NR(pread64), NR(preadv), NR(write),
		NR(writev), NR(pwrite64), NR(pwritev), NR(close), NR(lseek),
		NR(ftruncate), NR(recvmsg), NR(sendmsg), NR(recvfrom),
		NR(sendto), NR(shutdown), NR(getsockopt), NR(setsockopt),
		NR(getsockname), NR(getpeername), NR(epoll_wait),
		NR(epoll_pwait), NR(epoll_ctl), NR(poll), NR(ppoll),
		NR(fcntl), NR(fstat), NR(munmap), NR(mremap), NR(madvise),
		NR(brk), NR(futex), NR(clock_gettime), NR(clock_nanosleep),
		NR(nanosleep), NR(gettimeofday), NR(time), NR(getpid),
		NR(gettid), NR(getuid), NR(geteuid), NR(getrandom),
		NR(rt_sigaction), NR(rt_sigprocmask), NR(rt_sigreturn),
		NR(sigaltstack), NR(restart_syscall), NR(sched_yield),
		NR(exit), NR(exit_group), NR(rseq), NR(sendfile),
		/* qsort() asks how much memory there is */
		NR(sysinfo), END } },
	{ JAIL_ACCEPT, { NR(accept), NR(accept4), END } },
	{ JAIL_CONNECT, { NR(socket), NR(connect), NR(bind), END } },
	{ JAIL_THREADS, {
		NR(set_robust_list),
		NR(sched_getaffinity), NR(pipe2), NR(eventfd2),
		/* libunbound's thread makes an event loop of its own */
		NR(epoll_create1), NR(getgid), NR(getegid), END } },
	{ JAIL_MEMFD, { NR(memfd_create), END } },
	{ JAIL_FILES, {
		NR(open), NR(openat), NR(stat), NR(lstat), NR(newfstatat),
		NR(statx), NR(rename), NR(renameat), NR(renameat2),
		NR(unlink), NR(unlinkat), NR(link), NR(linkat), NR(mkdir),
		NR(mkdirat), NR(fsync), NR(fdatasync), NR(syncfs),
		NR(fchmod), NR(utimensat), NR(getdents64), NR(fallocate),
		NR(copy_file_range), NR(statfs), NR(fstatfs), NR(access),
		NR(faccessat), NR(faccessat2), NR(flock), NR(getcwd), END } },
	{ JAIL_READ_FILES, {
		NR(stat), NR(lstat), NR(newfstatat), NR(statx), NR(access),
		NR(faccessat), NR(faccessat2), NR(uname), END } },
	{ JAIL_MAILDROP, {
		NR(newfstatat), NR(statx), NR(getdents64), NR(unlinkat),
		NR(flock), END } },
	{ JAIL_READ_DIRS, { NR(getdents64), END } },
	{ JAIL_FORK, {
		NR(clone), NR(fork), NR(wait4), NR(kill), NR(socketpair),
		NR(set_robust_list), NR(prlimit64), NR(setrlimit), NR(prctl),
		NR(setitimer), NR(seccomp), END } },
	{ JAIL_RESOLVE, { NR(sendmmsg), END } },
	{ JAIL_SYNC, { NR(fdatasync), END } },
	{ JAIL_LIBMILTER, {
		NR(accept), NR(accept4), NR(pipe), NR(rt_sigtimedwait),
		END } },
#ifdef JAIL_SANITIZER
	/* What the run-time needs to print a report and to check leaks. */
	{ 0, {
		NR(open), NR(openat), NR(readlink), NR(readlinkat),
		NR(newfstatat), NR(stat), NR(getcwd), NR(prctl), NR(clone),
		NR(wait4), NR(ptrace), NR(getdents64), NR(tgkill), NR(kill),
		NR(sysinfo), NR(pipe), NR(pipe2), NR(ioctl), NR(uname),
		NR(sched_getaffinity), NR(getrlimit), NR(prlimit64),
		NR(mlock), NR(getppid), NR(exit_group), NR(dup), NR(dup2),
		NR(dup3), NR(process_vm_readv), NR(rt_sigtimedwait),
		NR(getrusage), NR(set_robust_list), NR(clone3), END } },
#endif
};

/*
 * By number, for the handler: to look one up allocates, and whatever made the
 * call may hold a lock of the allocator, or of the C library's time zone.
 */
static const char *call_names[NAMES_MAX];

static void
jail_names(void)
{
	int call;

	for (call = 0; call < NAMES_MAX; call++)
		if (call_names[call] == NULL)
			call_names[call] = seccomp_syscall_resolve_num_arch(
			    SCMP_ARCH_NATIVE, call);
}

static void
jail_forbidden(int sig, siginfo_t *info, void *context)
{
	int call = info->si_syscall;

	(void)sig;
	(void)context;
	log_from_signal("panic: forbidden system call ", call >= 0 &&
	    call < NAMES_MAX ? call_names[call] : NULL, (unsigned)call);
	/* The default action of SIGSYS tells the parent what happened. */
	signal(SIGSYS, SIG_DFL);
	(void)raise(SIGSYS);
	_exit(1);
}

static void
jail_rule(scmp_filter_ctx f, int call, unsigned n,
    const struct scmp_arg_cmp *args)
{
	int rc = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, call, n, args);

	/* A call this machine does not have. */
	if (rc != 0 && rc != -EDOM && rc != -EEXIST)
		fatal("seccomp rule for call %d: %s", call, strerror(-rc));
}

/* Libraries look for files that they can do without. */
static void
jail_no_files(scmp_filter_ctx f)
{
	static const int looks[] = { NR(open), NR(openat), NR(stat),
		NR(lstat), NR(statx), NR(access), NR(faccessat),
		NR(faccessat2), NR(readlink), NR(readlinkat) };
	const struct scmp_arg_cmp path[] = {
		SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, 0) };
	const uint32_t no = SCMP_ACT_ERRNO(EACCES);
	size_t i;

	for (i = 0; i < sizeof looks / sizeof looks[0]; i++)
		(void)seccomp_rule_add(f, no, looks[i], 0);
	(void)seccomp_rule_add_array(f, no, NR(newfstatat), 1, path);
}

static scmp_filter_ctx
jail_rules(const struct jail_spec *spec)
{
	const struct scmp_arg_cmp not_exec[] = {
		SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) };
	const struct scmp_arg_cmp read_only[] = {
		SCMP_A2(SCMP_CMP_MASKED_EQ,
		    O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY) };
	const struct scmp_arg_cmp empty_path[] = {
		SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH) };
	/* A thread, never a process. */
	const struct scmp_arg_cmp thread[] = {
		SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD) };
	const struct scmp_arg_cmp how_much[] = {
		SCMP_A1(SCMP_CMP_EQ, FIONREAD, 0) };
	const struct scmp_arg_cmp own_process[] = {
		SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0) };
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_TRAP);
	size_t i, k;

	if (f == NULL)
		fatal("seccomp_init failed");
	/* Threads that exist already are bound too. */
	(void)seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1);
	(void)seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	(void)seccomp_attr_set(f, SCMP_FLTATR_CTL_SSB, 1);
	for (i = 0; i < sizeof calls / sizeof calls[0]; i++) {
		if (calls[i].set != 0 && (calls[i].set & spec->allow) == 0)
			continue;
		for (k = 0; calls[i].call[k] != END; k++)
			jail_rule(f, calls[i].call[k], 0, NULL);
	}
	jail_rule(f, NR(mmap), 1, not_exec);
	jail_rule(f, NR(mprotect), 1, not_exec);
	/* The list is made in another process than the one it is for. */
	if ((spec->allow & JAIL_WORK) == 0)
		jail_rule(f, NR(tgkill), 1, own_process);
	if ((spec->allow & (JAIL_FILES | JAIL_READ_FILES |
	    JAIL_MAILDROP)) == 0)
		jail_rule(f, NR(newfstatat), 1, empty_path);
	if ((spec->allow & (JAIL_READ_FILES | JAIL_MAILDROP)) != 0)
		jail_rule(f, NR(openat), 1, read_only);
	if ((spec->allow & JAIL_RESOLVE) != 0)
		jail_rule(f, NR(ioctl), 1, how_much);
	if ((spec->allow & JAIL_THREADS) != 0)
		jail_rule(f, NR(clone), 1, thread);
	if ((spec->allow & (JAIL_FORK | JAIL_WORK | JAIL_LIBMILTER)) != 0)
		jail_no_files(f);
	/* It removes its socket at the end, if it can. */
	if ((spec->allow & JAIL_LIBMILTER) != 0)
		(void)seccomp_rule_add(f, SCMP_ACT_ERRNO(EACCES), NR(unlink),
		    0);
	if ((spec->allow & (JAIL_THREADS | JAIL_FORK)) != 0) {
		/* Its flags lie in memory, where no filter can look; without
		 * it the C library uses clone. */
		(void)seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), NR(clone3),
		    0);
	}
	return f;
}

static void
jail_filter(const struct jail_spec *spec)
{
	struct sigaction sa = { 0 };
	scmp_filter_ctx f = jail_rules(spec);
	int rc;

	jail_names();
	sa.sa_sigaction = jail_forbidden;
	sa.sa_flags = SA_SIGINFO | SA_NODEFER;
	(void)sigaction(SIGSYS, &sa, NULL);
	rc = seccomp_load(f);
	if (rc != 0)
		fatal("seccomp_load: %s", strerror(-rc));
	seccomp_release(f);
}

static void
jail_limits(const struct jail_spec *spec)
{
	struct rlimit none = { 0, 0 }, files;

#ifndef JAIL_SANITIZER
	/* A core file would hold mail. */
	if (setrlimit(RLIMIT_CORE, &none) != 0)
		fatal("setrlimit: %s", strerror(errno));
	/* Threads count as processes of the user. */
	if ((spec->allow & (JAIL_THREADS | JAIL_FORK)) == 0 &&
	    setrlimit(RLIMIT_NPROC, &none) != 0)
		fatal("setrlimit: %s", strerror(errno));
#else
	(void)none;
#endif
	if (spec->max_files > 0 && getrlimit(RLIMIT_NOFILE, &files) == 0) {
		/* As root both may be raised; else as far as allowed. */
		files.rlim_cur = spec->max_files;
		if (geteuid() == 0 && files.rlim_max < spec->max_files)
			files.rlim_max = spec->max_files;
		if (files.rlim_cur > files.rlim_max)
			files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

#define GROUPS_MAX	64

/* The primary one first; root's is left out. */
static int
jail_groups(const struct jail_spec *spec, const struct passwd *pw,
    gid_t *groups)
{
	int n = GROUPS_MAX, i, kept = 1;

	if (!spec->groups || getgrouplist(pw->pw_name, pw->pw_gid, groups,
	    &n) < 0)
		n = 0;
	for (i = 0; i < n; i++)
		if (groups[i] != 0 && groups[i] != pw->pw_gid)
			groups[kept++] = groups[i];
	groups[0] = pw->pw_gid;
	return kept;
}

void
jail_enter_unfiltered(const struct jail_spec *spec, const char *user,
    const char *root)
{
	struct passwd *pw = NULL;
	gid_t gid, groups[GROUPS_MAX];
	int n_groups = 0;

	if (user != NULL) {
		errno = 0;
		pw = getpwnam(user);
		if (pw == NULL)
			fatal("no such account: %s", user);
		if (pw->pw_uid == 0 || pw->pw_gid == 0)
			fatal("account %s is privileged", user);
	}
	if (pw != NULL)
		n_groups = jail_groups(spec, pw, groups);
	jail_limits(spec);
	if (root != NULL && (chroot(root) != 0 || chdir("/") != 0))
		fatal("chroot %s: %s", root, strerror(errno));
	if (pw != NULL) {
		gid = pw->pw_gid;
		if (setgroups((size_t)n_groups, groups) != 0 ||
		    setresgid(gid, gid, gid) != 0 ||
		    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) != 0)
			fatal("cannot become %s: %s", user, strerror(errno));
		/* The way back must be closed. */
		if (setuid(0) == 0)
			fatal("could become root again");
	}
#ifndef JAIL_SANITIZER
	/* Roles of one account must not read each other's memory. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		fatal("PR_SET_DUMPABLE: %s", strerror(errno));
#endif
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		fatal("no_new_privs: %s", strerror(errno));
}

void
jail_enter(const struct jail_spec *spec, const char *user, const char *root)
{
	jail_enter_unfiltered(spec, user, root);
	jail_filter(spec);
}

/* -- who starts roles ------------------------------------------------------ */

void
jail_drop_capabilities(bool namespaces)
{
	static const cap_value_t kept[] = { CAP_SETUID, CAP_SETGID,
		CAP_SYS_CHROOT, CAP_NET_BIND_SERVICE, CAP_KILL, CAP_CHOWN,
		CAP_DAC_OVERRIDE, CAP_FOWNER,
		/* the last one */
		CAP_SETFCAP };
	size_t n = sizeof kept / sizeof kept[0] - (namespaces ? 0 : 1);
	cap_t c = cap_get_proc();
	cap_value_t v;
	size_t i;

	if (c == NULL)
		fatal("cannot read capabilities: %s", strerror(errno));
	for (v = 0; v <= CAP_LAST_CAP; v++) {
		for (i = 0; i < n; i++)
			if (kept[i] == v)
				break;
		if (i < n)
			continue;
		(void)cap_drop_bound(v);
		(void)cap_set_flag(c, CAP_PERMITTED, 1, &v, CAP_CLEAR);
		(void)cap_set_flag(c, CAP_EFFECTIVE, 1, &v, CAP_CLEAR);
		(void)cap_set_flag(c, CAP_INHERITABLE, 1, &v, CAP_CLEAR);
	}
	if (cap_set_proc(c) != 0)
		fatal("cannot drop capabilities: %s", strerror(errno));
	cap_free(c);
}

/* -- a narrower one -------------------------------------------------------- */

struct jail_list {
	struct sock_fprog program;
	struct sock_filter code[LIST_MAX];
};

struct jail_list *
jail_compile(const struct jail_spec *spec)
{
	struct jail_list *l = mem_alloc(sizeof *l);
	int fd = memfd_create("list", MFD_CLOEXEC);
	scmp_filter_ctx f = jail_rules(spec);
	ssize_t n = -1;

	if (fd >= 0 && seccomp_export_bpf(f, fd) == 0)
		n = pread(fd, l->code, sizeof l->code, 0);
	if (n <= 0 || (size_t)n % sizeof l->code[0] != 0 ||
	    (size_t)n == sizeof l->code)
		fatal("the list of system calls cannot be made");
	seccomp_release(f);
	(void)close(fd);
	l->program = (struct sock_fprog){ .filter = l->code,
		.len = (unsigned short)((size_t)n / sizeof l->code[0]) };
	return l;
}

uint64_t
jail_memory(void)
{
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	char text[20] = "", *p = text;
	uint64_t pages = 0;
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof text - 1);
	(void)close(fd);
	while (p < text + sizeof text && *p >= '0' && *p <= '9')
		pages = 10 * pages + (uint64_t)(*p++ - '0');
	return n <= 0 ? 0 : pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void
jail_narrow(const struct jail_list *l, uint64_t memory, uint32_t seconds)
{
	struct rlimit cpu = { seconds, seconds };

#ifndef JAIL_SANITIZER
	struct rlimit none = { 0, 0 }, most = { memory, memory };

	if (setrlimit(RLIMIT_NPROC, &none) != 0 ||
	    (memory > 0 && setrlimit(RLIMIT_AS, &most) != 0))
		fatal("setrlimit: %s", strerror(errno));
#else
	(void)memory;
#endif
	if (setrlimit(RLIMIT_CPU, &cpu) != 0)
		fatal("setrlimit: %s", strerror(errno));
	if (l != NULL && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &l->program, 0,
	    0) != 0))
		fatal("a narrower jail: %s", strerror(errno));
}
