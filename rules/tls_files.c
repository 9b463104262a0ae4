/* The files of TLS: what a smtpd, or a relay, reads before its jail. */
#include <stdlib.h>

#include "lib/mem.h"
#include "rules/sni_maps.h"
#include "rules/tls_files.h"

struct files {
	const char *config_dir;
	enum role_kind kind;
	conf_each_file *each;
	void *arg;
};

static void
files_add(const struct files *f, struct view list)
{
	struct view word;
	char *path;

	while ((word = conf_word(&list)).n > 0) {
		if (view_is_nocase(word, "none"))
			continue;
		path = word.p[0] == '/' ? mem_copy(word) :
		    mem_printf("%s/%.*s", f->config_dir, VIEW_ARGS(word));
		f->each(path, f->kind, f->arg);
		free(path);
	}
}

static void
files_table(const char *file, void *arg)
{
	const struct files *f = arg;

	f->each(file, f->kind, f->arg);
}

static void
files_name(struct view name, struct view files, void *arg)
{
	(void)name;
	files_add(arg, files);
}

/* The smtpd says what is wrong. */
static void
files_quiet(bool error, const char *text, void *arg)
{
	(void)error;
	(void)text;
	(void)arg;
}

void
tls_files(const struct conf *cf, const char *config_dir,
    conf_each_file *each, void *arg)
{
	const char *const lists[] = { cf->smtpd_tls_chain_files,
		cf->smtpd_tls_cert_file, cf->smtpd_tls_key_file,
		cf->smtpd_tls_eccert_file, cf->smtpd_tls_eckey_file,
		cf->smtpd_tls_dcert_file, cf->smtpd_tls_dkey_file,
		cf->smtpd_tls_CAfile, cf->smtpd_tls_CApath };
	struct files f = { config_dir, ROLE_SMTPD, each, arg };
	struct view rest = view_of(cf->tls_server_sni_maps), word;
	size_t i;

	for (i = 0; i < sizeof lists / sizeof lists[0]; i++)
		files_add(&f, view_of(lists[i]));
	while ((word = conf_word(&rest)).n > 0)
		table_spec_files(word, config_dir, files_table, &f);
	(void)sni_maps_each(cf, files_name, &f, files_quiet, NULL);
}

void
tls_relay_files(const struct conf *cf, const char *config_dir,
    conf_each_file *each, void *arg)
{
	const char *const lists[] = { cf->smtp_tls_chain_files,
		cf->smtp_tls_cert_file, cf->smtp_tls_key_file,
		cf->smtp_tls_eccert_file, cf->smtp_tls_eckey_file,
		cf->smtp_tls_CAfile, cf->smtp_tls_CApath };
	const struct files f = { config_dir, ROLE_RELAY, each, arg };
	size_t i;

	for (i = 0; i < sizeof lists / sizeof lists[0]; i++)
		files_add(&f, view_of(lists[i]));
}
