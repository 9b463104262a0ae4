#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/mem.h"
#include "proxy/postern.h"
#include "proxy/postern_files.h"

#ifndef POSTERN_STOCK
#define POSTERN_STOCK	"/usr/share/postern/stock"
#endif
#define RULE_FILE_MAX	(16u << 20)

struct init {
	char *dir;		/* absolute */
	const char *domain, *hostname;
	char *listen, *relay;	/* as they stand in the files */
	char *cert, *key;	/* of TLS; absolute; NULL: none */
	char *daemons, *commands, *stock;
};

/* -- files ----------------------------------------------------------------- */

static void
init_directory(const char *path, mode_t mode)
{
	if (mkdir(path, mode) == 0) {
		if (chmod(path, mode) != 0)
			fatal("%s: %s", path, strerror(errno));
		return;
	}
	if (errno != EEXIST)
		fatal("cannot create directory %s: %s", path, strerror(errno));
}

/* Never over an existing file. */
static void
init_write(const char *path, struct view text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
	    O_CLOEXEC, 0600);

	if (fd < 0)
		fatal("cannot create %s: %s", path, strerror(errno));
	if (write(fd, text.p, text.n) != (ssize_t)text.n ||
	    fchmod(fd, mode) != 0 || close(fd) != 0)
		fatal("cannot write %s: %s", path, strerror(errno));
}

static void
init_copy(const char *from, const char *to)
{
	int fd = open(from, O_RDONLY | O_CLOEXEC);
	struct buf b;
	ssize_t n;
	char *p;

	if (fd < 0)
		fatal("cannot read %s: %s", from, strerror(errno));
	buf_init(&b, RULE_FILE_MAX);
	while ((p = buf_room(&b, 65536)) != NULL &&
	    (n = read(fd, p, 65536)) > 0)
		b.n += (size_t)n;
	close(fd);
	init_write(to, buf_view(&b), 0644);
	buf_free(&b);
}

static void
init_rules(const struct init *in)
{
	static const char *const needed[] = { "header_checks", "body_checks",
		"attachment_checks" };
	DIR *dir = opendir(in->stock);
	struct dirent *d;
	struct stat st;
	char *from, *to;
	size_t i;

	while (dir != NULL && (d = readdir(dir)) != NULL) {
		from = mem_printf("%s/%s", in->stock, d->d_name);
		to = mem_printf("%s/etc/%s", in->dir, d->d_name);
		if (d->d_name[0] != '.' && stat(from, &st) == 0 &&
		    S_ISREG(st.st_mode))
			init_copy(from, to);
		free(from);
		free(to);
	}
	if (dir != NULL)
		closedir(dir);
	for (i = 0; i < sizeof needed / sizeof needed[0]; i++) {
		to = mem_printf("%s/etc/%s", in->dir, needed[i]);
		if (access(to, F_OK) != 0) {
			log_warn("no shipped rules in %s: %s is empty",
			    in->stock, to);
			init_write(to, view_of(postern_rules_text), 0644);
		}
		free(to);
	}
}

/*
 * Replace each @WORD@ of a template.  The values were checked; none of them
 * can hold a line end.
 */
static void
init_template(const struct init *in, const char *template, const char *file)
{
	const struct {
		const char *word, *value;
	} words[] = {
		{ "DIR", in->dir },
		{ "DAEMONS", in->daemons },
		{ "COMMANDS", in->commands },
		{ "DOMAIN", in->domain },
		{ "HOSTNAME", in->hostname != NULL ? in->hostname :
		    "gateway.example.com" },
		{ "HOSTNAME?", in->hostname != NULL ? "" : "#" },
		{ "TLS?", in->cert != NULL ? "" : "#" },
		{ "CERT", in->cert != NULL ? in->cert :
		    "/etc/ssl/certs/gateway.pem" },
		{ "KEY", in->key != NULL ? in->key :
		    "/etc/ssl/private/gateway.key" },
		{ "LISTEN", in->listen },
		{ "RELAY", in->relay },
	};
	struct view rest = view_of(template), word;
	struct buf out;
	size_t i, n;
	char *path;

	buf_init(&out, 65536);
	while (rest.n > 0) {
		n = view_find(rest, '@');
		(void)buf_putv(&out, view_head(rest, n));
		rest = view_from(rest, n);
		if (rest.n == 0)
			break;
		word = view_from(rest, 1);
		word = view_head(word, view_find(word, '@'));
		for (i = 0; i < sizeof words / sizeof words[0]; i++)
			if (view_is(word, words[i].word))
				break;
		if (i < sizeof words / sizeof words[0]) {
			(void)buf_puts(&out, words[i].value);
			rest = view_from(rest, word.n + 2);
		} else {
			(void)buf_putc(&out, '@');
			rest = view_from(rest, 1);
		}
	}
	path = mem_printf("%s/etc/%s", in->dir, file);
	init_write(path, buf_view(&out), 0644);
	free(path);
	buf_free(&out);
}

