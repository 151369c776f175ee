"""A hub on the loopback address, as far as `datasets`, `huggingface_hub` and `transformers` ask one.

Repositories have commits; a branch is the newest. `faults` are answered in place of the next requests that they match:
a status, or "cut", half of a file and then nothing. `run_tests` lifts the tests' ban on the hub for its own process,
and points the clients here before any of them is imported, since they read `HF_ENDPOINT` once.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import os
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Files = dict[str, bytes]
CUT = "cut"


def files_below(folder: Path) -> Files:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


class Hub:
    """Repositories by "datasets/ORGANISATION/NAME" or "models/ORGANISATION/NAME", and what was asked of them."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, Files]] = {}
        self.locked: dict[str, int] = {}  # gated repositories: 401 without a token, 403 with one
        self.faults: list[list] = []  # [text in the path, method or None, status or "cut", times left]
        self.asked: list[tuple[str, str, int | str]] = []
        self._lock = threading.Lock()
        handler = type("Bound", (Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def commit(self, repository: str, files: Files) -> str:
        """Move the branch `main` of a repository to new content; its commit."""
        history = self.commits.setdefault(repository, {})
        told = "".join(f"{name} {hashlib.sha1(text).hexdigest()}" for name, text in sorted(files.items()))
        sha = hashlib.sha1(f"{repository} {len(history)} {told}".encode()).hexdigest()
        history[sha] = files
        return sha

    def newest(self, repository: str) -> str:
        return list(self.commits[repository])[-1]

    def fail(self, text: str, status: int | str, times: int = 1, method: str | None = None) -> None:
        self.faults.append([text, method, status, times])

    def fault(self, method: str, path: str) -> int | str | None:
        with self._lock:
            for fault in self.faults:
                text, wanted, status, left = fault
                if left and text in path and wanted in (None, method):
                    fault[3] -= 1
                    return status
        return None


API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?$")
FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")
ERRORS = {404: "RepoNotFound", 401: "GatedRepo", 403: "GatedRepo"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urllib.parse.urlsplit(self.path)
        path, self.query = urllib.parse.unquote(address.path), urllib.parse.parse_qs(address.query)
        fault = self.hub.fault(self.command, path)
        self.hub.asked.append((self.command, path, fault or 0))
        if isinstance(fault, int):
            self._refuse(fault, None)
        elif found := API.match(path):
            self._api(*found.groups())
        elif found := FILE.match(path):
            self._file(*found.groups(), cut=fault == CUT)
        else:
            self._refuse(404, "EntryNotFound")

    def _files(self, repository: str, revision: str | None) -> tuple[str, Files] | None:
        """Commit and files, or None after a refusal."""
        history = self.hub.commits.get(repository)
        if history is None:
            return self._refuse(404, "RepoNotFound")
        if repository in self.hub.locked:
            return self._refuse(self.hub.locked[repository], "GatedRepo")
        sha = self.hub.newest(repository) if revision in (None, "main") else revision
        return (sha, history[sha]) if sha in history else self._refuse(404, "RevisionNotFound")

    def _api(self, kind: str, name: str, what: str | None, revision: str | None, below: str | None) -> None:
        if (found := self._files(f"{kind}/{name}", revision)) is None:
            return
        sha, files = found
        if what in (None, "revision"):
            siblings = [{"rfilename": file} for file in sorted(files)]
            self._json({"id": name, "sha": sha, "private": False, "gated": False, "tags": [], "siblings": siblings})
        elif what == "tree":
            self._json(self._tree(files, below or "", self.query.get("recursive", ["false"])[0].lower() == "true"))
        else:
            try:
                asked = json.loads(self.body)["paths"]
            except ValueError:
                asked = urllib.parse.parse_qs(self.body.decode())["paths"]
            told = {entry["path"]: entry for entry in self._tree(files, "", recursive=True) or []}
            self._json([told[path] for path in asked if path in told])

    @staticmethod
    def _tree(files: Files, below: str, recursive: bool) -> list[dict] | None:
        start, entries = f"{below}/" if below else "", {}
        for path, text in sorted(files.items()):
            if not path.startswith(start):
                continue
            parts = path.removeprefix(start).split("/")
            for depth in range(1, len(parts)):
                folder = start + "/".join(parts[:depth])
                if recursive or depth == 1:
                    entries[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
            if recursive or len(parts) == 1:
                oid = hashlib.sha1(text).hexdigest()
                entries[path] = {"type": "file", "path": path, "oid": oid, "size": len(text)}
        return list(entries.values()) if entries else None

    def _file(self, kind: str | None, name: str, revision: str, path: str, cut: bool) -> None:
        if (found := self._files(f"{kind or 'models'}/{name}", revision)) is None:
            return
        sha, files = found
        if path not in files:
            self._refuse(404, "EntryNotFound", sha)
            return
        text, status, start = files[path], 200, 0
        headers = {"ETag": f'"{hashlib.sha1(text).hexdigest()}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if asked := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or len(text)), len(text) - 1)
            if start >= len(text):
                self._refuse(416, None)
                return
            status, headers["Content-Range"] = 206, f"bytes {start}-{end}/{len(text)}"
            text = text[start : end + 1]
        self._send(status, headers, text, cut)

    def _json(self, value: object) -> None:
        if value is None:
            self._refuse(404, "EntryNotFound")
            return
        self._send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _refuse(self, status: int, code: str | None, sha: str | None = None) -> None:
        headers = {"X-Error-Message": f"the hub of the tests says {status}"}
        headers |= {"X-Error-Code": code} if code else {}
        headers |= {"X-Repo-Commit": sha} if sha else {}
        headers |= {"Retry-After": "0"} if status == 429 else {}
        self._send(status, headers, json.dumps({"error": headers["X-Error-Message"]}).encode())

    def _send(self, status: int, headers: dict[str, str], text: bytes, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in {"Date": email.utils.formatdate(usegmt=True), **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text[: len(text) // 2] if cut else text)
        self.close_connection = self.close_connection or cut


HUB: Hub | None = None


def run_tests(*arguments: str) -> int:
    """Run pytest in this process, whose clients ask a hub of its own: `HUB`."""
    global HUB
    import pytest

    HUB = Hub()
    os.environ |= {"HF_ENDPOINT": HUB.address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return int(pytest.main(list(arguments)))
