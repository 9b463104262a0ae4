#include <stdlib.h>

#include "lib/conf_source.h"
#include "lib/mem.h"
#include "rules/policy_inside.h"

static const struct {
	const char *name;
	enum policy_stage stage;
} lists[] = {
	{ "smtpd_client_restrictions", STAGE_CLIENT },
	{ "smtpd_helo_restrictions", STAGE_HELO },
	{ "smtpd_sender_restrictions", STAGE_MAIL },
	{ "smtpd_relay_restrictions", STAGE_RCPT },
	{ "smtpd_recipient_restrictions", STAGE_RCPT },
	{ "smtpd_data_restrictions", STAGE_DATA },
	{ "smtpd_end_of_data_restrictions", STAGE_EOD },
};
#define LISTS	(sizeof lists / sizeof lists[0])

/* Nobody wrote these into a list. */
static const char *const implied[] = { "smtpd_etrn_restrictions=",
	"smtpd_reject_unlisted_recipient=no",
	"smtpd_reject_unlisted_sender=no" };
#define IMPLIED	(sizeof implied / sizeof implied[0])

static const struct {
	const char *word, *why;
} refused[] = {
	{ "reject_unverified_sender", "needs a queue of our own" },
	{ "reject_unverified_recipient", "needs a queue of our own" },
	{ "reject_unauth_pipelining", "the mail server does not say whether "
	    "its client waited" },
	{ "permit_tls_clientcerts", "the mail server does not tell "
	    "fingerprints of certificates" },
	{ "check_ccert_access", "the mail server does not tell fingerprints "
	    "of certificates" },
	{ "check_etrn_access", "the mail server does not show ETRN" },
};

const char *
policy_inside_refuses(struct view word)
{
	size_t i;

	for (i = 0; i < sizeof refused / sizeof refused[0]; i++)
		if (view_is_nocase(word, refused[i].word))
			return refused[i].why;
	return NULL;
}

static bool
inside_named(const char *names, const char *name)
{
	struct view rest = view_of(names), word;

	while ((word = conf_word(&rest)).n > 0)
		if (view_is_nocase(word, name))
			return true;
	return false;
}

uint32_t
policy_inside_stages(const struct conf *cf)
{
	uint32_t stages = 0;
	size_t i;

	for (i = 0; i < LISTS; i++) {
		if (!inside_named(cf->postern_milter_restrictions,
		    lists[i].name))
			continue;
		/* What was put off (defer_if_permit) is decided there too. */
		if (lists[i].stage <= STAGE_RCPT)
			stages |= 1u << STAGE_RCPT;
		if (lists[i].stage > STAGE_RCPT || !cf->smtpd_delay_reject)
			stages |= 1u << lists[i].stage;
	}
	return stages;
}

size_t
policy_inside_overrides(const char *names, char ***ret)
{
	size_t n = 0, i;

	*ret = mem_array(LISTS + IMPLIED, sizeof **ret);
	for (i = 0; i < LISTS; i++)
		if (!inside_named(names, lists[i].name))
			(*ret)[n++] = mem_printf("%s=", lists[i].name);
	for (i = 0; i < IMPLIED; i++)
		(*ret)[n++] = mem_strdup(implied[i]);
	return n;
}

/* -- before anything is opened --------------------------------------------- */

static unsigned
inside_line(const struct conf *cf, const char *name)
{
	const struct conf_setting *s = conf_source_find(cf->source,
	    view_of(name));

	return s != NULL ? s->line : 0;
}

/* "unix:private/policy", or that in { }. */
static bool
inside_socket(struct view word)
{
	while (word.n > 0 && (word.p[0] == '{' || word.p[0] == ' '))
		word = view_from(word, 1);
	return view_starts_nocase(word, "unix:");
}

/* The word may be a table or a name as well; none is called like these. */
static void
inside_words(const struct conf *cf, const char *name, const char *value,
    struct conf_reporter *r)
{
	struct view rest = view_of(value), word, before = view_of("");
	const char *why;

	for (; (word = conf_word(&rest)).n > 0; before = word) {
		why = policy_inside_refuses(word);
		if (view_is_nocase(before, "check_policy_service") &&
		    inside_socket(word))
			why = "its sockets are in a queue directory; use "
			    "inet:";
		if (why != NULL)
			conf_tell(r, true, inside_line(cf, name),
			    "%s: %.*s cannot be used inside another mail "
			    "server: %s", name, VIEW_ARGS(word), why);
	}
}

static void
inside_list_names(const struct conf *cf, struct conf_reporter *r)
{
	static const char name[] = "postern_milter_restrictions";
	struct view rest = view_of(cf->postern_milter_restrictions), word;
	size_t i;

	while ((word = conf_word(&rest)).n > 0) {
		for (i = 0; i < LISTS; i++)
			if (view_is_nocase(word, lists[i].name))
				break;
		if (i == LISTS)
			conf_tell(r, true, inside_line(cf, name), "%s: no "
			    "such list here: %.*s", name, VIEW_ARGS(word));
	}
}

bool
policy_inside_check(const struct conf *cf, conf_report *report, void *arg)
{
	struct conf_reporter r = { .report = report, .arg = arg,
		.origin = "main.cf" };
	struct view rest = view_of(cf->smtpd_restriction_classes), word;
	const char *value;
	bool any = false;
	char *name;
	size_t i;

	inside_list_names(cf, &r);
	for (i = 0; i < LISTS; i++) {
		value = conf_text(cf, view_of(lists[i].name));
		if (inside_named(cf->postern_milter_restrictions,
		    lists[i].name)) {
			any = true;
			inside_words(cf, lists[i].name, value, &r);
		} else if (inside_line(cf, lists[i].name) > 0 &&
		    value[0] != '\0')
			conf_tell(&r, false, inside_line(cf, lists[i].name),
			    "%s is not evaluated here: "
			    "postern_milter_restrictions does not name it",
			    lists[i].name);
	}
	while (any && (word = conf_word(&rest)).n > 0) {
		name = mem_copy(word);
		value = conf_text(cf, word);
		if (value != NULL)
			inside_words(cf, name, value, &r);
		free(name);
	}
	return r.errors == 0;
}
