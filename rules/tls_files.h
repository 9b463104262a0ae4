/* Which files TLS depends on; master watches them. */
#ifndef RULES_TLS_FILES_H
#define RULES_TLS_FILES_H

#include "rules/conf_files.h"

/* Certificates, keys, authorities, and what tls_server_sni_maps names. */
void tls_files(const struct conf *cf, const char *config_dir,
    conf_each_file *each, void *arg);
/* The same for TLS with servers. */
void tls_relay_files(const struct conf *cf, const char *config_dir,
    conf_each_file *each, void *arg);

#endif
