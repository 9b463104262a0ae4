divert(-1)dnl
define(`sm_enable_tls', `yes')dnl
divert(0)dnl
ifelse(sm_enable_tls, `yes', `dnl
define(`confCACERT', `/etc/ssl/certs/ca.crt')dnl
define(`confSERVER_CERT', `/etc/mail/tls/sendmail-server.crt')dnl
define(`confSERVER_KEY', `/etc/mail/tls/sendmail-common.key')dnl
', `dnl')dnl
