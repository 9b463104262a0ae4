/*
 * What outside filters change in the envelope: the sender, recipients more
 * and fewer, each with ESMTP arguments (smfi_chgfrom, smfi_addrcpt,
 * smfi_addrcpt_par, smfi_delrcpt).  Pure.
 */
#ifndef FILTERS_MILTER_ENVELOPE_H
#define FILTERS_MILTER_ENVELOPE_H

#include "filters/milter_client.h"
#include "lib/conf.h"
#include "lib/envelope.h"
#include "rules/rewrite.h"

/*
 * The changes of one filter; those that are not about the envelope are left
 * out.  *ret points into *e and a, and may be *e; its recipients may be none.
 * A recipient is added once, completed as one that a client gives, and goes
 * through canonical tables and aliases (rewrite; NULL: none); one that
 * is deleted is named as the client did, or as it is by now.  An argument
 * that is none is left out.  NULL, or why
 * they cannot be: none is made then.
 */
const char *milter_envelope_apply(const struct conf *cf,
    struct rewrite *rewrite, const struct envelope *e, const struct milter_edit *list, size_t n,
    struct arena *a, struct envelope *ret, bool *ret_changed);

#endif
