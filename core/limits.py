"""Every bound of kshark: unit, reason, precedent.

All are per worker process. A limit that fires is never silent: it is counted in the ledger, or noted on the
entry that it shortened.
"""

from __future__ import annotations

from typing import Final

SECOND: Final = 1_000_000_000  # ns
KIB: Final = 1024
MIB: Final = 1024 * KIB

# -- wire: flow table and reassembly
FLOWS: Final = 65_536
"""Flows tracked at once; the oldest idle one is evicted. Suricata prealloc 10,000, Zeek unbounded."""
ADDRESS_TEXTS: Final = 4_096
"""Addresses of flows whose text is kept, to be shared; about 120 bytes each. A cluster has 5,000 nodes at most."""
MEMORY: Final = 80 * MIB
"""Bytes accounted for flows, held segments, and messages under way or waiting. Where messages fill half of it, the
flows that hold most for longest pay; else the oldest idle are evicted. A whole process then has under 200 MB."""
OOO_SEGMENTS: Final = 64
"""Out-of-order segments held a side before the hole is declared a gap. tcpflow 1 MiB window."""
OOO_BYTES: Final = 128 * KIB
"""Out-of-order bytes held a side before the hole is declared a gap."""
GAP_WAIT: Final = 1 * SECOND
"""A hole that the peer has acknowledged is filled by reordering in the capture within this, or never."""
HALF_OPEN: Final = 10 * SECOND
"""A SYN without an answer is forgotten after this. Suricata 30 s, nf_conntrack 60 s."""
IDLE: Final = 300 * SECOND
"""A flow without packets ends after this. nf_conntrack UDP stream 120 s, Zeek TCP 5 min."""
CLOSE_LINGER: Final = 1 * SECOND
"""After FIN both ways or RST, late packets still belong to the flow for this long."""
FRAGMENTS: Final = 1_024
"""IP datagrams under reassembly at once. Linux ipfrag_high_thresh 4 MiB."""
FRAGMENT_WAIT: Final = 30 * SECOND
"""An incomplete datagram is dropped after this. RFC 791 and Linux: 15 to 30 s."""
FRAGMENT_BYTES: Final = 4 * MIB
"""Bytes of incomplete datagrams held. Linux ipfrag_high_thresh 4 MiB."""
LEAP: Final = 5 * SECOND
"""A packet dated more than this ahead of all before it moves time only if the next one confirms it: one damaged or
forged date would end idle flows, declare holes and lose pairs. Half of HALF_OPEN, the shortest wait of a flow."""
TUNNELS: Final = 4
"""Nested encapsulations followed (VLAN tags counted apart)."""
DUPLICATE_WAIT: Final = 1 * SECOND
"""The same packet on another interface within this is the same packet (veth and bridge)."""
DUPLICATES: Final = 4
"""Packets remembered a side of a flow to find such copies; they follow each other closely."""
TIMER_GRAIN: Final = SECOND // 10
"""Timers of the wire run, and the order of idle flows is kept, to this precision of packet time."""
VLAN_TAGS: Final = 4
"""VLAN tags followed in one frame. 802.1ad has two; some switches stack more."""
MPLS_LABELS: Final = 8
"""MPLS labels followed in one frame."""
EXTENSION_HEADERS: Final = 8
"""IPv6 extension headers walked. RFC 8200 recommends at most one of each, seven in all."""
FRAGMENT_PIECES: Final = 256
"""Fragments of one datagram: 64 KiB at the smallest common MTU (576) are 120."""
KEPT_PACKETS: Final = 1_000
"""Packets kept a flow between two entries for sinks that store packets."""
KEPT_BYTES: Final = 1 * MIB
"""Bytes of such packets."""
CLEAR_FLOWS: Final = 4_096
"""Flows in clear of connections that nobody sees; of more, the oldest ends."""

# -- plugins
PLUGIN_LOAD: Final = 30 * SECOND
"""To import a plugin and call its hooks, and to make one of its sinks, backends or enrichers."""

