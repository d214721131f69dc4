"""Downloads from a local server that breaks off, forgets, changes its file and lies."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mdtdist.data.sources import download as module
from mdtdist.data.sources.download import WrongHash, download
from mdtdist.errors import InputError

DATA = bytes(range(256)) * 40
SHA256 = hashlib.sha256(DATA).hexdigest()


class _Server(ThreadingHTTPServer):
    """Serves ``data`` with ranges; ``cuts`` are bytes after which the next connections break off."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.data, self.etag, self.cuts, self.codes, self.ranges = DATA, '"one"', [], [], []
        self.has_ranges = True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, start = self.server, 0
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        if server.codes:
            self.send_error(server.codes.pop(0))
            return
        if wanted and server.has_ranges and self.headers.get("If-Range") == server.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(server.data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.data) - 1}/{len(server.data)}")
        else:
            self.send_response(200)
        body = server.data[start:]
        self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    server = _Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def _left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_whole_and_is_not_fetched_twice(server, tmp_path):
    seen = []
    for _ in range(2):
        path = download(
            server.url, tmp_path / "sub" / "f", sha256=SHA256, progress=lambda n, total: seen.append((n, total))
        )
    assert path.read_bytes() == DATA and _left(path.parent) == ["f"] and len(server.ranges) == 1
    assert seen[-1] == (len(DATA), len(DATA))


def test_broken_connection_continues_where_it_ended(server, tmp_path):
    server.cuts = [3000, 2000]
    assert download(server.url, tmp_path / "f", sha256=SHA256).read_bytes() == DATA
    assert server.ranges == [None, "bytes=3000-", "bytes=5000-"]


def test_killed_run_continues_in_the_next(server, tmp_path):
    server.cuts = [4000]
    with pytest.raises(InputError, match="run it again to continue"):
        download(server.url, tmp_path / "f", attempts=0)
    assert _left(tmp_path) == [".f.mark", ".f.part"]
    assert download(server.url, tmp_path / "f", sha256=SHA256).read_bytes() == DATA
    assert server.ranges == [None, "bytes=4000-"] and _left(tmp_path) == ["f"]


def test_file_that_changed_meanwhile_starts_anew(server, tmp_path):
    server.cuts = [4000]
    with pytest.raises(InputError):
        download(server.url, tmp_path / "f", attempts=0)
    server.data, server.etag = DATA[::-1], '"two"'
    assert download(server.url, tmp_path / "f").read_bytes() == DATA[::-1]


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_mark_nothing_is_continued(server, tmp_path, etag):
    server.etag, server.cuts = etag, [4000]
    assert download(server.url, tmp_path / "f", sha256=SHA256).read_bytes() == DATA
    assert server.ranges == [None, None]


def test_server_without_ranges_starts_anew(server, tmp_path):
    server.has_ranges, server.cuts = False, [4000]
    assert download(server.url, tmp_path / "f", sha256=SHA256).read_bytes() == DATA


def test_whole_part_is_taken_and_a_part_too_long_is_not(server, tmp_path):
    (tmp_path / ".f.mark").write_text('"one"')
    (tmp_path / ".f.part").write_bytes(DATA + b"more")
    assert download(server.url, tmp_path / "f", sha256=SHA256).read_bytes() == DATA


def test_wrong_hash_leaves_nothing(server, tmp_path):
    with pytest.raises(WrongHash, match="expected 000000000000"):
        download(server.url, tmp_path / "f", sha256="0" * 64)
    assert _left(tmp_path) == []


def test_file_with_a_wrong_hash_is_fetched_again(server, tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    assert download(server.url, tmp_path / "f", sha256=SHA256).read_bytes() == DATA


def test_busy_server_is_asked_again_and_a_missing_file_is_not(server, tmp_path):
    server.codes = [503, 429]
    assert download(server.url, tmp_path / "f").read_bytes() == DATA
    server.codes = [404]
    with pytest.raises(InputError, match="answers 404"):
        download(server.url, tmp_path / "g")
    assert len(server.ranges) == 4


def test_attempts_end(server, tmp_path):
    server.codes = [503] * 10
    with pytest.raises(InputError, match="503"):
        download(server.url, tmp_path / "f", attempts=3)
    assert len(server.ranges) == 3


def test_attempts_end_on_a_line_that_breaks_off_anywhere(server, tmp_path):
    server.has_ranges, server.cuts = False, [2000, 1000] * 50
    with pytest.raises(InputError, match="ended early"):
        download(server.url, tmp_path / "f", attempts=3)
    assert len(server.ranges) == 4  # one that came far, and three in vain


def test_only_http(tmp_path):
    with pytest.raises(InputError, match="no http address"):
        download("file:///etc/hostname", tmp_path / "f")
