/*
 * The settings of the TLS library itself, OpenSSL's openssl.cnf: the
 * system's, none, or a file of our own (tls_config_file, tls_config_name).
 * They are the ground on which our parameters are laid: protocols, ciphers up
 * to TLSv1.2 and the security level are always ours.
 */
#ifndef LIB_TLS_LIBRARY_H
#define LIB_TLS_LIBRARY_H

#include "lib/conf.h"

/*
 * Is there such a file, with that name, and settings that the library knows?
 * False after a report.  Nothing is changed.
 */
bool tls_library_check(const struct conf *cf, conf_report *report, void *arg);
/*
 * Take them: in a role that does TLS, before the jail and before anything else
 * is asked of the library, once.  A file that cannot be used is fatal; of the
 * system's own, errors are ignored, as by any program.
 */
void tls_library_load(const struct conf *cf);

#endif