# -- identification and dissection
PROBE_BYTES: Final = 4 * KIB
"""Bytes a side shown to probes before a flow counts as unknown. nDPI looks at 8 to 10 packets."""
PROBE_CHUNKS: Final = 8
"""Chunks a side shown to probes."""
WINDOWS: Final = 16
"""Times that a flow joined in mid-stream is looked at so: after each look, when the other side begins to speak."""
REPLAYED: Final = 16 * KIB
"""Bytes of a flow kept to be identified once more, until its dissector has proven itself."""
UNDISSECTED: Final = 64 * KIB
"""Bytes a dissector may hold a side in search of a head or a frame. h11 16 KiB, nginx 32 KiB."""
CHUNK_LINE: Final = 16 * KIB
"""Bytes of one line of a chunked HTTP body, extensions included. Node.js 16 KiB (CVE-2024-22019)."""
TARGET: Final = 8 * KIB
"""Bytes of a request's target that are kept. RFC 9112 section 3 asks for 8,000; nginx 8 KiB."""
BODY_KEPT: Final = 64 * KIB
"""Bytes of a message's body that are kept; size still counts all."""
KNOWN_HEADS: Final = 256
"""Sets of request headers that the HTTP dissector knows again; new ones then take the places of others."""
KNOWN_HEAD: Final = 2 * KIB
"""Bytes of such a set; a longer one is scanned each time."""
SILENT_BYTES: Final = 1 * MIB
"""Bytes fed without a message before a flow turns opaque, outside counted bodies (Pixie 1 MiB)."""
EARLY_MESSAGES: Final = 3
"""A DissectError within so many messages means the protocol was chosen wrongly: identify once more."""
ERRORS: Final = 8
"""DissectErrors after which a flow turns opaque."""
SWITCHES: Final = 8
"""Hand-overs of a flow from protocol to protocol (CONNECT within CONNECT); then it turns opaque."""
INNERS: Final = 2
"""Flows in each other (HTTP/2 in TLS in a tunnel by TLS); what is deeper is not dissected."""
WAITING: Final = 65_536
"""Requests a flow that wait for an answer; the oldest ends unanswered. Pipelines of 10,000 commands are seen
(redis-cli --pipe, bulk loaders), and each that waits is accounted for in MEMORY."""
MESSAGES: Final = 256 * KIB
"""Messages that one call of a dissector may give: one a byte of the largest packet. An endless generator ends here."""
MESSAGE_NOTES: Final = 32
"""Notes on a message of a plugin's dissector."""
NOTE: Final = 200
"""Characters of such a note."""
KEY_BITS: Final = 256
"""Bits of a pairing key: a UUID has 128."""
MESSAGE_COST: Final = 320
"""Bytes accounted for a message that waits, beside its head and body."""
DISSECTOR_COST: Final = 3_584
"""Bytes accounted for a dissector at work, with its pairing and its row; HTTP's takes about as much."""
CALM: Final = 4
"""Exchanges in lockstep after lost requests until the order of answers is trusted again, of a client that was never
seen to pipeline."""
STEADY: Final = 64
"""Bursts of requests, each answered wholly before the next, until it is trusted otherwise: after a join in
mid-stream, or a hole in a pipeline."""
QUIET: Final = 8
"""... or a silence of so many times the longest wait for an answer,"""
QUICK: Final = SECOND // 1_000
"""... which is taken to be no shorter than this."""
MATCHED: Final = 256
"""Requests and answers of a flow that are kept together until then; the oldest become entries of their own."""
UNANSWERED: Final = 30 * SECOND
"""A request without an answer ends as unanswered. Packetbeat 10 s, Pixie 60 s."""
BREAKER_FEED: Final = SECOND // 4
"""One call of a dissector (feed, gap, close ...), a probe or details() over this is interrupted: an offence."""
BREAKER_CALL: Final = 5 * SECOND
"""One call of an enricher, one step of a plugin's sink or backend between two awaits: nothing else runs in it."""
BREAKER_DEAF: Final = 10 * SECOND
"""A call that catches every interruption and goes on for so long ends the run: nobody else can end the call."""
BREAKER_SHARE: Final = 2 * SECOND
"""Time in one protocol's dissectors within BREAKER_WINDOW that trips its breaker ..."""
BREAKER_RATE: Final = 10_000
"""... if it also spends more than so many ns a byte. In a storm of connections of 100 bytes each costs 2,000 a byte."""
BREAKER_WINDOW: Final = 10 * SECOND
"""Window of the breaker, in wall time."""
BREAKER_OFFENCES: Final = 3
"""Offences that trip it; a window without any forgives those before."""
BREAKER_ERRORS: Final = 100
"""Unexpected exceptions of one plugin, after which it is switched off ..."""
BREAKER_FAILS: Final = 20
"""... if that is at least one in so many of its flows: a mistake that one flow in a million brings up is none."""

