/*
 * What is signed in an S/MIME message whose signature is not a part of its
 * own (application/pkcs7-mime; RFC 8551 section 3.5.2, RFC 5652): mail
 * programs show it like any other.  Signatures are not checked.
 */
#ifndef FILTERS_CMS_H
#define FILTERS_CMS_H

#include "lib/buf.h"
#include "lib/view.h"

/*
 * Append the content of SignedData in BER to out, as much as there is when it
 * is cut short.  Returns false when it is none, or out is full.  Time is
 * linear: elements nest up to CMS_DEPTH_MAX.
 */
#define CMS_DEPTH_MAX	16u
bool cms_content(struct view ber, struct buf *out);

#endif
