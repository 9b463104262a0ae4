/*
 * A session of the smtpd role without lookup and qmgr: names are known at
 * once, slots are memfds of this process, and the test says when and how a
 * message is answered.
 */
#ifndef T_UNIT_FAKE_SMTPD_H
#define T_UNIT_FAKE_SMTPD_H

#include "proxy/smtpd.h"

struct fake {
	struct server server;
	struct conf *conf;
	int client;			/* our end of the connection */
	bool no_slots, refuse_spill;
	unsigned taken, dropped, ended;	/* slots; sessions that are over */
	struct transaction *sealing;	/* waits for fake_answer() */
	struct transaction *spilling;	/* waits for fake_spill() */
	struct session *asking;		/* waits for fake_fact() */
	int text_fd;			/* of the slot taken last */
	uint32_t rcpts;			/* of the envelope sealed last */
	char sender[1024];
	char said[65536];		/* replies read last */
	size_t said_n;
	unsigned notices;		/* to the postmaster */
	unsigned sites;		/* asked for by ETRN */
	bool no_manager;
	char notice[20000];		/* the last one */
};
extern struct fake fake;

/* settings: more lines of main.cf. */
void fake_start(const char *settings);
void fake_stop(void);
/* A new connection; the greeting is read. */
struct session *fake_connect(void);
void fake_disconnect(void);
/* Let the session work; collect what it says in fake.said. */
void fake_run(void);
/* Send, run; returns fake.said. */
const char *fake_say(const char *bytes);
void fake_send(const void *p, size_t n);
/* qmgr's answers. */
void fake_answer(unsigned code);
void fake_spill(void);
/* lookup's, without records. */
void fake_fact(enum fact_status status);

#endif