WEIGH_EVERY: Final = 1 * MIB
"""Bytes fed to the dissectors of a plugin's protocol, after which some of them are weighed."""
DISSECTOR_BYTES: Final = 4 * MIB
"""Bytes that a plugin's dissector of one flow may hold; its messages under way are four times 64 KiB."""
MODULE_BYTES: Final = 64 * MIB
"""Bytes by which what hangs off the module of a plugin's dissector may grow."""

# -- redis
RESP_DEPTH: Final = 32
"""Nested aggregates of a Redis reply. hiredis 9 until 1.0, COMMAND DOCS needs 9."""
RESP_BULK: Final = 4_096 * MIB
"""Bytes of one Redis string; they are counted, not held. Redis proto-max-bulk-len 512 MiB unless raised."""
RESP_INLINE: Final = 64 * KIB
"""Bytes of an inline command. Redis PROTO_INLINE_MAX_SIZE."""

# -- http/2
STREAMS: Final = 512
"""Streams of a connection that are followed at once; of further ones the oldest is given up. Servers allow 100 to 250
(nginx 128, Go 250), some proxies 1,024."""
RESETS: Final = 128
"""Streams that were reset whose late frames are still known for what they are; of older ones they may look like the
answer to a request that was not seen. RFC 9113 section 5.4.2 leaves the time open; nghttp2 keeps 100 closed streams."""
STREAM_BYTES: Final = UNDISSECTED + BODY_KEPT
"""Bytes of heads and bodies a side kept of messages under way; bodies beyond it are counted only, for heads beyond it
the oldest stream is given up. Go and nghttp2 let a peer send 64 KiB a stream by default."""
HEADER_BLOCK: Final = 64 * KIB
"""Bytes of one header block, CONTINUATION frames included, as sent. nghttp2 64 KiB, nginx 32 KiB."""
HEADER_FRAMES: Final = 128
"""Frames of one header block (CONTINUATION flood, CVE-2024-27316). nghttp2 8, Envoy 64 KiB in all."""
HEADER_LIST: Final = 256 * KIB
"""Bytes that one header block may unpack to (an HPACK bomb makes 4 KiB of each byte). Go 1 MiB, gRPC 8 to 16 KiB."""
HPACK_TABLE: Final = 64 * KIB
"""Bytes of a dynamic table that are kept, whatever SETTINGS allow; older entries then are unknown. 4,096 by default."""

# -- grpc
PROTO_DEPTH: Final = 32
"""Messages of Protocol Buffers within each other that are looked into. protobuf 100, prost 100."""
PROTO_VALUES: Final = 10_000
"""Values that are shown of one message; a field takes two bytes."""
PROTO_SCHEMA: Final = 64 * MIB
"""Bytes of descriptors that --proto may give, in all. Those of googleapis are 10 MiB."""
REFLECTION: Final = 5 * SECOND
"""Time for a server to answer what its services are (--proto reflect:HOST:PORT)."""
REFLECTED_SERVERS: Final = 64
"""Servers that are asked for their types while a capture goes on (--proto reflect)."""
REFLECTED: Final = 1_000
"""Services, and files of them, that are asked of one server."""

# -- dns
DNS_NAME: Final = 255
"""Octets of a domain name. RFC 1035 section 3.1."""
DNS_JUMPS: Final = 128
"""Pointers followed within one domain name, each of which leads backwards (a name has at most 127 labels); unbound
256."""
DNS_WAITING: Final = 64
"""Ids of DNS queries of a flow that are remembered for answers that repeat no question; the oldest is forgotten."""
DNS_TRANSFERS: Final = 16
"""Zone transfers of a flow under way, whose further messages are told from answers; BIND transfers-out is 10."""
DNS_ADDRESSES: Final = 16_384
"""Addresses that clients got from DNS, whose names are shown with later flows; the oldest half of them is forgotten for
further ones. Kubernetes allows 110 pods a node: 148 addresses each."""
DNS_BEFORE: Final = 4
"""Answers for one address and client that are kept: a name asked for later does not rename an earlier connection."""
DNS_KEPT: Final = 86_400 * SECOND
"""An answer is believed for its time to live, and for this at most. Unbound cache-max-ttl."""
DNS_FOLLOWS: Final = 10 * SECOND
"""An answer is believed for this at least, whatever its time to live: the connection that it was asked for follows it,
and three attempts of it take 7 s."""
DNS_RECORDS: Final = 2_048
"""Records of a DNS message that are shown; the shortest need 11 bytes, and a full message of 64 KiB has about 2,000."""
DNS_VALUE: Final = 4 * KIB
"""Characters of a record's data that are shown. BIND prints them all, a TXT record may have 64 KiB."""

