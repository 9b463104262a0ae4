#include <errno.h>
#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "lib/tls_chain.h"
#include "lib/tls_library.h"

#define APPLICATION	"openssl_conf"	/* the name that is always there */

enum source { SOURCE_SYSTEM = 1, SOURCE_NONE, SOURCE_FILE, SOURCE_WRONG };

struct check {
	const char *file, *name;
	CONF *conf;
	conf_report *report;
	void *arg;
};

/* Returns false. */
__attribute__((format(printf, 2, 3)))
static bool
check_report(const struct check *c, const char *fmt, ...)
{
	struct buf b;
	va_list ap;

	buf_init(&b, 4096);
	(void)buf_printf(&b, "tls_config_file: %.500s: ", c->file);
	va_start(ap, fmt);
	(void)buf_vprintf(&b, fmt, ap);
	va_end(ap);
	c->report(true, buf_cstr(&b), c->arg);
	buf_free(&b);
	return false;
}

static enum source
library_source(const struct conf *cf)
{
	struct view v = view_trim(view_of(cf->tls_config_file));

	return view_is(v, "default") ? SOURCE_SYSTEM :
	    view_is(v, "none") ? SOURCE_NONE :
	    v.n > 0 && v.p[0] == '/' ? SOURCE_FILE : SOURCE_WRONG;
}

static const char *
library_name(const struct conf *cf)
{
	return cf->tls_config_name[0] != '\0' ? cf->tls_config_name :
	    APPLICATION;
}

/* The section that name in section (NULL: before the first one) is; NULL
 * after a report, or, if it may be missing, without. */
static const char *
check_section(const struct check *c, const char *section, const char *name,
    bool may_be_missing, bool *ok)
{
	const char *value = NCONF_get_string(c->conf, section, name);

	ERR_clear_error();
	if (value != NULL && NCONF_get_section(c->conf, value) != NULL)
		return value;
	ERR_clear_error();
	if (value != NULL)
		*ok = check_report(c, "no section [%.100s]", value);
	else if (!may_be_missing)
		*ok = check_report(c, "no line \"%.100s = SECTION\" before "
		    "the first section", name);
	return NULL;
}

/* What the library would do silently, or not at all. */
static bool
check_commands(const struct check *c, const char *section)
{
	STACK_OF(CONF_VALUE) *all = NCONF_get_section(c->conf, section);
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	SSL_CONF_CTX *with = SSL_CONF_CTX_new();
	const CONF_VALUE *v;
	const char *command, *dot;
	bool ok = true;
	int i;

	if (ctx == NULL || with == NULL)
		fatal("no memory for TLS");
	(void)SSL_CONF_CTX_set_flags(with, SSL_CONF_FLAG_FILE |
	    SSL_CONF_FLAG_CERTIFICATE | SSL_CONF_FLAG_CLIENT |
	    SSL_CONF_FLAG_SERVER);
	SSL_CONF_CTX_set_ssl_ctx(with, ctx);
	for (i = 0; ok && i < sk_CONF_VALUE_num(all); i++) {
		v = sk_CONF_VALUE_value(all, i);
		/* "1.Options" comes beside "2.Options". */
		dot = strchr(v->name, '.');
		command = dot != NULL ? dot + 1 : v->name;
		if (SSL_CONF_cmd(with, command, v->value) <= 0)
			ok = check_report(c, "[%.100s]: %.100s = %.200s: %s",
			    section, v->name, v->value,
			    tls_library_error("unknown, or not possible"));
	}
	SSL_CONF_CTX_free(with);
	SSL_CTX_free(ctx);
	ERR_clear_error();
	return ok;
}

static bool
check_sections(const struct check *c)
{
	const char *section;
	bool ok = true;

	section = check_section(c, NULL, c->name, false, &ok);
	if (section != NULL)
		section = check_section(c, section, "ssl_conf", true, &ok);
	if (section != NULL)
		section = check_section(c, section, "system_default", true,
		    &ok);
	return section != NULL ? check_commands(c, section) : ok;
}

bool
tls_library_check(const struct conf *cf, conf_report *report, void *arg)
{
	struct check c = { .name = library_name(cf), .report = report,
		.arg = arg };
	char *file = mem_copy(view_trim(view_of(cf->tls_config_file)));
	long line = 0;
	BIO *in = NULL;
	bool ok = true;

	c.file = file;
	switch (library_source(cf)) {
	case SOURCE_SYSTEM:
	case SOURCE_NONE:
		break;
	case SOURCE_WRONG:
		ok = check_report(&c, "must be default, none or a path from "
		    "/ on");
		break;
	case SOURCE_FILE:
		errno = 0;
		in = BIO_new_file(file, "r");
		c.conf = NCONF_new(NULL);
		if (in == NULL)
			ok = check_report(&c, "%s", errno != 0 ?
			    strerror(errno) : "cannot be opened");
		else if (NCONF_load_bio(c.conf, in, &line) <= 0)
			ok = check_report(&c, "line %ld: %s", line,
			    tls_library_error("not in the form of OpenSSL"));
		else
			ok = check_sections(&c);
		NCONF_free(c.conf);
		BIO_free(in);
		break;
	}
	ERR_clear_error();
	free(file);
	return ok;
}

/* -- in a role ------------------------------------------------------------- */

static void
load_system(const struct conf *cf)
{
	OPENSSL_INIT_SETTINGS *with = OPENSSL_INIT_new();

	if (with == NULL || (cf->tls_config_name[0] != '\0' &&
	    OPENSSL_INIT_set_config_appname(with, cf->tls_config_name) != 1))
		fatal("no memory for TLS");
	if (OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, with) != 1)
		fatal("TLS: %s", tls_library_error("cannot be used"));
	OPENSSL_INIT_free(with);
}

void
tls_library_load(const struct conf *cf)
{
	char *file;

	if (library_source(cf) == SOURCE_SYSTEM) {
		load_system(cf);
		return;
	}
	if (OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
		fatal("TLS: %s", tls_library_error("cannot be used"));
	if (!tls_library_check(cf, log_report_errors, NULL))
		fatal("tls_config_file cannot be used");
	if (library_source(cf) == SOURCE_NONE)
		return;
	file = mem_copy(view_trim(view_of(cf->tls_config_file)));
	if (CONF_modules_load_file(file, library_name(cf), 0) <= 0)
		fatal("tls_config_file: %s: %s", file,
		    tls_library_error("cannot be used"));
	free(file);
}
