"""A local server that speaks the part of the hub's protocol that downloads need."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Files by (repository, revision, name); requests as they came in; a token that private repositories want;
    after how many bytes a connection ends."""

    url: str
    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    private: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    cut: int | None = None


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        hub = self.hub
        hub.requests.append((self.command, self.path))
        if self.path.count("/") < 5:  # the client's questions about other things than files
            return self.fail(404, "EntryNotFound")
        owner, name, _, revision, file = self.path.lstrip("/").split("/", 4)
        repository = f"{owner}/{name}"
        token = hub.private.get(repository)
        known = {key[:2] for key in hub.files}
        if not any(repo == repository for repo, _ in known) or (
            token and self.headers.get("Authorization") != f"Bearer {token}"
        ):
            return self.fail(401, "RepoNotFound")
        if (repository, revision) not in known:
            return self.fail(404, "RevisionNotFound")
        content = hub.files.get((repository, revision, file))
        if content is None:
            return self.fail(404, "EntryNotFound")
        self.send_response(200)
        self.send_header("X-Repo-Commit", revision if len(revision) == len(COMMIT) else COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content[: hub.cut])

    def fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """Runs the server on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {}))
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    server.RequestHandlerClass.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