/* -- where things are ------------------------------------------------------ */

static char *
init_find(const char *here, const char *const *candidates, size_t n,
    const char *probe, const char *fallback)
{
	char *path, *test, *full;
	bool found;
	size_t i;

	for (i = 0; i < n; i++) {
		path = mem_printf("%s/%s", here, candidates[i]);
		test = mem_printf("%s/%s", path, probe);
		found = access(test, F_OK) == 0;
		full = found ? realpath(path, NULL) : NULL;
		free(test);
		free(path);
		if (full != NULL)
			return full;
	}
	return mem_strdup(fallback);
}

/* From the place of this program: a build tree, or an installation. */
static void
init_places(struct init *in)
{
	static const char *const daemons[] = { "../libexec",
		"../libexec/postern", "../lib/postern" };
	static const char *const stock[] = { "../share/postern/stock",
		"../../rules/stock", "../../../rules/stock",
		"../../../../rules/stock" };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *slash;

	if (n < 0)
		fatal("cannot find my own place: %s", strerror(errno));
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash != NULL)
		*slash = '\0';
	in->commands = mem_strdup(self);
	in->daemons = init_find(self, daemons,
	    sizeof daemons / sizeof daemons[0], "master", "");
	if (in->daemons[0] == '\0')
		fatal("the role programs are not beside %s", self);
	in->stock = init_find(self, stock, sizeof stock / sizeof stock[0],
	    ".", POSTERN_STOCK);
}

/* -- words of the caller --------------------------------------------------- */

/* A value goes into a file: nothing in it may start another line or a $. */
static void
init_plain(const char *what, const char *value)
{
	const char *p;

	for (p = value; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '$' ||
		    *p == '@')
			fatal("%s must not contain white space, $ or @: %s",
			    what, log_safe(view_of(value)));
}

static char *
init_hostport(const char *what, const char *value, bool next_hop)
{
	struct netaddr a;
	struct view host;
	uint16_t port;

	init_plain(what, value);
	if (!netaddr_split_hostport(view_of(value), &host, &port, 0) ||
	    port == 0)
		fatal("%s: ADDRESS:PORT expected, not %s", what, value);
	if (host.n == 0 && next_hop)
		fatal("%s: a host is missing in %s", what, value);
	if (host.n > 0 && !netaddr_parse(host, &a) &&
	    !address_valid_hostname(host))
		fatal("%s: no such address or host name: %s", what, value);
	if (!next_hop && port < 1024 && geteuid() != 0)
		fatal("%s: only root may use port %u; take one above 1023",
		    what, port);
	/* In brackets: this host itself, not its mail exchangers. */
	if (next_hop || (host.n > 0 && view_find(host, ':') < host.n))
		return mem_printf("[%.*s]:%u", VIEW_ARGS(host), port);
	if (host.n == 0)
		return mem_printf("%u", port);
	return mem_printf("%.*s:%u", VIEW_ARGS(host), port);
}

static void
init_hostname(const char *what, const char *value)
{
	if (!address_valid_hostname(view_of(value)))
		fatal("%s: no valid domain: %s", what,
		    log_safe(view_of(value)));
}

/* A file that is there; absolute. */
static char *
init_file(const char *what, const char *value)
{
	char *path = realpath(value, NULL);

	if (path == NULL)
		fatal("%s: %s: %s", what, log_safe(view_of(value)),
		    strerror(errno));
	init_plain(what, path);
	return path;
}

__attribute__((noreturn))
static void
init_usage(void)
{
	fatal("usage: postern init DIR [--listen ADDR:PORT] "
	    "[--relay HOST:PORT] [--domain D] [--hostname H] "
	    "[--tls-cert FILE --tls-key FILE]");
}

static void
init_words(struct init *in, int argc, char **argv)
{
	static const struct option options[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "relay", required_argument, NULL, 'r' },
		{ "domain", required_argument, NULL, 'd' },
		{ "hostname", required_argument, NULL, 'h' },
		{ "tls-cert", required_argument, NULL, 'c' },
		{ "tls-key", required_argument, NULL, 'k' },
		{ NULL, 0, NULL, 0 }
	};
	const char *listen = "127.0.0.1:2525", *relay = "127.0.0.1:2600";
	int ch;

	optind = 0;		/* main() used getopt before */
	while ((ch = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (ch) {
		case 'l':
			listen = optarg;
			break;
		case 'r':
			relay = optarg;
			break;
		case 'd':
			in->domain = optarg;
			break;
		case 'h':
			in->hostname = optarg;
			break;
		case 'c':
			free(in->cert);
			in->cert = init_file("--tls-cert", optarg);
			break;
		case 'k':
			free(in->key);
			in->key = init_file("--tls-key", optarg);
			break;
		default:
			init_usage();
		}
	}
	if (optind != argc - 1 || argv[optind][0] == '\0' ||
	    (in->cert == NULL) != (in->key == NULL))
		init_usage();
	init_plain("the directory", argv[optind]);
	init_hostname("--domain", in->domain);
	if (in->hostname != NULL)
		init_hostname("--hostname", in->hostname);
	in->listen = init_hostport("--listen", listen, false);
	in->relay = init_hostport("--relay", relay, true);
	in->dir = argv[optind];
}

