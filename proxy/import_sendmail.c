#include "lib/log.h"
#include "proxy/postern_import.h"

bool
import_sendmail(const struct import_order *o, struct import_config *c,
    struct import_report *r)
{
	(void)c;
	(void)r;
	log_error("%s: sendmail's files cannot be imported yet", o->from);
	return false;
}
