/*
 * What the queue commands and showq say to each other on pid/showq, a stream
 * socket that everybody may connect to.  Both send frames: u32 length of what
 * follows, u8 type, fields as lib/cursor.h reads them.  A client sends one
 * request, reads its answer to REPLY_END, and may then send another.
 *
 *	LIST	match (queue/queue_match.h) -> ENTRY..., END
 *	DESTS	-> DEST..., END
 *	FLUSH	u8 enum flush_what, view site or id -> END
 *	OP	u8 enum queue_op, u32 n <= REQUEST_IDS, n x id
 *		-> RESULTS (u32 n, n x (id, u8 enum queue_result)), END
 *	OPEN	id -> OPENED (u64 text offset, entry; with the text's
 *		descriptor, read-only), END
 *
 *	ENTRY	queue/queue_entry.h
 *	DEST	destination (queue/queue_entry.h), u32 deferred in each of
 *		DEST_AGES classes of age, u64 next attempt (wall us; 0: none),
 *		view why the last attempt failed
 *	END	u8 enum reply_status, view text for the user
 *
 * LIST and DESTS: who is in authorized_mailq_users; FLUSH: in
 * authorized_flush_users; OP and OPEN: root and mail_owner.  Who it is, the
 * kernel says (SO_PEERCRED).  A request that breaks these rules ends the
 * connection.
 */
#ifndef QUEUE_QUEUE_REQUEST_H
#define QUEUE_QUEUE_REQUEST_H

#include "lib/cursor.h"
#include "lib/msg.h"

#define REQUEST_SOCKET	"pid/showq"	/* below queue_directory */
#define REQUEST_MAX	65536u		/* a frame to showq */
#define REQUEST_IDS	1000u
#define REPLY_MAX	(24u << 20)	/* a frame from showq */
#define FRAME_HEAD	5u

enum request_type { REQUEST_NONE = 0, REQUEST_LIST, REQUEST_DESTS,
	REQUEST_FLUSH, REQUEST_OP, REQUEST_OPEN, REQUEST_TYPES };
enum reply_type { REPLY_NONE = 0, REPLY_ENTRY, REPLY_DEST, REPLY_RESULTS,
	REPLY_OPENED, REPLY_END, REPLY_TYPES };
enum reply_status { REPLY_OK = 1, REPLY_REFUSED, REPLY_FAILED };
enum flush_what { FLUSH_ALL = 1, FLUSH_SITE, FLUSH_ID };

/* qshape's: up to 5, 10, 20, 40, 80, 160, 320, 640, 1280 minutes, older */
#define DEST_AGES	10u

/* Begin a frame at the end of b, and put its length right at the end. */
bool frame_begin(struct buf *b, uint8_t type, size_t *ret_at);
void frame_end(struct buf *b, size_t at);
/*
 * The first frame in v: its type and fields; how many bytes it takes, 0 if
 * more are needed.  max: of its length; a longer or empty one sets *ret_bad.
 */
size_t frame_get(struct view v, size_t max, uint8_t *ret_type,
    struct cursor *ret, bool *ret_bad);

#endif
