/*
 * Which files a role reads because the configuration names them: what has to
 * be watched.
 */
#ifndef RULES_CONF_FILES_H
#define RULES_CONF_FILES_H

#include "lib/conf.h"
#include "lib/msg.h"

/*
 * Call each(file, role, arg) for every file that a role of this kind reads
 * because cf says so.  cf is the role's own configuration (overrides
 * applied).  A file may be named more than once.
 */
typedef void conf_each_file(const char *file, enum role_kind kind, void *arg);
void conf_files(const struct conf *cf, const char *config_dir,
    enum role_kind kind, conf_each_file *each, void *arg);

/* The parameters with such files or other tables, with those of classes. */
typedef void conf_each_value(const char *name, const char *value, void *arg);
void conf_file_values(const struct conf *cf, enum role_kind kind,
    conf_each_value *each, void *arg);

#endif
