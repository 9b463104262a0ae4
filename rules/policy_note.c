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

/*
 * Never more mail to strangers than without soft_mode: for recipients that are
 * not ours, the list that says who may relay is as hard as ever.  Neither is
 * there a message at ETRN and VRFY that could be lost.
 */
bool
eval_soft(struct eval *e)
{
	if (!e->p->cf->soft_mode || e->hard || e->stage == STAGE_ETRN ||
	    view_is(e->f->verb, "VRFY"))
		return false;
	return !e->guard || destination_known_ours(e);
}

void
eval_would(struct eval *e, const char *action, struct view text)
{
	/* There, it would have ended. */
	if (e->softened)
		return;
	e->softened = strcmp(action, "soft: would reject") == 0 ||
	    strcmp(action, "soft: would discard") == 0;
	e->r->softened++;
	eval_note(e, action, text);
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
