"""What a guest says over TLS: curl to a server of Python's ssl, and a Go program to another. Standard library only."""

import http.server
import ssl
import subprocess
import threading
import time

NAMES = "-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"over TLS\n")


def run(*words: str) -> bool:
    return subprocess.run(words, cwd="/tmp", timeout=30, check=False).returncode == 0


def ask(*words: str) -> None:
    """Until the server is there, and then again: what is said before a program is found and hooked is not seen."""
    end = time.monotonic() + 60
    while not run(*words) and time.monotonic() < end:
        time.sleep(1)
    for _ in range(3):
        run(*words)


def main() -> None:
    assert run("openssl", "req", *NAMES.split())
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain("/tmp/cert.pem", "/tmp/key.pem")
    server = http.server.HTTPServer(("127.0.0.1", 443), Answer)
    server.socket = trust.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ask("curl", "-sk", "https://127.0.0.1/openssl")
    go = subprocess.Popen(["/kshark/go", "serve", "127.0.0.1:8443"], cwd="/tmp")
    time.sleep(15)  # it is found, read and hooked meanwhile
    ask("/kshark/go", "http1", "https://127.0.0.1:8443/go")
    time.sleep(5)
    go.kill()


if __name__ == "__main__":
    main()