# -- tls
TLS_RECORD: Final = 16 * KIB + 2 * KIB
"""Bytes that one record may hold. RFC 5246 section 6.2.3; RFC 8446 allows 256 beyond 16 KiB."""
TLS_MESSAGE: Final = 64 * KIB
"""Bytes of one handshake message; of a longer one, and of what follows it, nothing is read. OpenSSL takes 100 KiB of
certificates, NSS 128 KiB; chains with post-quantum signatures have about 20 KiB."""
TLS_FLIGHT: Final = 64 * KIB
"""Bytes of handshake messages of a side that are kept for its details."""
TLS_NAME: Final = 255
"""Characters of a server name that are shown; a domain name has no more (RFC 1035 section 3.1)."""
TLS_WARNINGS: Final = 8
"""Alerts of a handshake that are warnings only, which are noted."""
TLS_CERTIFICATES: Final = 16
"""Certificates of a chain that are shown. OpenSSL verifies chains of 100, browsers of about 10."""
TLS_NAMES: Final = 256
"""Other names of a certificate that are shown; Let's Encrypt allows 100."""
TLS_LIST: Final = 1_024
"""Ciphers, groups or extensions of a hello that are shown; the longest known lists have about 400."""
TLS_SECRETS: Final = 16_384
"""Connections whose secrets are remembered from key logs; those of the oldest are forgotten (about 1 KiB each)."""
TLS_KEYLOG_READ: Final = 4 * MIB
"""Bytes of a key log that are read at once, when it has grown and a secret is looked for."""
TLS_WAITING: Final = 64 * KIB
"""Bytes of encrypted records of a flow that wait for their secrets; then the flow is opaque."""
TLS_SEQUENCES: Final = 1_024
"""Record numbers that are tried after a loss: to open a record of 16 KiB takes about 10 us."""
TLS_TRIES: Final = 4_096
"""... and of one loss in all, whatever looks like the beginning of a record."""
TLS_HUNT: Final = 64
"""Places that are tried as the beginning of a record after a loss; then the flow is opaque."""
# -- websocket
WS_WINDOWS: Final = 256
"""Windows of permessage-deflate that are kept, about 40 KiB each, with 64 KiB of the message under way; who has not
used his own for longest loses it, and messages of his that refer to earlier ones are not inflated. nginx and Envoy
leave the extension off for this cost."""
WS_ENDS: Final = 64
"""Deflate streams that one piece of a message may hold; a sender who flushes as RFC 7692 recommends never ends one."""
WS_SEARCHED: Final = 16 * KIB
"""Bytes a side that are kept in search of a frame, after a loss."""

# -- details, only when somebody asks
UNPACKED: Final = 1 * MIB
"""Bytes a compressed body may unpack to."""
UNPACK_RATIO: Final = 20
"""Times its packed size (with 64 KiB always allowed): the guard against decompression bombs."""
OBJECT: Final = 8 * MIB
"""Bytes of the JSON of an entry's details: two bodies of UNPACKED bytes in base64 are 3 MiB."""

# -- sinks
QUEUE: Final = 65_536
"""Entries that wait in a sink's queue before its policy (block, drop_oldest, sample) applies."""
QUEUE_BYTES: Final = 64 * MIB
"""Bytes of heads and bodies that wait in a sink's queue, once it does not keep up."""
READ_AHEAD: Final = 4_096
"""Entries that wait in a sink's queue while a file is read: the reader can wait, so memory need not."""
ROW_FLOWS: Final = 4_096
"""Flows whose shared parts of a row are kept, twice (two generations); about 1 KiB each."""

