/*
 * Edits of attachments: a part that is taken out leaves a note in its place,
 * one that is renamed gets new Content-Type and Content-Disposition headers.
 * The structure around it stays.
 */
#ifndef FILTERS_ATTACH_EDIT_H
#define FILTERS_ATTACH_EDIT_H

#include "filters/findings.h"
#include "filters/leaf.h"

/*
 * name: plain, for the note; why: the rule's text, may be empty.  False: it
 * cannot be done here (signed, in a message that is itself encoded, a file
 * inside a text body, or too many edits): the message cannot go on as it is.
 */
bool attach_strip(struct findings *f, const struct leaf *l, struct view name,
    struct view why);
/* name: the new one. */
bool attach_rename(struct findings *f, const struct leaf *l,
    struct view name);

#endif
