/*
 * The configuration: parameters of main.cf, declared once in
 * lib/conf_params.def.  Values are typed members of struct conf, which is
 * read-only once loaded; a role passes it down, nothing is global.
 *
 * Syntax and evaluation are postconf(5)'s: "name = value", continuation by
 * leading white space, # comments at line start, the last definition wins,
 * $name ${name} $(name) ${name?value} ${name:value} ${name?{a}:{b}},
 * ${{a}==/!=/<...{b}?{x}:{y}}, $$; evaluated late, so order does not matter.
 * An undefined $name is empty, with a warning.  Unknown parameters that no
 * other parameter uses warn; they never fail.
 */
#ifndef LIB_CONF_H
#define LIB_CONF_H

#include "lib/buf.h"
#include "lib/view.h"

enum conf_kind { CONF_STR = 1, CONF_INT, CONF_BOOL, CONF_TIME, CONF_SIZE };

struct conf_source;		/* raw settings: name, value, file, line */

struct conf {
#define PARAM_STR(name, def, help)		const char *name;
#define PARAM_TEXT(name, member, def, help)	const char *member;
#define PARAM_INT(name, def, min, max, help)	int64_t name;
#define PARAM_BOOL(name, def, help)		bool name;
/* milliseconds */
#define PARAM_TIME(name, def, unit, min, help)	int64_t name;
#include "lib/conf_params.def"
#undef PARAM_STR
#undef PARAM_TEXT
#undef PARAM_INT
#undef PARAM_BOOL
#undef PARAM_TIME
	struct conf_source *source;
};

/* One declared parameter, for postconf and the manual. */
struct conf_param {
	const char *name;
	enum conf_kind kind;
	const char *def;	/* unexpanded text */
	char unit;		/* of a time without a unit */
	int64_t min, max;
	const char *help;
	size_t offset;		/* in struct conf */
};
extern const struct conf_param conf_params[];
extern const size_t conf_params_count;
const struct conf_param *conf_param_find(struct view name);

/* Errors and warnings are given to this function, one line each, with
 * "file:line: " in front where known. */
typedef void conf_report(bool error, const char *text, void *arg);

/*
 * Read dir/main.cf.  NULL after at least one error was reported: the file
 * cannot be read, a line has no '=', a value is out of range.
 */
struct conf *conf_load(const char *dir, conf_report *report, void *arg);
/* The same from text; origin is named in messages. */
struct conf *conf_parse(struct view text, const char *origin,
    conf_report *report, void *arg);
void conf_free(struct conf **cf);
/*
 * Settings as text "name = value\n", unexpanded, as conf_parse() reads it:
 * what master hands to a role.  overrides ("name=value", from master.cf -o)
 * come last and so win.
 */
bool conf_snapshot(const struct conf *cf, char *const *overrides,
    size_t n_overrides, struct buf *out);

/* What a policy class (filter_policy_classes) may have a value of its own for,
 * as CLASS_header_checks; NULL at the end. */
extern const char *const conf_class_params[];

/*
 * By name, expanded: for parameters whose names are composed
 * (relay_destination_concurrency_limit) or defined by the user.  NULL when it
 * is neither set nor declared.  The text lives as long as cf.
 */
const char *conf_text(const struct conf *cf, struct view name);
/* As conf_text() for an integer; fallback when unset; bad values report to
 * the log and give the fallback. */
int64_t conf_number(const struct conf *cf, struct view name, int64_t fallback);
int64_t conf_time(const struct conf *cf, struct view name, char unit,
    int64_t fallback_ms);
/* Expand $name in any text with the parameters of cf; arena-like: the result
 * lives as long as cf. */
const char *conf_expand(const struct conf *cf, const char *text);

/* "10", "300s", "5d"; unit for a bare number.  False: not a time. */
bool conf_parse_time(struct view text, char unit, int64_t *ret_ms);
bool conf_parse_int(struct view text, int64_t min, int64_t max, int64_t *ret);
bool conf_parse_bool(struct view text, bool *ret);

/*
 * A list: words separated by comma or white space; {} groups, kept with
 * their braces.  Returns the next word, empty at the end.
 */
struct view conf_word(struct view *rest);

/* How many letters differ, are missing or too many; 3: more than two. */
unsigned conf_name_distance(struct view a, struct view b);

#endif
