"""nginx over TLS in a network namespace, and clients of every library, whose plaintext both ends know."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit_go import build
from netlab import Lab
from nginx_conf import configure

SERVED = """  ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
  server {{ listen 443 ssl http2; location / {{ return 200 'over TLS\\n'; }}
    location /file {{ alias {folder}/file; }}
    location /toy. {{ grpc_pass grpc://127.0.0.1:50051; }} }}"""
HTTP_CLIENT = """
import http.client, ssl
connection = http.client.HTTPSConnection("127.0.0.1", context=ssl._create_unverified_context())
for number in range(2):
    connection.request("GET", f"/http.client/{number}")
    assert connection.getresponse().read() == b"over TLS\\n"
"""
ASYNCIO = """
import asyncio, ssl
async def ask(number):
    trust = ssl._create_unverified_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", 443, ssl=trust)
    for again in range(2):
        writer.write(f"GET /asyncio/{number}/{again} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n".encode())
        await reader.readuntil(b"over TLS\\n")
    writer.close()
async def main():
    await asyncio.gather(*map(ask, range(3)))
asyncio.run(main())
"""
GRPC = """
import sys
from concurrent import futures
import grpc
def say(request, context):
    return b"said " + request
methods = {"Say": grpc.unary_unary_rpc_method_handler(say)}
server = grpc.server(futures.ThreadPoolExecutor(1))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Echo", methods),))
server.add_insecure_port("127.0.0.1:50051")
server.start()
trust = grpc.ssl_channel_credentials(open("cert.pem", "rb").read())
name = [("grpc.ssl_target_name_override", "localhost")]
with grpc.secure_channel("127.0.0.1:443", trust, name) as channel:
    call = channel.unary_unary("/toy.Echo/Say")
    for number in range(3):
        assert call(b"%d" % number, timeout=30) == b"said %d" % number
server.stop(None)
"""
ELSEWHERE = """
import queue, socket, ssl, threading
trust, wire = ssl._create_unverified_context(), socket.create_connection(("127.0.0.1", 443))
inside, outside, waiting = ssl.MemoryBIO(), ssl.MemoryBIO(), queue.Queue()
session = trust.wrap_bio(inside, outside)
def send():
    while data := waiting.get():
        wire.sendall(data)
thread = threading.Thread(target=send)
thread.start()
def step(action):
    while True:
        try:
            return action()
        except ssl.SSLWantReadError:
            waiting.put(outside.read())
            inside.write(wire.recv(65536))
step(session.do_handshake)
session.write(b"GET /elsewhere HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
waiting.put(outside.read())
answer = b""
while b"over TLS" not in answer:
    answer += step(lambda: session.read(65536))
waiting.put(b"")
thread.join()
"""
NODE = """
const options = { host: '127.0.0.1', port: 443, rejectUnauthorized: false, path: '/node' };
require('https').get(options, (answer) => answer.on('data', (data) => {
  if (data != 'over TLS\\n') process.exit(1);
}));
"""


class TlsSite:
    """nginx at 127.0.0.1:443 of a namespace of its own."""

    def __init__(self, space: str, folder: Path) -> None:
        self.space, self.folder = space, folder

    def words(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.space, *command]

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(self.words(*command), stdout=quiet, stderr=quiet, cwd=self.folder)

    def ask(self, *command: str, check: bool = True) -> bytes:
        done = subprocess.run(
            self.words(*command), capture_output=True, timeout=60, cwd=self.folder
        )
        assert not check or done.returncode == 0, (command, done.stderr)
        return done.stdout

    def python(self, text: str) -> None:
        self.ask(sys.executable, "-c", textwrap.dedent(text))

    def curl(self, path: str, *words: str) -> bytes:
        return self.ask("curl", "-sk", *words, f"https://127.0.0.1{path}")

    def go(self, *flags: str) -> str:
        """The Go program, built with these flags for the linker."""
        name = "go" + "".join(flag.strip("-") for flag in flags)
        build(self.folder, name, *flags)
        return f"./{name}"


@contextmanager
def tls_site(lab: Lab, folder: Path) -> Iterator[TlsSite]:
    made = TlsSite(lab.space(), folder)
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    names = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*words, *names], check=True, capture_output=True)
    command = configure(folder, SERVED.format(folder=folder))
    (folder / "file").write_bytes(b"0123456789abcdef" * 10_000)
    nginx = made.start(*command.split())
    try:
        yield made
    finally:
        nginx.terminate()
        nginx.wait()
