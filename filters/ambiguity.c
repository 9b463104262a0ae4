#include "filters/ambiguity.h"
#include "lib/log.h"

#define LOGGED_MAX	100u
#define LOG_WHAT	60u

static void
log_condition(struct ambiguity *a, const char *action,
    enum mime_condition c, struct view what)
{
	const struct envelope *e = a->envelope;
	struct buf b;

	if (a->logged++ >= LOGGED_MAX)
		return;
	buf_init(&b, 4096);
	(void)buf_printf(&b, "%s: %s%s: mime %s", a->id,
	    findings_soft_word(a->findings, action), action,
	    condition_name(c));
	(void)buf_printf(&b, " \"%s\"", log_safe(view_head(what, LOG_WHAT)));
	(void)buf_printf(&b, " from %s", log_safe(e->client_name));
	(void)buf_printf(&b, "[%s];", log_safe(e->client_addr));
	(void)buf_printf(&b, " from=<%s>", log_safe(e->sender));
	(void)buf_printf(&b, " to=<%s>",
	    e->nrcpts == 0 ? "" : log_safe(e->rcpts[e->nrcpts - 1].addr));
	(void)buf_printf(&b, " proto=%s", log_safe(e->proto));
	(void)buf_printf(&b, " helo=<%s>: %s", log_safe(e->helo),
	    condition_text(c));
	log_info("%s", buf_cstr(&b));
	buf_free(&b);
}

/* What the sender and the list of held mail are told. */
static void
decide(struct ambiguity *a, enum action action, enum mime_condition c)
{
	struct verdict v = { .action = action, .where = view_of("main.cf") };
	bool deceit = condition_class(c) == CONDITION_DECEIT;
	struct buf b;

	buf_init(&b, 512);
	(void)buf_printf(&b, "message %s (%s): %s",
	    deceit ? "structure is ambiguous" : "content is not accepted",
	    condition_name(c), condition_text(c));
	v.text = buf_view(&b);
	if (action == ACTION_REJECT) {
		v.code = 550;
		v.status = view_of(deceit ? "5.6.0" : "5.6.1");
	}
	findings_decide(a->findings, &v);
	buf_free(&b);
}

static void
on_condition(struct leaf_sink *s, enum mime_condition c,
    const struct mime_part *p, uint64_t offset, struct view what)
{
	struct ambiguity *a = (struct ambiguity *)(void *)s;

	(void)p;
	(void)offset;
	if (findings_final(a->findings) || a->findings->passed)
		return;
	switch (a->policy.action[c]) {
	case CONDITION_IGNORE:
		break;
	case CONDITION_WARN:
		log_condition(a, "warning", c, what);
		break;
	case CONDITION_HOLD:
		if (!findings_held(a->findings))
			log_condition(a, "hold", c, what);
		decide(a, ACTION_HOLD, c);
		break;
	case CONDITION_REJECT:
		log_condition(a, "reject", c, what);
		decide(a, ACTION_REJECT, c);
		if (a->findings->soft)
			break;
		mime_stop(a->walk);
		leaves_stop(a->leaves);
		break;
	}
}

static bool
on_begin(struct leaf_sink *s, const struct leaf *l)
{
	(void)s;
	(void)l;
	return false;
}

static const struct leaf_ops ambiguity_ops = {
	.name = "ambiguity", .begin = on_begin, .condition = on_condition,
};

void
ambiguity_init(struct ambiguity *a, const struct condition_policy *p,
    struct mime *walk, struct leaves *leaves, struct findings *findings)
{
	*a = (struct ambiguity){ .sink.ops = &ambiguity_ops, .policy = *p,
		.sink.only_conditions = true,
		.sink.cares = condition_policy_set(p),
		.walk = walk, .leaves = leaves, .findings = findings };
}

void
ambiguity_begin(struct ambiguity *a, const struct envelope *e,
    struct queue_id id)
{
	a->envelope = e;
	(void)envelope_name(e, id, a->id);
	a->logged = 0;
}
