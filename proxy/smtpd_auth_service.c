/* What a service offers of what its authentication server has. */
#include <stdlib.h>

#include "lib/conf_choice.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_auth.h"
#include "rules/addr_list.h"

bool
auth_service_open(const struct conf *cf, bool announced,
    struct auth_service **ret, table_report *report, void *arg)
{
	struct auth_service *a;

	*ret = NULL;
	if (!cf->smtpd_sasl_auth_enable)
		return true;
	a = mem_alloc(sizeof *a);
	a->cf = cf;
	a->announced = announced;
	a->filter = word_list_open("smtpd_sasl_mechanism_filter",
	    cf->smtpd_sasl_mechanism_filter, cf->config_directory, report,
	    arg);
	a->exceptions = net_list_open("smtpd_sasl_exceptions_networks",
	    cf->smtpd_sasl_exceptions_networks, cf->config_directory, report,
	    arg);
	if (a->filter == NULL || a->exceptions == NULL) {
		auth_service_free(&a);
		return false;
	}
	*ret = a;
	return true;
}

void
auth_service_free(struct auth_service **ap)
{
	struct auth_service *a = *ap;

	*ap = NULL;
	if (a == NULL)
		return;
	addr_list_free(&a->filter);
	addr_list_free(&a->exceptions);
	free(a);
}

void
auth_service_begin(struct auth_service *a)
{
	a->n = 0;
	a->text_plain[0] = a->text_tls[0] = '\0';
}

static void
text_add(char *text, const char *name)
{
	size_t n = strlen(text), k = strlen(name);

	if (n > 0)
		text[n++] = ' ';
	memcpy(text + n, name, k + 1);
}

void
auth_service_add(struct auth_service *a, struct view mechanism,
    uint32_t properties)
{
	struct auth_mechanism *m = &a->list[a->n];
	uint32_t plain = conf_choice("smtpd_sasl_security_options",
	    view_of(a->cf->smtpd_sasl_security_options));
	uint32_t tls = conf_choice("smtpd_sasl_tls_security_options",
	    view_of(a->cf->smtpd_sasl_tls_security_options));

	if (a->n == SASL_MECHANISMS_MAX ||
	    word_list_match(a->filter, mechanism) != TABLE_FOUND)
		return;
	memcpy(m->name, mechanism.p, mechanism.n);
	m->name[mechanism.n] = '\0';
	m->plain = !a->cf->smtpd_tls_auth_only &&
	    sasl_permitted(plain, properties);
	m->tls = sasl_permitted(tls, properties);
	if (m->plain)
		text_add(a->text_plain, m->name);
	if (m->tls)
		text_add(a->text_tls, m->name);
	a->n++;
}

void
auth_service_end(struct auth_service *a)
{
	a->known = true;
	if (a->text_plain[0] == '\0' && a->text_tls[0] == '\0')
		log_warn("no mechanism of the authentication server %s may "
		    "be offered", a->cf->smtpd_sasl_path);
}
