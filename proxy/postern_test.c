/* postern test: the command, and what its steps share. */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/conf_source.h"
#include "lib/mem.h"
#include "lib/own_addr.h"
#include "proxy/postern_test.h"
#include "rules/addr_list.h"
#include "rules/class.h"

#define LINE_MAX_SHOWN	1500u
#define WAIT_DEFAULT_S	30
#define WAIT_MAX_S	3600

static const struct {
	const char *word, *colour;
} marks[MARKS] = {
	[MARK_OK] = { "ok", "32" },
	[MARK_NOTE] = { "note", "33" },
	[MARK_FAILED] = { "FAILED", "31" },
	[MARK_NOT_DONE] = { "not done", "2" },
};

void
selftest_title(const char *fmt, ...)
{
	va_list ap;

	putchar('\n');
	va_start(ap, fmt);
	(void)vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	(void)fflush(stdout);
}

void
selftest_mark(struct selftest *s, enum selftest_mark mark, const char *look,
    const char *fmt, ...)
{
	bool tty = isatty(STDOUT_FILENO) == 1;
	char text[LINE_MAX_SHOWN];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (tty)
		printf("  \033[%sm%-9s\033[0m %s\n", marks[mark].colour,
		    marks[mark].word, text);
	else
		printf("  %-9s %s\n", marks[mark].word, text);
	if (look != NULL)
		printf("            look at %s\n", look);
	s->count->marks[mark]++;
	(void)fflush(stdout);
}

const char *
selftest_place(const struct selftest *s, const struct conf *cf,
    const char *name)
{
	static char place[LINE_MAX_SHOWN];
	const struct conf_setting *at = conf_source_find(cf->source,
	    view_of(name));
	const struct conf_setting *file = conf_source_find(s->cf->source,
	    view_of(name));
	const char *value = conf_text(cf, view_of(name));
	struct view shown = view_head(view_of(value != NULL ? value : ""),
	    300);

	if (at != NULL && at->override)
		snprintf(place, sizeof place, "%s/master.cf: -o %s=%s",
		    s->config_dir, name, log_safe(shown));
	else if (file != NULL && file->line > 0)
		snprintf(place, sizeof place, "%s/main.cf:%u: %s = %s",
		    s->config_dir, file->line, name, log_safe(shown));
	else
		snprintf(place, sizeof place, "%s in %s/main.cf, which is not "
		    "set there (default: %s)", name, s->config_dir,
		    shown.n > 0 ? log_safe(shown) : "empty");
	return place;
}

void
selftest_new_id(struct selftest *s)
{
	static unsigned number;

	free(s->message_id);
	s->message_id = mem_printf("postern-test.%lld.%d.%u@%s",
	    (long long)clock_wall().us, (int)getpid(), ++number,
	    s->cf->myhostname);
}

char *
selftest_message(const struct selftest *s, const char *to,
    const char *subject)
{
	return mem_printf("From: <%s>\nTo: <%s>\nSubject: %s\n"
	    "Message-ID: <%s>\nAuto-Submitted: auto-generated\n\n"
	    "This is a test of the mail gateway %s, made with `postern test`.\n"
	    "You may delete it.\n", s->postmaster, to, subject,
	    s->message_id, s->cf->myhostname);
}

/* -- without root's rights ------------------------------------------------- */

static void
apart_become(const struct conf *cf)
{
	struct passwd *pw;

	if (geteuid() == 0) {
		pw = getpwnam(cf->net_user);
		if (pw == NULL || pw->pw_uid == 0)
			fatal("net_user: no such account: %s", cf->net_user);
		if (setgroups(0, NULL) != 0 ||
		    setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) != 0 ||
		    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) != 0)
			fatal("cannot become %s: %s", cf->net_user,
			    strerror(errno));
	}
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

