/* What an evaluation has for the log, beside its decision. */
#include <string.h>

#include "lib/log.h"
#include "rules/policy_priv.h"

void
eval_note(struct eval *e, const char *action, struct view text)
{
	struct policy_result *r = e->r;

	if (r->n_notes < POLICY_NOTES_MAX)
		r->notes[r->n_notes++] = (struct policy_note){ action,
			eval_copy(e, text), e->where };
}

void
eval_permit_note(struct eval *e, struct view action, enum subject s,
    struct view name, const char *from)
{
	/* What will be put off after all is not permitted. */
	if (e->put_off_permit || word_list_match(e->p->log_permits, action) !=
	    TABLE_FOUND)
		return;
	eval_note(e, "permit", eval_text(e, "action=%s for %s=%s%s",
	    log_safe(action), subject_text(s), log_safe(name), from));
}

/* "name[address]" */
struct view
eval_client_text(struct eval *e)
{
	char addr[NETADDR_TEXT];

	return eval_text(e, "%s[%s]", log_safe(e->f->client_name),
	    netaddr_text(&e->f->client, addr));
}

/* A restriction permits: tables and policy services say so themselves. */
void
eval_permitted(struct eval *e, const struct restriction *r)
{
	const char *word = r->kind->word;

	if (strncmp(word, "permit", 6) != 0)
		return;
	if (r->kind->fn == general_permit)
		eval_permit_note(e, view_of(word), e->subject, e->name, "");
	else if (r->kind->fn == destination_permit ||
	    r->kind->fn == backup_permit)
		eval_permit_note(e, view_of(word), SUBJECT_RECIPIENT,
		    e->f->recipient, "");
	else
		eval_permit_note(e, view_of(word), SUBJECT_CLIENT,
		    eval_client_text(e), "");
}
