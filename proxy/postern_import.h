/*
 * postern import: what its two readers share with the command.
 */
#ifndef PROXY_POSTERN_IMPORT_H
#define PROXY_POSTERN_IMPORT_H

#include "proxy/import_config.h"
#include "proxy/import_report.h"

/* The name of the report in the new directory. */
#define IMPORT_REPORT_NAME	"import-report.txt"

struct import_order {
	const char *from;	/* directory that is read, never written */
	const char *to;		/* directory that is written; NULL: the
				 * report is all that is wanted, on stdout */
	bool force, dry_run;
};

/* What was read is in c and r.  False after an error was logged. */
typedef bool import_reader(const struct import_order *o,
    struct import_config *c, struct import_report *r);
import_reader import_sendmail, import_postfix;

#endif
