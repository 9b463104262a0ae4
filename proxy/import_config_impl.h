/*
 * The files of a configuration in the making: for import_config.c and
 * import_write.c.
 */
#ifndef PROXY_IMPORT_CONFIG_IMPL_H
#define PROXY_IMPORT_CONFIG_IMPL_H

#include <sys/types.h>

#include "proxy/import_config.h"

struct import_file {
	char *name;
	mode_t mode;
	struct buf text;
	bool indexed;		/* FILE.lmdb is built of it */
	bool written;		/* new, ours to remove again */
};

struct import_setting;

struct import_config {
	struct import_setting *first, **end;
	size_t n_settings;
	struct import_file *files[IMPORT_FILES_MAX];
	struct import_table *tables[IMPORT_FILES_MAX];
	size_t n_files, n_tables;
	struct import_names names;	/* of places */
	bool full;		/* something did not fit */
};

#endif