/* -- accounts -------------------------------------------------------------- */

static bool
init_useradd(const char *name)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		fatal("fork: %s", strerror(errno));
	if (pid == 0) {
		execlp("useradd", "useradd", "--system", "--no-create-home",
		    "--home-dir", "/nonexistent", "--shell",
		    "/usr/sbin/nologin", "--user-group", name, (char *)NULL);
		_exit(127);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	    WEXITSTATUS(status) == 0;
}

static void
init_accounts(const struct conf *cf)
{
	const char *name;
	gid_t gid;
	size_t i;

	if (!postern_maildrop_group(cf, true, &gid))
		fatal("cannot create the group %s (setgid_group)",
		    cf->setgid_group);

	for (i = 0; i < SETUP_ACCOUNTS; i++) {
		name = setup_account(cf, i);
		if (getpwnam(name) != NULL)
			continue;
		/* Somebody else may make it at the same moment. */
		if (!init_useradd(name) && getpwnam(name) == NULL)
			fatal("cannot create the account %s (%s)", name,
			    setup_account_params()[i]);
		printf("created the account %s (%s)\n", name,
		    setup_account_params()[i]);
	}
}

/* -- all together ---------------------------------------------------------- */

static void
init_make_dir(struct init *in)
{
	char *path, *p;
	struct stat st;

	/* As mkdir -p. */
	path = mem_strdup(in->dir);
	for (p = path + 1; *p != '\0'; p++)
		if (*p == '/') {
			*p = '\0';
			if (stat(path, &st) != 0)
				init_directory(path, 0755);
			*p = '/';
		}
	if (stat(path, &st) != 0)
		init_directory(path, 0755);
	free(path);
	in->dir = realpath(in->dir, NULL);
	if (in->dir == NULL)
		fatal("cannot use the directory: %s", strerror(errno));
	init_plain("the directory", in->dir);
	path = mem_printf("%s/etc/main.cf", in->dir);
	if (access(path, F_OK) == 0)
		fatal("%s holds an instance already", in->dir);
	free(path);
}

static void
init_finish(const struct init *in)
{
	struct reporter quiet = { log_report_errors, NULL };
	struct conf *cf;
	char *path;

	path = mem_printf("%s/etc", in->dir);
	cf = conf_load(path, report_errors_only, &quiet);
	free(path);
	/* Directories are made next: be sure that they are ours. */
	path = mem_printf("%s/spool", in->dir);
	if (cf == NULL || strcmp(cf->queue_directory, path) != 0)
		fatal("the new main.cf is not usable");
	free(path);
	if (geteuid() == 0) {
		init_accounts(cf);
		if (!setup_check_accounts(cf, &quiet))
			fatal("the accounts are not usable");
	}
	if (!setup_directories(cf, &quiet))
		fatal("the directories are not usable");
	conf_free(&cf);
}

int
postern_init(struct postern *p, int argc, char **argv)
{
	static const char *const below[] = { "etc", "log" };
	struct init in = { .domain = "example.com" };
	char *path;
	size_t i;

	(void)p;
	(void)umask(022);
	init_words(&in, argc, argv);
	init_places(&in);
	init_make_dir(&in);
	for (i = 0; i < sizeof below / sizeof below[0]; i++) {
		path = mem_printf("%s/%s", in.dir, below[i]);
		init_directory(path, 0755);
		free(path);
	}
	init_rules(&in);
	init_template(&in, postern_master_cf_text, "master.cf");
	/* Last: with main.cf the instance exists. */
	init_template(&in, postern_main_cf_text, "main.cf");
	path = mem_printf("%s/log/maillog", in.dir);
	init_write(path, view_make("", 0), 0640);
	free(path);
	init_finish(&in);

	printf("made an instance of Postern in %s\n"
	    "  etc/main.cf     the settings, each explained\n"
	    "  etc/master.cf   which processes run and listen\n"
	    "  etc/header_checks, etc/body_checks, etc/attachment_checks\n"
	    "                  the filter's rules\n"
	    "  spool/          the queue\n"
	    "  log/maillog     the log\n"
	    "It listens on %s and relays mail for %s to %s.\n", in.dir,
	    in.listen, in.domain, in.relay);
	if (geteuid() != 0)
		printf("Made by an ordinary user: it will run as that user, "
		    "without chroot.\n");
	printf("Next:\n"
	    "  postern -c %s/etc start\n"
	    "  postern -c %s/etc status\n", in.dir, in.dir);
	free(in.dir);
	free(in.listen);
	free(in.cert);
	free(in.key);
	free(in.relay);
	free(in.daemons);
	free(in.commands);
	free(in.stock);
	return 0;
}
