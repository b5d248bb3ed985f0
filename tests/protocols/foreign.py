"""Conversations of protocols that kshark does not dissect and that look like those it does: lines of words."""

from __future__ import annotations

from typing import Final

from kshark.api import Side
from kshark.testing._case import Talk

C, S = Side.CLIENT, Side.SERVER


def said(text: str) -> Talk:
    """A conversation from lines: ``> `` of the client, ``< `` of the server, ``\\n`` within a piece as ``|``."""
    signs = {">": C, "<": S}
    return [
        (signs[line[0]], line[2:].replace("|", "\r\n").encode() + b"\r\n")
        for line in text.strip().splitlines()
    ]


FOREIGN: Final[dict[str, Talk]] = {
    "nats": said("""
< INFO {"server_id":"NA","version":"2.10.1","max_payload":1048576}
> CONNECT {"verbose":false,"pedantic":false,"lang":"go"}|PING
< PONG
> SUB m 1
> PUB m 3|abc
< MSG m 1 3|abc
> PUB m 4|PING
< MSG m 1 4|PING
< PING
> PONG
> PUB m 3|abc
< MSG m 1 3|abc
< PING
> PONG
< -ERR 'Unknown Protocol Operation'
"""),
    "nats, verbose": said("""
< INFO {"server_id":"NA","version":"2.10.1","max_payload":1048576}
> CONNECT {"verbose":true}
< +OK
> PING
< PONG
> SUB m 1
< +OK
> PUB m 3|abc
< +OK|MSG m 1 3|abc
> PUB m 3|abc
< +OK
< MSG m 1 3|abc
< PING
> PONG
> UNSUB 1
< +OK
> PUB m 3|abc
< +OK
"""),
    "memcached": said("""
> get k
< END
> set k 0 0 5|hello
< STORED
> get k
< VALUE k 0 5|hello|END
> incr n 1
< 7
> decr n 1
< 6
> append k 0 0 1|x
< STORED
> touch k 10
< TOUCHED
> watch fetchers
< OK
> mg k v
< VA 5|hello
> delete k
< DELETED
> type k
< ERROR
> quit
"""),
    "smtp": said("""
< 220 mail.example.org ESMTP
> EHLO a.example.org
< 250-mail.example.org|250-AUTH PLAIN|250 SIZE 1000
> AUTH PLAIN AGEAYQ==
< 235 2.7.0 done
> MAIL FROM:<a@example.org>
< 250 2.1.0 Ok
> RCPT TO:<b@example.org>
< 250 2.1.5 Ok
> DATA
< 354 go on
> Subject: x||GET /index.html is what I typed|set it|info|.
< 250 2.0.0 queued
> RSET
< 250 2.0.0 Ok
> HELP
< 214 none
> QUIT
< 221 2.0.0 Bye
"""),
    "irc": said("""
> NICK ann|USER ann 0 * :Ann
< :irc.example.org 001 ann :Welcome
< PING :irc.example.org
> PONG :irc.example.org
> PING 12345
< :irc.example.org PONG irc.example.org :12345
> JOIN #a
< :ann!a@b JOIN #a
> INFO
< :irc.example.org 371 ann :info
> TIME
< :irc.example.org 391 ann irc.example.org :now
> MONITOR + bob
< :irc.example.org 731 ann :bob
> PING
< :irc.example.org PONG irc.example.org
> PRIVMSG #a :get k
> MOVE a b
> QUIT :bye
< ERROR :Closing Link
"""),
    "ftp": said("""
< 220 ready
> USER anonymous
< 331 password please
> PASS x
< 230 done
> SYST
< 215 UNIX Type: L8
> TYPE I
< 200 binary
> AUTH TLS
< 502 no
> PASV
< 227 Entering Passive Mode (127,0,0,1,4,5)
> RETR a
< 150 here it comes
< 226 done
> SAVE
< 500 what?
> QUIT
< 221 bye
"""),
    "pop3": said("""
< +OK POP3 ready
> USER ann
< +OK
> PASS x
< +OK
> STAT
< +OK 2 320
> AUTH PLAIN
< -ERR no
> LIST
< +OK|1 120|2 200|.
> RETR 1
< +OK 120 octets|Subject: x||text|.
> DELE 1
< +OK
> NOOP
< +OK
> TOP 2 0
< -ERR there is none
> QUIT
< +OK
"""),
    "imap": said("""
< * OK IMAP4rev1 ready
> a1 LOGIN ann x
< a1 OK done
> a2 SELECT INBOX
< * 2 EXISTS|* 0 RECENT|a2 OK done
> a3 IDLE
< + idling
< * 3 EXISTS
> DONE
< a3 OK done
> a4 LOGOUT
< * BYE|a4 OK done
"""),
    "a store of lines": said("""
> GET key
< OK value
> SET key value
< OK
> GET nokey
< ERR no such key
> DEL key
< OK
> KEYS *
< OK a b c
> PING
< OK
"""),
    "beanstalkd": said("""
> watch default
< WATCHING 1
> put 0 0 10 3|abc
< INSERTED 1
> reserve
< RESERVED 1 3|abc
> touch 1
< TOUCHED
> delete 1
< DELETED
"""),
    "stomp": said("""
> CONNECT|accept-version:1.2||\0
< CONNECTED|version:1.2||\0
> SUBSCRIBE|id:0|destination:/queue/a||\0
< MESSAGE|subscription:0|message-id:1||hello\0
> UNSUBSCRIBE|id:0||\0
> SEND|destination:/queue/a||get k\0
"""),
    "mpd": said("""
< OK MPD 0.23.5
> ping
< OK
> move 1 2
< OK
> rename a b
< ACK [50@0] {rename} No such playlist
> config
< OK
"""),
}
