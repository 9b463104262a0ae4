/* link: proxy/smtpd_session.c proxy/smtpd_io.c proxy/smtpd_auth.c proxy/smtpd_auth_service.c proxy/smtpd_starttls.c proxy/smtpd_handshake.c proxy/smtpd_tls.c proxy/smtpd_tls_context.c proxy/smtpd_command.c proxy/smtpd_transaction.c proxy/smtpd_server.c proxy/smtpd_ehlo.c proxy/smtpd_mail.c proxy/smtpd_rcpt.c proxy/smtpd_data.c proxy/smtpd_rset.c proxy/smtpd_noop.c proxy/smtpd_vrfy.c proxy/smtpd_etrn.c proxy/smtpd_quit.c proxy/smtpd_xforward.c proxy/smtpd_text.c proxy/smtpd_binary.c proxy/smtpd_received.c proxy/smtpd_notice.c proxy/smtpd_policy.c proxy/smtpd_rate.c proxy/smtpd_ask.c proxy/smtpd_refusal.c proxy/smtpd_milter.c proxy/smtpd_bdat.c proxy/smtpd_xclient.c t/unit/fake_smtpd.c */
/*
 * A whole session fed with bytes.  The first byte chooses how: its low bits
 * the size of the pieces, the others what qmgr does.
 */
#include <stddef.h>

#include "lib/log.h"
#include "t/unit/fake_smtpd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The one session there is; NULL: it has ended. */
static struct session *
session_left(void)
{
	size_t i;

	for (i = 0; i < fake.server.cap; i++)
		if (fake.server.sessions[i] != NULL)
			return fake.server.sessions[i];
	return NULL;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct session *s;
	static bool started;
	size_t piece, n;
	uint8_t how;
	int i;

	if (!started) {
		started = true;
		log_to(LOG_SINK_FILE, -1, 0);
		fake_start("queue_memory_text_limit = 4096\n"
		    "message_size_limit = 20000\nsmtpd_recipient_limit = 5\n"
		    "smtpd_authorized_xclient_hosts = 203.0.113.0/24\n"
		    "notify_classes = policy, protocol, resource\n");
	}
	if (size == 0)
		return 0;
	how = *data++;
	size--;
	piece = (size_t)(how & 15) * (how & 15) + 1;
	fake.no_slots = (how & 16) != 0;
	fake.refuse_spill = (how & 32) != 0;
	(void)fake_connect();
	while (size > 0 && fake.server.n > 0) {
		n = piece < size ? piece : size;
		fake_send(data, n);
		data += n;
		size -= n;
		fake_run();
		for (i = 0; i < 8 && (fake.sealing != NULL ||
		    fake.spilling != NULL); i++) {
			if (fake.sealing != NULL)
				fake_answer((how & 64) != 0 ? 550 : 250);
			if (fake.spilling != NULL)
				fake_spill();
		}
		/* Whoever waits for a slot is told there is none. */
		for (i = 0; i < 100 && (s = session_left()) != NULL &&
		    s->wait == WAIT_SLOT; i++)
			session_resume(s);
	}
	fake_disconnect();
	ensure(fake.server.n == 0);
	return 0;
}
