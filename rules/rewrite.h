/*
 * Address rewriting, in Postfix's order (ADDRESS_REWRITING_README): addresses
 * are completed, then go through the canonical tables and masquerading;
 * recipients of the envelope then through virtual_alias_maps.  Copies (BCC)
 * are added.  Functions of an address or an envelope: what is done with the
 * result, and with a failure, is up to the caller.
 *
 * Tables are read before the jail.  One rewriter works on one message at a
 * time, and allocates nothing that grows but in its buffers and the arena
 * given.  What an alias may become is limited in number, depth and bytes.
 */
#ifndef RULES_REWRITE_H
#define RULES_REWRITE_H

#include "lib/conf.h"
#include "lib/envelope.h"
#include "rules/table.h"

struct rewrite;

/* own: this machine's addresses.  NULL after an error was reported. */
struct rewrite *rewrite_open(const struct conf *cf,
    const struct netaddr *own, size_t n_own, table_report *report, void *arg);
/* The same with nothing but smtp_generic_maps, for rewrite_generic(). */
struct rewrite *rewrite_open_generic(const struct conf *cf,
    const struct netaddr *own, size_t n_own, table_report *report, void *arg);
void rewrite_free(struct rewrite **r);
/* Is there a table or a domain list, so that mail of our own needs it? */
bool rewrite_configured(const struct conf *cf);

/* What an address of the envelope is completed to; out is cleared first.  It
 * may still have no domain. */
void rewrite_complete_address(const struct conf *cf, struct view addr,
    struct buf *out);

enum rewrite_answer {
	REWRITE_DONE = 1,
	REWRITE_FAILED,		/* a table could not answer: 451 4.3.0 */
	REWRITE_TOO_MUCH	/* over a limit: 451 4.6.0 */
};
/* Is the next address to be looked at?  Not after a failure, but if it is for
 * want of an answer only (rules/table_remote.h), and the result void. */
bool rewrite_goes_on(enum rewrite_answer a);
/* Why it was not REWRITE_DONE: one line for the log. */
const char *rewrite_problem(const struct rewrite *r);

/* Each step that changed an address or added one. */
struct rewrite_step {
	const char *what;	/* a parameter's name */
	struct view where;	/* "file:line"; empty: no table */
	struct view before, after;	/* internal form */
};
typedef void rewrite_trace(const struct rewrite_step *s, void *arg);
void rewrite_set_trace(struct rewrite *r, rewrite_trace *fn, void *arg);

/* How the headers of a message are rewritten. */
enum rewrite_context {
	REWRITE_NONE = 1,	/* of a remote client: not at all */
	REWRITE_LOCAL,
	REWRITE_REMOTE		/* with remote_header_rewrite_domain */
};
enum rewrite_context rewrite_context_of(const struct rewrite *r,
    const struct envelope *e);

/* What content rules asked for; both may be empty. */
struct rewrite_extra {
	struct view redirect;	/* takes the place of all recipients */
	const struct view *bcc;
	uint32_t n_bcc;
};
/* An envelope that grows over this many bytes is REWRITE_TOO_MUCH. */
#define REWRITE_BYTES_MAX	(2u << 20)
/* What the arena must be able to hold. */
#define REWRITE_ARENA		(24u << 20)
/*
 * The whole envelope.  *ret_changed: *ret differs from *in, points into it
 * and the arena, and its recipients have .orig set where they differ from
 * what the client said; they may be none.  Duplicates are dropped.
 */
enum rewrite_answer rewrite_envelope(struct rewrite *r,
    const struct envelope *in, const struct rewrite_extra *extra,
    struct arena *a, struct envelope *ret, bool *ret_changed);

/* Does this header hold addresses that are rewritten? */
bool rewrite_is_header(struct view name);
/*
 * One header, "Name: value", continuation lines behind "\n".  If an address
 * changes *ret_changed is set and out has the whole new header in the same
 * form; all else in it is as it was.  mapped: tables and masquerading too,
 * not only completion.
 */
enum rewrite_answer rewrite_header(struct rewrite *r,
    enum rewrite_context context, bool mapped, struct view header,
    struct buf *out, bool *ret_changed);

/* smtp_generic_maps: one address of the envelope into out, which is cleared
 * first; the same as addr when nothing was found. */
enum rewrite_answer rewrite_generic(struct rewrite *r, struct view addr,
    struct buf *out);
/* The same for a header, as rewrite_header(). */
enum rewrite_answer rewrite_generic_header(struct rewrite *r,
    struct view header, struct buf *out, bool *ret_changed);

#endif
