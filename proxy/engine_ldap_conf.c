#include <stdlib.h>

#include "lib/conf.h"
#include "lib/mem.h"
#include "proxy/engine_ldap.h"

/* A server: a URL, or a name with or without a port. */
static void
ldap_conf_server(struct ldap_conf *conf, const struct engine_conf *c,
    struct view word, int64_t port)
{
	bool with_port = view_find(word, ':') < word.n;
	LDAPURLDesc *parsed = NULL;
	char *url;

	if (word.n > 1 && word.p[0] == '[')
		with_port = word.p[word.n - 1] != ']';
	if (view_starts_nocase(word, "ldap://") ||
	    view_starts_nocase(word, "ldaps://") ||
	    view_starts_nocase(word, "ldapi://"))
		url = mem_copy(word);
	else if (with_port)
		url = mem_printf("ldap://%.*s", VIEW_ARGS(word));
	else
		url = mem_printf("ldap://%.*s:%d", VIEW_ARGS(word),
		    (int)port);
	if (ldap_url_parse(url, &parsed) != LDAP_URL_SUCCESS)
		engine_conf_wrong(c, "server_host: \"%.*s\" is no server",
		    VIEW_ARGS(word));
	ldap_free_urldesc(parsed);
	conf->servers[conf->n_servers++] = url;
}

static void
ldap_conf_servers(struct ldap_conf *conf, const struct engine_conf *c)
{
	int64_t port = engine_conf_int(c, "server_port", LDAP_PORT, 1, 65535);
	struct view rest, word;

	rest = view_of(engine_conf_str(c, "server_host", "localhost"));
	while ((word = view_word(&rest, ", \t\r\n")).n > 0) {
		if (conf->n_servers == LDAP_SERVERS_MAX) {
			engine_conf_wrong(c, "server_host: more than %u "
			    "servers", LDAP_SERVERS_MAX);
			return;
		}
		ldap_conf_server(conf, c, word, port);
	}
	if (conf->n_servers == 0)
		engine_conf_wrong(c, "server_host: no server");
}

static void
ldap_conf_bind(struct ldap_conf *conf, const struct engine_conf *c)
{
	struct view how = view_of(engine_conf_str(c, "bind", "yes"));
	int64_t ssf = engine_conf_int(c, "sasl_minssf", 0, 0, 1024);
	bool yes;

	conf->dn = engine_conf_copy(c, "bind_dn", NULL);
	conf->password = engine_conf_copy(c, "bind_pw", NULL);
	conf->sasl_mechs = engine_conf_copy(c, "sasl_mechs", NULL);
	conf->sasl_realm = engine_conf_copy(c, "sasl_realm", NULL);
	conf->sasl_authz = engine_conf_copy(c, "sasl_authz_id", NULL);
	conf->sasl_secprops = mem_printf("minssf=%d", (int)ssf);
	if (view_is_nocase(how, "sasl"))
		conf->bind = LDAP_BIND_SASL;
	else if (view_is_nocase(how, "none"))
		conf->bind = LDAP_BIND_NONE;
	else if (view_is_nocase(how, "simple"))
		conf->bind = LDAP_BIND_SIMPLE;
	else if (conf_parse_bool(how, &yes))
		conf->bind = yes ? LDAP_BIND_SIMPLE : LDAP_BIND_NONE;
	else
		engine_conf_wrong(c, "bind: \"%.*s\" is not yes, no, simple, "
		    "none or sasl", VIEW_ARGS(how));
	/* A server takes a name without a password for nobody (RFC 4513
	 * section 5.1.2), and then shows less than is meant. */
	if (conf->bind == LDAP_BIND_SIMPLE && conf->dn != NULL &&
	    conf->password == NULL)
		engine_conf_wrong(c, "bind_pw: must be there with bind_dn");
}

static void
ldap_conf_tls(struct ldap_tls *tls, const struct engine_conf *c)
{
	tls->start = engine_conf_bool(c, "start_tls", false);
	tls->ca_file = engine_conf_copy(c, "tls_ca_cert_file", NULL);
	tls->ca_dir = engine_conf_copy(c, "tls_ca_cert_dir", NULL);
	tls->cert = engine_conf_copy(c, "tls_cert", NULL);
	tls->key = engine_conf_copy(c, "tls_key", NULL);
	tls->ciphers = engine_conf_copy(c, "tls_cipher_suite", NULL);
	tls->verify = engine_conf_bool(c, "tls_require_cert", false);
	/* Of use to OpenSSL of long ago. */
	(void)engine_conf_str(c, "tls_random_file", NULL);
	if (ldap_conn_tls_load(tls) != LDAP_SUCCESS)
		engine_conf_wrong(c, "tls_...: a file cannot be read, or is "
		    "not what it should be");
}

