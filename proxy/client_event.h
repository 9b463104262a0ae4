/*
 * What a client does that is counted over anvil_rate_time_unit: gate counts
 * connections itself, and is told of the rest by smtpd.
 */
#ifndef PROXY_CLIENT_EVENT_H
#define PROXY_CLIENT_EVENT_H

enum client_event {
	EVENT_CONNECTION = 0,
	EVENT_MESSAGE,		/* MAIL FROM, whatever became of it */
	EVENT_RECIPIENT,	/* RCPT TO, likewise */
	EVENT_TLS,		/* the begin of a TLS handshake */
	EVENT_AUTH,		/* AUTH, whatever became of it */
	CLIENT_EVENTS
};

#endif
