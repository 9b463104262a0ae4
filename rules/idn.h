/*
 * Names of hosts in UTF-8 (RFC 5890), as the DNS knows them: "bücher.example"
 * is "xn--bcher-kva.example".  By libidn2: IDNA 2008 with the mapping of
 * UTS 46, not the transitional one, so that "ß" stays itself.
 */
#ifndef RULES_IDN_H
#define RULES_IDN_H

#include "lib/view.h"

bool idn_is_ascii(struct view name);
/*
 * The name in ASCII and lower case, with a NUL.  False: it is no UTF-8, one of
 * its labels may not be, or it is longer than size allows.  The result is no
 * more than that: whether it is the name of a host is not looked at.
 */
bool idn_to_ascii(struct view name, char *ret, size_t size)
    __attribute__((warn_unused_result));

#endif
