/*
 * A connection of an engine's handle, with a time limit for each step; it may
 * wait, so it is for the threads of a lookup-TYPE only.  After a failure it
 * is closed, and the next net_open() connects again.
 */
#ifndef PROXY_ENGINE_NET_H
#define PROXY_ENGINE_NET_H

#include "lib/buf.h"
#include "lib/clock.h"

#define NET_INPUT_MAX	(80u << 10)	/* an answer and what frames it */

struct net {
	char *host, *port;	/* port NULL: host is a socket's path */
	int fd;			/* -1: not connected */
	bool used;		/* an answer came over it */
	struct buf in;
	struct mono until;	/* of what is going on */
};

/* "host:port", "[::1]:port", "inet:host:port", "unix:/path". False: none. */
bool net_init(struct net *n, struct view endpoint);
void net_free(struct net *n);
/* All of the following must be over in ms. */
void net_limit(struct net *n, int64_t ms);
/* Connect if it is not. */
bool net_open(struct net *n, struct buf *err);
void net_close(struct net *n);
bool net_write(struct net *n, struct view text, struct buf *err);
/* Until there are at least want bytes in n->in; at most max may come. */
bool net_read(struct net *n, size_t want, struct buf *err);
/* A line; *ret without its newline, valid until the input is consumed; len
 * with it is ret->n + 1. */
bool net_line(struct net *n, size_t max, struct view *ret, struct buf *err);
/* Is there something nobody asked for, or has the other side closed? */
bool net_stale(struct net *n);

#endif
