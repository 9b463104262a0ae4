/*
 * The files that `postern init` writes, as templates: @WORD@ is replaced.
 */
#ifndef PROXY_POSTERN_FILES_H
#define PROXY_POSTERN_FILES_H

extern const char postern_main_cf_text[];
extern const char postern_master_cf_text[];
/* A rule file without rules. */
extern const char postern_rules_text[];

#endif
