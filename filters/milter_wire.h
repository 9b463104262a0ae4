/*
 * Packets of the milter protocol (filters/milter_proto.h): taken off what was
 * read, put behind what will be written.  The largest one that is taken is
 * the caller's limit; nothing is allocated while reading.
 */
#ifndef FILTERS_MILTER_WIRE_H
#define FILTERS_MILTER_WIRE_H

#include "filters/milter_proto.h"
#include "lib/buf.h"

struct milter_packet {
	char type;
	struct view data;	/* behind the type */
};

enum milter_get { MILTER_GET_MORE = 0, MILTER_GET_PACKET, MILTER_GET_BAD };

/* Takes one off *in.  BAD: a length of 0 or over max. */
enum milter_get milter_packet_get(struct view *in, size_t max,
    struct milter_packet *ret);

/* Readers: false when the bytes are not there.  A string is taken with its
 * NUL, and told without. */
bool milter_get_u32(struct view *in, uint32_t *ret);
bool milter_get_string(struct view *in, struct view *ret);

/*
 * A packet is begun, filled and ended; ending it writes its length.  False:
 * b is full.  A NUL inside a string would end it for the filter: it is sent
 * up to there.
 */
bool milter_packet_begin(struct buf *b, char type, size_t *ret_at);
void milter_packet_end(struct buf *b, size_t at);
bool milter_put_u32(struct buf *b, uint32_t v);
bool milter_put_string(struct buf *b, struct view v);
bool milter_put_packet(struct buf *b, char type, struct view data);

#endif
