/*
 * receive_override_options: what a service leaves out, because another one
 * (before or behind an outside filter) does it; content_filter: that filter.
 */
#ifndef RULES_OVERRIDE_H
#define RULES_OVERRIDE_H

#include "lib/conf.h"
#include "rules/table.h"

/* For the envelope: enum envelope_flag. */
uint32_t override_flags(const struct conf *cf);
/* no_unknown_recipient_checks */
bool override_unlisted(const struct conf *cf);
/* Is content_filter "transport:destination", or empty?  False after a
 * report. */
bool override_filter_check(const struct conf *cf, table_report *report,
    void *arg);

#endif
