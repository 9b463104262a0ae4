/*
 * The engine of the content filter: rules from the configuration, and a
 * judgement for each message.  Judging does no I/O but log lines, and needs
 * no memory that grows with the message.  One engine judges one message at a
 * time.
 */
#ifndef FILTERS_ENGINE_H
#define FILTERS_ENGINE_H

#include "filters/scanner.h"
#include "lib/conf.h"
#include "lib/envelope.h"
#include "lib/mem.h"
#include "rules/table.h"
#include "rules/verdict.h"

struct engine;

/*
 * Open and compile all that cf names; before the jail.  Each mistake in a
 * rule file is reported as "file:line: text"; after one NULL is returned, so
 * that a broken file never takes effect.  cf must outlive the engine.
 */
struct engine *engine_open(const struct conf *cf, table_report *report,
    void *arg);
/* The same, but archives are read in processes of their own (scanner.h). */
struct engine *engine_open_apart(const struct conf *cf, scanner_jail *jail,
    table_report *report, void *arg);
void engine_free(struct engine **e);
/* For measurements, before engine_open(): rules are asked one by one. */
void engine_rules_alone(void);
/* NULL without attachment_checks. */
struct scanner *engine_scanner(struct engine *e);
/* Only check: as engine_open(), and the samples in rule files. */
bool engine_check(const struct conf *cf, table_report *report, void *arg);

/* soft_mode: how many decisions of rules were only said. */
uint64_t engine_softened(const struct engine *e);
/* The next message is not judged: only its addresses are rewritten. */
void engine_pass_next(struct engine *e);
/*
 * Judge a message by the rules of main.cf.  env must have been decoded with
 * envelope_get().  *ret points into the engine and the arena, and is good
 * until the next call.  The arena needs room for EDITS_MAX edits.
 */
void engine_judge(struct engine *e, struct view text,
    const struct envelope *env, struct queue_id id, struct judgement *ret,
    struct arena *a);

/*
 * The same for what each recipient's policy class says (filter_policy_maps).
 * each is called once or more: with all recipients (n 0), or with those, as
 * indices into env, that a judgement is for; then every recipient is in one
 * call.  An envelope in it has those only.  All is void after the call.
 */
typedef void engine_part(const uint32_t *rcpts, uint32_t n,
    const struct judgement *j, void *arg);
void engine_judge_each(struct engine *e, struct view text,
    const struct envelope *env, struct queue_id id, engine_part *each,
    void *arg, struct arena *a);

/*
 * Only the classes of the recipients, and the rewriting, of the envelope and
 * of the headers as they came, and nothing comes of it: to find out which
 * answers of tables behind connections it needs (rules/table_remote.h).
 */
void engine_rehearse(struct engine *e, struct view text,
    const struct envelope *env, struct queue_id id);

#endif