static int
ldap_conf_scope(const struct engine_conf *c)
{
	struct view scope = view_of(engine_conf_str(c, "scope", "sub"));

	if (view_is_nocase(scope, "one"))
		return LDAP_SCOPE_ONELEVEL;
	if (view_is_nocase(scope, "base"))
		return LDAP_SCOPE_BASE;
	if (!view_is_nocase(scope, "sub"))
		engine_conf_wrong(c, "scope: \"%.*s\" is not sub, one or "
		    "base", VIEW_ARGS(scope));
	return LDAP_SCOPE_SUBTREE;
}

static void
ldap_conf_attrs(struct ldap_conf *conf, const struct engine_conf *c,
    const char *name, const char *fallback, enum ldap_attr_kind kind)
{
	struct view rest = view_of(engine_conf_str(c, name, fallback)), word;
	size_t n = 0;

	while (conf->attrs[n] != NULL)
		n++;
	while ((word = view_word(&rest, ", \t\r\n")).n > 0) {
		if (n == LDAP_ATTRS_MAX) {
			engine_conf_wrong(c, "%s: more than %u attributes",
			    name, LDAP_ATTRS_MAX);
			return;
		}
		conf->kinds[n] = kind;
		conf->attrs[n++] = mem_copy(word);
	}
}

void
ldap_conf_read(struct ldap_conf *conf, const struct engine_conf *c)
{
	int64_t all = INT32_MAX;

	ldap_conf_servers(conf, c);
	conf->timeout_ms = engine_conf_time(c, "timeout", 's', 10000);
	if (conf->timeout_ms < 1000)
		engine_conf_wrong(c, "timeout: less than a second");
	conf->version = (int)engine_conf_int(c, "version", 3, 2, 3);
	conf->dereference = (int)engine_conf_int(c, "dereference", 0, 0, 3);
	conf->chase = engine_conf_bool(c, "chase_referrals", false);
	conf->debug = (int)engine_conf_int(c, "debuglevel", 0, -1, all);
	ldap_conf_bind(conf, c);
	ldap_conf_tls(&conf->tls, c);
	if (conf->tls.start && conf->version < 3)
		engine_conf_wrong(c, "start_tls: needs version = 3");
	conf->base = mem_strdup(engine_conf_str(c, "search_base", ""));
	engine_format_check(c, "search_base", conf->base);
	conf->scope = ldap_conf_scope(c);
	ldap_conf_attrs(conf, c, "terminal_result_attribute", "",
	    LDAP_ATTR_TERMINAL);
	ldap_conf_attrs(conf, c, "result_attribute", "maildrop",
	    LDAP_ATTR_RESULT);
	ldap_conf_attrs(conf, c, "leaf_result_attribute", "", LDAP_ATTR_LEAF);
	ldap_conf_attrs(conf, c, "special_result_attribute", "",
	    LDAP_ATTR_SPECIAL);
	conf->recursion_limit = (unsigned)engine_conf_int(c,
	    "recursion_limit", 1000, 1, all);
	conf->expansion_limit = (unsigned)engine_conf_int(c,
	    "expansion_limit", 0, 0, all);
	conf->size_limit = (unsigned)engine_conf_int(c, "size_limit",
	    (int64_t)conf->expansion_limit, 0, all);
}

void
ldap_conf_free(struct ldap_conf *conf)
{
	size_t i;

	for (i = 0; i < conf->n_servers; i++)
		free(conf->servers[i]);
	for (i = 0; conf->attrs[i] != NULL; i++)
		free(conf->attrs[i]);
	if (conf->password != NULL)
		explicit_bzero(conf->password, strlen(conf->password));
	free(conf->password);
	free(conf->dn);
	free(conf->sasl_mechs);
	free(conf->sasl_realm);
	free(conf->sasl_authz);
	free(conf->sasl_secprops);
	ldap_conn_tls_free(&conf->tls);
	free(conf->tls.ca_file);
	free(conf->tls.ca_dir);
	free(conf->tls.cert);
	free(conf->tls.key);
	free(conf->tls.ciphers);
	free(conf->base);
}

/* An attribute may stand with options, "cn;lang-de", if it was asked for so
 * or without them. */
enum ldap_attr_kind
ldap_conf_kind(const struct ldap_conf *conf, struct view name)
{
	struct view plain = view_head(name, view_find(name, ';'));
	size_t i;

	for (i = 0; conf->attrs[i] != NULL; i++)
		if (view_is_nocase(name, conf->attrs[i]))
			return conf->kinds[i];
	for (i = 0; conf->attrs[i] != NULL; i++)
		if (view_is_nocase(plain, conf->attrs[i]))
			return conf->kinds[i];
	return LDAP_ATTR_NONE;
}
