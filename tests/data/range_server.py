"""A small HTTP server of a folder that answers range requests, and can misbehave on purpose."""

import contextlib
import email.utils
import functools
import hashlib
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


@dataclass
class Served:
    """What the server did, and how it is to behave.

    Attributes:
        asked: (name, first byte, bytes) of every request; no first byte for a whole file.
        failures: Statuses that the next requests get, 0 for a connection that is cut.
        ranges: Whether range requests are understood.
        tags: Whether answers carry ``etags``, ``dates`` or neither.
    """

    url: str = ""
    asked: list[tuple[str, int | None, int]] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    ranges: bool = True
    tags: str = "etags"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, root: Path, served: Served, *args):
        self.root, self.served = root, served
        super().__init__(*args)

    def log_message(self, *args):
        pass

    def do_GET(self):
        name = unquote(self.path).lstrip("/")
        if self.served.failures:
            return self._fail(self.served.failures.pop(0), name)
        path = self.root / name
        if not path.is_file():
            return self.send_error(404)
        data = path.read_bytes()
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if match is None or not self.served.ranges:
            self.served.asked.append((name, None, len(data)))
            return self._answer(200, data, data, "")
        first, last = int(match[1]), min(int(match[2]), len(data) - 1)
        self.served.asked.append((name, first, last - first + 1))
        if first >= len(data):
            return self.send_error(416)
        return self._answer(206, data[first : last + 1], data, f"bytes {first}-{last}/{len(data)}")

    def _answer(self, status, body, whole, content_range):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        if self.served.tags == "etags":
            self.send_header("ETag", f'"{hashlib.md5(whole).hexdigest()}"')
        if self.served.tags == "dates":
            self.send_header("Last-Modified", email.utils.formatdate(len(whole), usegmt=True))
        self.end_headers()
        self.wfile.write(body)

    def _fail(self, status, name):
        self.served.asked.append((name, None, 0))
        if status:
            return self.send_error(status)
        self.send_response(206)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"cut")
        self.close_connection = True
        return None


@contextlib.contextmanager
def serve(root: Path):
    """Serves a folder on this machine until the block ends."""
    served = Served()
    handler = functools.partial(_Handler, root, served)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
