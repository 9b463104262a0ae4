/* Which files TLS for clients depends on; master watches them. */
#ifndef PROXY_MASTER_TLS_H
#define PROXY_MASTER_TLS_H

#include "rules/conf_files.h"

/* Certificates, keys, authorities, and what tls_server_sni_maps names. */
void master_tls_files(const struct conf *cf, const char *config_dir,
    conf_each_file *each, void *arg);

#endif
