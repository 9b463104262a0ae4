/*
 * postern install, postern uninstall, and what `postern check` says of the
 * commands that users of this host get.  The work is a shell script's, so
 * that an administrator can read beforehand what it does to the system.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/postern.h"

/* Made by the script at the end of an installation; holds the mode. */
#define INSTALL_MODE	"/var/lib/postern-install/mode"
#define INSTALL_CONFIG	"/etc/postern"
#define INSTALL_PROGRAM	"libexec/postern/install"
#define INSTALL_PATHS	4u	/* of paths[] below */

int
postern_install(struct postern *p, int argc, char **argv)
{
	char self[PATH_MAX], *slash, *path;
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char **words = mem_array((size_t)argc + 2,
	    sizeof *words);
	int i;

	(void)p;
	if (n < 0)
		fatal("cannot find my own place: %s", strerror(errno));
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash != NULL)
		*slash = '\0';
	path = mem_printf("%s/../" INSTALL_PROGRAM, self);
	words[0] = path;
	for (i = 0; i < argc; i++)
		words[i + 1] = argv[i];
	words[argc + 1] = NULL;
	(void)execv(path, words);
	fatal("%s: %s: only an installed Postern has it", path,
	    strerror(errno));
}

/* -- whose commands users get ---------------------------------------------- */

static bool
install_is_ours(const char *path, const char *bin)
{
	char *real = realpath(path, NULL);
	size_t n = strlen(bin);
	bool ours = real != NULL && strncmp(real, bin, n) == 0 &&
	    real[n] == '/';

	free(real);
	return ours;
}

/* The mode of the installation; empty: it was not `postern install`. */
static void
install_mode(char *mode, size_t size)
{
	FILE *f = fopen(INSTALL_MODE, "re");

	mode[0] = '\0';
	if (f == NULL)
		return;
	if (fgets(mode, (int)size, f) == NULL)
		mode[0] = '\0';
	mode[strcspn(mode, "\n")] = '\0';
	(void)fclose(f);
}

void
postern_check_commands(const struct conf *cf, const char *config_dir,
    const struct reporter *r)
{
	/* Those first that an installation makes ours. */
	static const char *const paths[] = {
		"/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/mailq",
		"/usr/bin/newaliases",
		"/usr/local/sbin/sendmail", "/usr/local/bin/sendmail",
		"/usr/bin/sendmail", "/usr/local/bin/mailq",
		"/usr/sbin/mailq", "/usr/local/bin/newaliases",
		"/usr/sbin/newaliases" };
	char mode[32], *name, *bin;
	size_t i;

	install_mode(mode, sizeof mode);
	if (mode[0] == '\0' || strcmp(config_dir, INSTALL_CONFIG) != 0)
		return;
	name = mem_printf("%s/bin", cf->daemon_directory);
	bin = realpath(name, NULL);
	for (i = 0; bin != NULL && i < sizeof paths / sizeof paths[0]; i++) {
		if (access(paths[i], F_OK) != 0)
			continue;
		if (strcmp(mode, "replace") != 0)
			printf("%s is %s\n", paths[i],
			    install_is_ours(paths[i], bin) ? "Postern's" :
			    "another mail server's");
		else if (!install_is_ours(paths[i], bin))
			report_warn(r, "%s is not Postern's: who calls it "
			    "gets another mail server; %s", paths[i],
			    i < INSTALL_PATHS ?
			    "`postern install --repair' puts ours back" :
			    "see postern-install(8)");
	}
	free(bin);
	free(name);
}
