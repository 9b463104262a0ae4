/*
 * What servers of the simple protocols answer: pure functions over bytes that
 * anybody may have sent.  tcp_table(5), socketmap_table(5), memcache_table(5).
 */
#ifndef PROXY_ENGINE_REPLY_H
#define PROXY_ENGINE_REPLY_H

#include "proxy/lookup_engine.h"

/* %XX for what may not stand in a tcp: request.  False: no room. */
bool tcp_encode(struct view text, struct buf *out);
/*
 * A line of a tcp: server without its newline: "200 text", "500 text", "400
 * text".  ENGINE_NONE: it is none of them, and the connection is of no use.
 */
enum engine_answer tcp_reply(struct view line, struct buf *value,
    struct buf *err);

#define NETSTRING_DIGITS	6u
/*
 * The length in front of a netstring, with its colon.  0: more bytes are
 * needed; else how many bytes it has.  *ret_bad: it is no length, or over
 * max.
 */
size_t netstring_head(struct view bytes, size_t max, size_t *ret_length,
    bool *ret_bad);
/* What was in the netstring: "OK data", "NOTFOUND ", "TEMP why", ... */
enum engine_answer socketmap_reply(struct view text, struct buf *value,
    struct buf *err);

/* "VALUE key flags bytes": the number of bytes.  ENGINE_NOT_FOUND: "END";
 * ENGINE_NONE: neither, or for another key, or over max. */
enum engine_answer memcache_head(struct view line, struct view key,
    size_t max, size_t *ret_length);
/* May this be a memcache key? (Its protocol: no blank, no control byte, 250
 * bytes.) */
bool memcache_key_ok(struct view key);

#endif
