#include <string.h>

#include "queue/sendmail.h"
#include "queue/submit.h"

int
main(int argc, char **argv)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *name = slash != NULL ? slash + 1 : argc > 0 ? argv[0] : "";
	struct sendmail s = { .mode = MODE_SUBMIT };
	int status;

	submit_safe_start();
	submit_name("sendmail");
	if (strcmp(name, "mailq") == 0)
		s.mode = MODE_LIST;
	else if (strcmp(name, "newaliases") == 0)
		s.mode = MODE_ALIASES;
	/* What follows rmail came from another host: never an option. */
	if (strcmp(name, "rmail") == 0)
		s.rcpts = argv + 1;
	else
		sendmail_options(&s, argc, argv);
	s.cf = submit_conf(s.config);
	if (strcmp(name, "rmail") == 0)
		rmail_begin(&s);
	switch (s.mode) {
	case MODE_SUBMIT:
		status = sendmail_submit(&s);
		break;
	case MODE_SMTP:
		status = sendmail_smtp(&s);
		break;
	case MODE_NOTHING:
		status = EX_OK;
		break;
	case MODE_LIST:
	case MODE_ALIASES:
	case MODE_DAEMON:
	case MODE_FOREGROUND:
	case MODE_FLUSH:
	case MODE_FLUSH_ID:
	case MODE_FLUSH_SITE:
	default:
		status = sendmail_exec(&s);
		break;
	}
	conf_free(&s.cf);
	return status;
}
