/*
 * Policy services (Postfix's SMTPD_POLICY_README): requests of smtpd go to a
 * server outside, one at a time over each connection; connections are kept
 * for the next one.  What the server says is not believed to be anything but
 * an action of access(5), which smtpd parses.
 */
#ifndef PROXY_LOOKUP_SERVICE_H
#define PROXY_LOOKUP_SERVICE_H

#include "lib/chan.h"
#include "lib/conf.h"

void lookup_service_load(const struct conf *cf);
/* Ask the service at endpoint ("inet:host:port", "unix:path"); the answer
 * within ms, or "temporary", goes to chan. */
void lookup_service(struct chan *chan, uint32_t tag, struct view endpoint,
    uint32_t ms, struct view request);
/* The asking role is gone. */
void lookup_service_forget(const struct chan *chan);

#endif