void
selftest_apart(struct selftest *s, void (*fn)(struct selftest *s,
    const void *arg), const void *arg)
{
	int status = 0;
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (pid < 0)
		fatal("fork: %s", strerror(errno));
	if (pid == 0) {
		(void)signal(SIGPIPE, SIG_IGN);
		apart_become(s->cf);
		fn(s, arg);
		(void)fflush(stdout);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		selftest_mark(s, MARK_FAILED, NULL, "this step itself broke "
		    "down (status %d)", status);
}

/* -- whom we may ask ------------------------------------------------------- */

static void
silent(bool error, const char *text, void *arg)
{
	(void)error;
	(void)text;
	(void)arg;
}

/* The first word of a list that is a domain itself. */
static struct view
first_domain(const char *list)
{
	struct view rest = view_of(list), word;

	while ((word = conf_word(&rest)).n > 0)
		if (!view_has(word, ':') && !view_has(word, '/') &&
		    !view_has(word, '[') && !view_has(word, '{') &&
		    word.p[0] != '!' && word.p[0] != '.' &&
		    view_has(word, '.'))
			return word;
	return view_of("");
}

static void
choose_postmaster(struct selftest *s, const struct classes *k)
{
	const char *const lists[] = { s->cf->mydestination,
		s->cf->virtual_alias_domains, s->cf->virtual_mailbox_domains,
		s->cf->relay_domains };
	struct view domain = view_of(s->cf->myorigin);
	size_t i;

	if (class_of(k, domain) == CLASS_OTHER)
		for (i = 0; i < sizeof lists / sizeof lists[0]; i++)
			if (first_domain(lists[i]).n > 0) {
				domain = first_domain(lists[i]);
				break;
			}
	s->postmaster = mem_printf("postmaster@%.*s", VIEW_ARGS(domain));
}

/* Names and addresses that nobody has (RFC 2606, RFC 5737), so that even a
 * mistake of ours would reach nobody. */
static void
choose_strangers(struct selftest *s, const struct classes *k,
    const struct addr_list *trusted)
{
	static const char *const domains[] = { "example.net", "example.org",
		"example.com", "postern-test.example" };
	static const char *const clients[] = { "192.0.2.171",
		"198.51.100.171", "203.0.113.171", "2001:db8::171" };
	struct netaddr a;
	size_t i;

	for (i = 0; i < 4 && s->stranger == NULL; i++)
		if (class_of(k, view_of(domains[i])) == CLASS_OTHER)
			s->stranger = mem_printf("postern-test@%s",
			    domains[i]);
	for (i = 0; i < 4 && s->outside == NULL; i++)
		if (trusted == NULL || (netaddr_parse(view_of(clients[i]), &a)
		    && net_list_match(trusted, view_of("unknown"), &a) ==
		    TABLE_NOT_FOUND))
			s->outside = mem_strdup(clients[i]);
}

static void
choose(struct selftest *s)
{
	struct netaddr own[OWN_ADDR_MAX];
	size_t n = own_addresses(s->cf, own, OWN_ADDR_MAX);
	struct classes *k = classes_open(s->cf, own, n, silent, NULL);
	struct addr_list *trusted = net_list_open("mynetworks",
	    s->cf->mynetworks, s->config_dir, silent, NULL);

	s->name = mem_printf("postern-test.%s", s->cf->myhostname);
	if (k == NULL)
		fatal("the lists of domains cannot be read: see `postern "
		    "check`");
	choose_postmaster(s, k);
	choose_strangers(s, k, trusted);
	addr_list_free(&trusted);
	classes_free(&k);
}

/* -- the command ----------------------------------------------------------- */

__attribute__((noreturn))
static void
test_usage(void)
{
	fatal("usage: postern test [--to ADDRESS] [--local USER] [--remote "
	    "ADDRESS] [--probe] [--wait SECONDS]");
}

static const char *
test_address(const char *text, bool at)
{
	const char *p;

	for (p = text; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 127 ||
		    strchr("<>,;\"\\", *p) != NULL)
			fatal("not an address: %s", log_safe(view_of(text)));
	if (text[0] == '\0' || text[0] == '-' || strlen(text) > 320 ||
	    (at && strchr(text, '@') == NULL))
		fatal("not an address: %s", log_safe(view_of(text)));
	return text;
}

static void
test_words(struct selftest *s, int argc, char **argv)
{
	static const struct option options[] = {
		{ "to", required_argument, NULL, 't' },
		{ "local", required_argument, NULL, 'l' },
		{ "remote", required_argument, NULL, 'r' },
		{ "probe", no_argument, NULL, 'p' },
		{ "wait", required_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	int64_t seconds = WAIT_DEFAULT_S;
	int ch;

	optind = 0;	/* words may stand before options */
	while ((ch = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (ch == 't')
			s->to = test_address(optarg, true);
		else if (ch == 'l')
			s->local = test_address(optarg, false);
		else if (ch == 'r')
			s->remote = test_address(optarg, true);
		else if (ch == 'p')
			s->probe = true;
		else if (ch != 'w' || !conf_parse_int(view_of(optarg), 1,
		    WAIT_MAX_S, &seconds))
			test_usage();
	}
	if (optind != argc)
		test_usage();
	s->limit_ms = seconds * 1000;
}

static void
test_sent(struct selftest *s)
{
	if (s->local == NULL) {
		selftest_title("Local mail");
		selftest_mark(s, MARK_NOT_DONE, NULL, "nobody was named: "
		    "postern test --local USER");
	} else {
		selftest_title("Local mail, handed in by sendmail for %s",
		    s->local);
		selftest_hand_in(s, s->local);
	}
	if (s->remote == NULL) {
		selftest_title("Remote mail");
		selftest_mark(s, MARK_NOT_DONE, NULL, "nobody was named: "
		    "postern test --remote ADDRESS");
	} else {
		selftest_title("Remote mail, handed in by sendmail for %s",
		    s->remote);
		selftest_hand_in(s, s->remote);
	}
}

static int
test_result(const struct selftest *s)
{
	const unsigned *n = s->count->marks;

	printf("\n%u ok, %u failed, %u worth a look, %u not done.\n",
	    n[MARK_OK], n[MARK_FAILED], n[MARK_NOTE], n[MARK_NOT_DONE]);
	return n[MARK_FAILED] > 0 ? 1 : 0;
}

static void
test_run(struct selftest *s)
{
	selftest_instance(s);
	selftest_dns(s);
	selftest_sessions(s);
	selftest_rules(s);
	selftest_next_hops(s);
	test_sent(s);
	selftest_log_check(s);
}

int
postern_test(struct postern *p, int argc, char **argv)
{
	struct reporter all = postern_reporter;
	const struct reporter errors = { report_errors_only, &all };
	struct selftest s = { .config_dir = p->config_dir };
	struct master m = { .config_dir = p->config_dir };
	struct config *c;
	int status;

	test_words(&s, argc, argv);
	c = config_load(&m, &errors);
	if (c == NULL)
		return 1;
	s.c = c;
	s.cf = c->cf;
	if (postern_running(s.cf) == 0) {
		printf("Postern is not running\n");
		config_free(&c);
		return POSTERN_NOT_RUNNING;
	}
	s.count = mmap(NULL, sizeof *s.count, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s.count == MAP_FAILED)
		fatal("no memory");
	choose(&s);
	s.log = selftest_log_open(s.cf);
	test_run(&s);
	status = test_result(&s);
	selftest_log_free(&s.log);
	(void)munmap(s.count, sizeof *s.count);
	free(s.name);
	free(s.postmaster);
	free(s.stranger);
	free(s.outside);
	free(s.message_id);
	config_free(&c);
	return status;
}
