/*
 * What notifications say in words: bounce(5).  A file of templates
 *
 *	failure_template = <<EOF
 *	Subject: Undelivered Mail Returned to Sender
 *
 *	This is the mail system at host $myhostname. ...
 *	EOF
 *
 * replaces the built-in ones one by one.  A template with a mistake does not
 * take effect, the built-in one stays: a notification in other words is better
 * than none.
 */
#ifndef QUEUE_BOUNCE_TEMPLATE_H
#define QUEUE_BOUNCE_TEMPLATE_H

#include "lib/conf.h"
#include "lib/mem.h"

#define TEMPLATE_FILE_MAX	(256u << 10)
#define TEMPLATE_TEXT_MAX	(64u << 10)	/* of one, expanded */
#define TEMPLATE_LINE_MAX	900u		/* bytes; RFC 5321: 998 */
#define TEMPLATE_HEADER_MAX	400u

enum template_kind { TEMPLATE_FAILURE = 0, TEMPLATE_DELAY, TEMPLATE_SUCCESS,
	TEMPLATE_VERIFY, TEMPLATES };

struct bounce_template {
	struct view charset, from, subject;
	struct view postmaster_subject;	/* empty: as subject */
	struct view text;		/* expanded; CRLF line ends */
	bool is_8bit;			/* the text */
};

struct bounce_templates {
	struct arena *arena;
	struct bounce_template list[TEMPLATES];
};

/* The built-in ones. */
void bounce_templates_init(struct bounce_templates *t, const struct conf *cf);
void bounce_templates_free(struct bounce_templates *t);
/* Take over the good templates of text.  False after mistakes were reported,
 * as "origin:line: what". */
bool bounce_templates_read(struct bounce_templates *t, const struct conf *cf,
    struct view text, const char *origin, conf_report *report, void *arg);
/* The same from a file; relative names: in config_directory. */
bool bounce_templates_load(struct bounce_templates *t, const struct conf *cf,
    const char *file, conf_report *report, void *arg);

#endif
