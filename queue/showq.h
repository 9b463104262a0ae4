/*
 * showq: shows the queue to those who ask, and passes on what they want done.
 * It reads the spool and never writes; qmgr alone does.  What its files share.
 *
 * A client has one request under way.  Its output is bounded: a list goes on
 * when the client has read what there is, and costs nobody else anything
 * meanwhile.  queue/queue_request.h is the protocol.
 */
#ifndef QUEUE_SHOWQ_H
#define QUEUE_SHOWQ_H

#include "lib/chan.h"
#include "lib/conf.h"
#include "lib/loop.h"
#include "lib/role.h"
#include "queue/queue_entry.h"
#include "queue/queue_match.h"
#include "queue/queue_request.h"
#include "rules/route.h"

struct client;
struct listing;
struct order;

struct showq {
	const struct conf *cf;
	struct spool spool;
	struct router *router;
};
extern struct showq showq;

/* showq_users.c: before the jail, then pure */
struct user_list;
struct user_list *users_load(const char *param, const char *value,
    const char *config_dir);
bool users_allow(const struct user_list *l, uid_t uid);
void users_end_load(void);

/* showq_client.c */
void client_load(void);
void client_accept(int listening);
unsigned client_count(void);
void client_end_all(void);
/* A frame of a list; it may be more than there is room for: see client_full. */
void client_add(struct client *c, struct view frames);
bool client_full(const struct client *c);
void client_results(struct client *c, const struct queue_id *id,
    const uint8_t *result, uint32_t n);
void client_opened(struct client *c, uint64_t text_offset,
    const struct queue_entry *e, int fd);
/* The request is done; text may be NULL. */
void client_end(struct client *c, enum reply_status status, const char *text);

/* showq_list.c: a pass over the whole queue, each message once */
struct list_def {
	struct queue_match match;	/* views must outlive the listing */
	bool memory;			/* ask qmgr too */
	/* Called with frames of REPLY_ENTRY, whole ones. */
	void (*found)(struct view frames, void *arg);
	bool (*full)(void *arg);	/* NULL: never */
	void (*done)(void *arg);	/* *l is gone already */
	void *arg;
};
struct listing *listing_start(const struct list_def *def);
/* There is room again. */
void listing_go_on(struct listing *l);
/* Nobody wants it any more; frees it when its jobs have ended. */
void listing_stop(struct listing *l);
void listing_answer(uint32_t tag, struct chan_in *in);
void listing_lost(const struct chan *c);

/* showq_order.c: what is to be done, and opening */
struct order *order_start(enum queue_op op, struct queue_id *id, uint32_t n,
    void (*done)(struct order *o, void *arg), void *arg);
const struct queue_id *order_ids(const struct order *o);
const uint8_t *order_results(const struct order *o);
uint32_t order_count(const struct order *o);
/* False: there was no qmgr to ask. */
bool order_asked(const struct order *o);
void order_free(struct order **o);
void order_answer(uint32_t tag, struct chan_in *in);
void order_lost(const struct chan *c);

/* showq_site.c */
void site_start(struct chan *c, struct chan_in *in);
void site_lost(const struct chan *c);
bool site_running(void);

/* showq_open.c */
void open_start(struct client *c, struct queue_id id);
void open_forget(const struct client *c);
void open_answer(uint32_t tag, struct chan_in *in);
void open_lost(const struct chan *c);

/* showq_dests.c */
void dests_start(struct client *c);
void dests_forget(const struct client *c);
void dests_answer(uint32_t tag, struct chan_in *in);
void dests_lost(const struct chan *c);

/* showq_manager.c: the queue managers, the newest first */
void manager_peer(const struct role_peer *peer, int fd);
struct chan *manager_first(void);
/* The one after c; NULL: none, or c is gone. */
struct chan *manager_next(const struct chan *c);
/* Each question has a number of its own. */
uint32_t manager_tag(void);

#endif
