/*
 * Reading sendmail.mc without m4: the calls of macros that stand in it, in
 * order, with their arguments unquoted.  What m4 would do with an argument
 * later is up to the caller: mc_expand().
 *
 * dnl, # comments, `quotes' that nest, divert(), and the lines of blocks such
 * as LOCAL_CONFIG are known here.  The text is somebody else's: every length
 * has a maximum, and a mistake has its line.
 */
#ifndef PROXY_IMPORT_MC_H
#define PROXY_IMPORT_MC_H

#include "lib/buf.h"
#include "lib/mem.h"

#define MC_ARGS_MAX	9u
#define MC_ARG_MAX	16384u
#define MC_TEXT_MAX	(1u << 20)

struct mc_call {
	struct view name;	/* empty: `text` is a line of a block */
	struct view arg[MC_ARGS_MAX];
	unsigned n_args;
	struct view text;	/* as it stands there */
	struct view block;	/* "LOCAL_CONFIG", or empty */
	unsigned line;
	bool diverted;		/* behind divert(-1) */
};

typedef void mc_each(const struct mc_call *call, void *arg);

/*
 * first_line: the number of the text's first line.  Arguments are in a.
 * False: *ret_line and *ret_why (static) say what is wrong; what comes before
 * was given to each.
 */
bool mc_read(struct view text, unsigned first_line, struct arena *a,
    mc_each *each, void *arg, unsigned *ret_line, const char **ret_why);

/* The value of a macro without arguments; false: there is no such macro. */
typedef bool mc_lookup(struct view name, struct view *ret, void *arg);
/* Take a level of quotes away, and replace words that are macros. */
struct view mc_expand(struct view text, struct arena *a, mc_lookup *lookup,
    void *arg);

#endif
