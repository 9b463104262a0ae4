/*
 * The sendmail command: what its files share.  It runs with the rights of
 * the user who starts it; all that it says is checked again by postdrop and
 * by pickup.
 */
#ifndef QUEUE_SENDMAIL_H
#define QUEUE_SENDMAIL_H

#include "lib/conf.h"
#include "queue/maildrop_file.h"

enum sendmail_mode {
	MODE_SUBMIT = 1,	/* -bm: a message on standard input */
	MODE_SMTP,		/* -bs */
	MODE_LIST,		/* -bp */
	MODE_ALIASES,		/* -bi */
	MODE_DAEMON,		/* -bd */
	MODE_FOREGROUND,	/* -bD */
	MODE_FLUSH,		/* -q */
	MODE_FLUSH_ID,		/* -qI */
	MODE_FLUSH_SITE,	/* -qR */
	MODE_NOTHING		/* -bh, -bH */
};

struct sendmail {
	enum sendmail_mode mode;
	const char *config;		/* -C */
	const char *sender;		/* -f, -r; NULL: the user */
	const char *full_name;		/* -F; NULL: $NAME or the account's */
	const char *envid;		/* -V */
	const char *argument;		/* of -qI, -qR */
	char ret;			/* -R: 'F', 'H' or 0 */
	uint8_t notify;			/* -N */
	bool body8;			/* -B8BITMIME */
	bool requiretls;	/* -O requiretls=yes */
	bool dot_is_text;		/* -i */
	bool from_header;		/* -t */
	bool verbose;
	char **rcpts;			/* words of the command line */
	struct view ahead;		/* rmail: read of the text already */
	struct conf *cf;
};

/* sendmail_options.c */
void sendmail_options(struct sendmail *s, int argc, char **argv);

/* sendmail_rmail.c: the lines before a message that came by UUCP; sets what
 * they say of the sender. */
void rmail_begin(struct sendmail *s);

/* sendmail_header.c: recipients of a header block (RFC 5322 section 3.6.3,
 * 3.6.6): those of Resent-To:, -Cc:, -Bcc: if there are any, else To:, Cc:,
 * Bcc:.  Ends the process if one cannot be read. */
typedef void sendmail_each_rcpt(struct view addr, void *arg);
void sendmail_header_rcpts(struct view header, sendmail_each_rcpt *each,
    void *arg);
/* True while line (without its end) belongs to the header block. */
bool sendmail_is_header(struct view line, bool first);

/* sendmail_submit.c: one message on its way into maildrop/. */
struct submission {
	const struct sendmail *s;
	struct buf records;
	uint32_t rcpts;
	struct maildrop_file file;
	struct maildrop_writer writer;
	int pid;			/* of postdrop; 0: we write ourselves */
	uint64_t text;
	bool open;
	char name[MAILDROP_NAME];	/* queued as; empty: unknown */
};
/* sender: internal form. False: it cannot be one. */
bool submission_begin(struct submission *m, const struct sendmail *s,
    struct view sender, struct view full_name, struct view envid, char ret);
bool submission_rcpt(struct submission *m, struct view addr, uint8_t notify,
    struct view orcpt);
/* These return a status of sysexits.h; *ret_why is its text. */
int submission_open(struct submission *m, const char **ret_why);
int submission_text(struct submission *m, struct view text,
    const char **ret_why);
int submission_end(struct submission *m, const char **ret_why);
void submission_drop(struct submission *m);

/* The whole of MODE_SUBMIT; the exit status. */
int sendmail_submit(const struct sendmail *s);
/* The user's own address and name. */
const char *sendmail_user(void);
const char *sendmail_full_name(const struct sendmail *s);
/* The one address in text; false: there is not exactly one.  "" and "<>" are
 * the null sender. */
bool sendmail_one_address(struct view text, struct buf *out);

/* sendmail_smtp.c */
int sendmail_smtp(const struct sendmail *s);

/* sendmail_exec.c: the modes that other programs do. */
/* Where such a program is: beside this one, so that another mailer's of the
 * same name is never taken; else in command_directory.  free() it. */
char *sendmail_program(const struct sendmail *s, const char *name);
int sendmail_exec(const struct sendmail *s);

#endif