# -- capture files
PACKET_BYTES: Final = 256 * KIB
"""Captured bytes of one packet; more means that the file is damaged. libpcap MAXIMUM_SNAPLEN."""
PCAPNG_BLOCK: Final = 16 * MIB
"""Bytes of one pcapng block; more means that the file is damaged. Wireshark MAX_BLOCK_SIZE."""
SECRET_BLOCKS: Final = 256
"""Blocks of secrets in a pcapng file between two packets that are kept; earlier ones are forgotten."""
PCAPNG_IFACES: Final = 4_096
"""Interfaces of one pcapng section; the file is read up to the one that is too many."""
IFACE_NAME: Final = 256
"""Bytes of an interface's name. Linux IFNAMSIZ 16, Windows device names about 60."""
REASONS: Final = 256
"""Names in one table of the ledger: texts of errors come from plugins, and some from what they read. Further
ones count as "other reasons"."""
LINE: Final = 300
"""Characters of an error's text that the user is told."""
NOTES: Final = 100
"""Notes that a backend keeps for the user; further ones are dropped."""

# -- packet sockets
LINKS: Final = 4_096
"""Interfaces of one namespace that are told apart; the packets of further ones count as unwanted."""
DEAD_LINKS: Final = 256
"""Vanished interfaces whose numbers are kept for packets still in the ring, before a number is used again."""
BPF_LINKS: Final = 500
"""Interfaces that the kernel filter compares; with more, packets are sorted out after they were copied."""

# -- programs in the kernel
PACKET_ROOM: Final = 256 * KIB
"""Bytes of the longest packet that a program copies whole. Segmentation offload makes 65,536 and headers, BIG TCP
up to 512 KiB; of longer ones so much is taken. libpcap MAXIMUM_SNAPLEN."""
PORTS: Final = 1_024
"""Ports that the kernel filter compares with."""
SOCKET_PIDS: Final = 1_024
"""Processes that the kernel filter compares with."""
SOCKET_COMMS: Final = 256
"""Names of processes that the kernel filter compares with."""
SOCKET_SPACES: Final = 1_024
"""Network namespaces that the kernel filter compares with."""
SOCKET_GROUPS: Final = 1_024
"""Control groups that the kernel filter compares with."""
SOCKET_OWNERS: Final = 65_536
"""Ends of connections whose process is remembered, as many as there are flows; the oldest are forgotten."""
GROUP_PATHS: Final = 16_384
"""Control groups whose paths are remembered; a node has some hundreds. The oldest are forgotten."""
GROUP_FOLDERS: Final = 65_536
"""Folders of control groups that are looked at to find one by its number."""
TLS_FILES: Final = 512
"""Files with a TLS library that are hooked at once: one for each image of a node's containers that has one."""
TLS_PROCESSES: Final = 1_024
"""Processes seen to speak TLS of which it is known whether that is read in clear; the first ones stay."""
BPF_LOG_LINES: Final = 200
"""Lines of libbpf and of the verifier kept to explain a refusal; a verifier's log may have a million."""

# -- filters
FILTER_TEXT: Final = 16 * KIB
"""Characters of a filter: a list of 900 IPv4 addresses. cel-cpp accepts 100,000."""
FILTER_DEPTH: Final = 32
"""Levels of nesting of a filter: the parser's own bound (cel-cpp). `a && b && c` is one level."""
FILTER_ELEMENTS: Final = 4_096
"""Elements of a list that exists(), all(), filter() and map() walk; a test of a longer one is false."""
FILTER_REGEX: Final = 1 * MIB
"""Memory of one regular expression of a filter. RE2 max_mem 8 MiB."""

# -- the author's kit
FLOWS_LISTED: Final = 10_000
"""Flows of a file that ``kshark flows`` lists; it says how many more there are."""
STREAM_KEPT: Final = 256 * KIB
"""Bytes a side of the one flow that is taken out of a file."""
SEEDED: Final = 4 * KIB
"""Bytes a side of a flow that become a first case: a test runs it cut at every byte."""

# -- sinks that label
LABEL_SETS: Final = 1_000
"""Sets of label values of the sink ``loki`` at once; what comes after them is in one more, "other". Loki takes
5,000 streams a tenant by default (max_global_streams_per_user), for all nodes together."""
SERIES: Final = 2_000
"""Sets of label values that the sink ``metrics`` counts apart; further ones count together as "other". Each is some
20 lines of a scrape; Prometheus' own advice is under 10,000 series a target where it can be."""
ALERT_ENTRIES: Final = 100_000
"""Entries of a rate of the sink ``alert``: their dates are kept, 32 bytes each."""
ALERT_NOTICES: Final = 16
"""Notifications of one alert that wait to be told; a dead webhook has them pile up."""
