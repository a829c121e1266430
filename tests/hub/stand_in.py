"""A minimal stand-in for the Hugging Face Hub that runs on this machine.

It implements the requests that huggingface_hub sends to create a repository, upload files, commit, and download, with
the status codes and headers of the real Hub.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# Suffixes that the .gitattributes file of a new Hub repository assigns to Git LFS.
LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".ckpt", ".png")
ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
NAME = r"(?P<repository>[\w.-]+/[\w.-]+)"


def git_hash(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@dataclass
class Repository:
    """The commits of a repository. Large files are stored separately, and a commit contains only their hashes."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    large: set[str] = field(default_factory=set)

    def commit(self, files: dict[str, bytes]) -> str:
        digest = hashlib.sha1(json.dumps([len(self.commits), sorted(files)]).encode()).hexdigest()
        self.commits.append((digest, files))
        return digest

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


class StandInHub(ThreadingHTTPServer):
    """An HTTP server that responds like the Hub and can simulate failures.

    Attributes:
        users: User name of each access token.
        repositories: Repositories, keyed by name.
        objects: Large files, keyed by SHA-256 hash.
        requests: Method and path of every request.
        uploaded: Hashes of the uploaded large files, in order.
        dead_from: Index of the request at which the server stops responding.
        lost_response: Part of a path. Requests to such a path take effect, but their responses are lost.
        cut_after: Number of bytes after which the next download is cut off.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.users = {"hf_of_alice": "alice", "hf_of_bob": "bob"}
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.headers_seen: list[str] = []
        self.uploaded: list[str] = []
        self.dead_from: int | None = None
        self.lost_response: str | None = None
        self.cut_after: int | None = None
        self.lock = Lock()
        self.thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()

    def add(self, name: str, files: dict[str, bytes]) -> None:
        """Add a public repository."""
        repository = self.repositories[name] = Repository(private=False)
        repository.large = {path for path in files if path.endswith(LFS_SUFFIXES)}
        digests = {path: hashlib.sha256(files[path]).hexdigest() for path in repository.large}
        self.objects |= {digest: files[path] for path, digest in digests.items()}
        repository.commit(files | {path: digest.encode() for path, digest in digests.items()})

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close the connection."""

    def files(self, name: str) -> dict[str, bytes]:
        """Return the files of the latest commit of a repository, except .gitattributes."""
        repository = self.repositories[name]
        files = repository.commits[-1][1]
        content = {
            path: self.objects[data.decode()] if path in repository.large else data for path, data in files.items()
        }
        return {path: data for path, data in content.items() if path != ".gitattributes"}


class _Handler(BaseHTTPRequestHandler):
    server: StandInHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        server = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        with server.lock:
            server.requests.append(f"{self.command} {self.path}")
            if server.dead_from is not None and len(server.requests) > server.dead_from:
                self.close_connection = True
                self.connection.close()
                return
            self._route(body)

    def _chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _route(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        routes: dict[str, Callable[..., None]] = {
            r"/api/whoami-v2": self._whoami,
            r"/api/validate-yaml": self._validate,
            r"/api/repos/create": self._create,
            rf"/api/models/{NAME}(/revision/(?P<revision>[^/]+))?": self._info,
            rf"/api/models/{NAME}/preupload/(?P<revision>[^/]+)": self._preupload,
            rf"/api/models/{NAME}/commit/(?P<revision>[^/]+)": self._commit,
            rf"/{NAME}\.git/info/lfs/objects/batch": self._batch,
            r"/lfs/(?P<digest>\w+)": self._put,
            rf"/{NAME}/resolve/(?P<revision>[^/]+)/(?P<file>.+)": self._resolve,
            r"/storage/(?P<digest>\w+)": self._storage,
        }
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.server.users:
            self._answer(
                401,
                {"error": "Invalid credentials"},
                {"X-Error-Message": "Invalid credentials in Authorization header"},
            )
            return
        self.user = self.server.users.get(token)
        for pattern, answer in routes.items():
            if match := re.fullmatch(pattern, path):
                answer(body, **{name: value for name, value in match.groupdict().items() if value is not None})
                return
        self._answer(404, {"error": f"not implemented: {self.command} {path}"})

    def _answer(self, status: int, content: Any = None, headers: dict[str, str] | None = None) -> None:
        if self.server.lost_response and self.server.lost_response in self.path:
            self.close_connection = True
            self.connection.close()
            return
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.server.cut_after
        if cut is not None and isinstance(content, bytes) and len(data) > cut:
            self.server.cut_after = None
            self.wfile.write(data[:cut])
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(data)

    def _readable(self, name: str) -> Repository | None:
        repository = self.server.repositories.get(name)
        if repository is not None and (not repository.private or self.user == name.partition("/")[0]):
            return repository
        self._answer(404 if self.user else 401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return None

    def _writable(self, name: str) -> Repository | None:
        repository = self._readable(name)
        if repository is not None and self.user != name.partition("/")[0]:
            self._answer(403, {"error": "Forbidden"})
            return None
        return repository

    def _whoami(self, body: bytes) -> None:
        if self.user:
            self._answer(200, {"name": self.user, "type": "user", "auth": {"accessToken": {"role": "write"}}})
        else:
            self._answer(401, {"error": "Unauthorized"})

    def _validate(self, body: bytes) -> None:
        import yaml

        text = json.loads(body)["content"]
        metadata = yaml.safe_load(text.split("---")[1])
        errors = [] if isinstance(metadata, dict) else [{"message": "metadata must be a mapping"}]
        self._answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def _create(self, body: bytes) -> None:
        values = json.loads(body)
        name = f"{values['organization'] or self.user}/{values['name']}"
        if self.user != name.partition("/")[0]:
            self._answer(403, {"error": "You don't have the rights to create a model under this namespace"})
        elif name in self.server.repositories:
            self._answer(409, {"error": "You already created this model repo"})
        else:
            repository = Repository(private=values.get("visibility") == "private")
            repository.commit({".gitattributes": ATTRIBUTES})
            self.server.repositories[name] = repository
            self._answer(200, {"url": f"{self.server.address}/{name}", "name": name})

    def _info(self, body: bytes, repository: str, revision: str = "main") -> None:
        repo = self._readable(repository)
        if repo is None:
            return
        commit = repo.at(revision)
        if commit is None:
            self._answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return
        digest, files = commit
        siblings: list[dict[str, Any]] = []
        for path, data in files.items():
            entry: dict[str, Any] = {"rfilename": path}
            if "blobs" in parse_qs(urlsplit(self.path).query):
                content = self.server.objects[data.decode()] if path in repo.large else data
                entry |= {"size": len(content), "blobId": git_hash(data)}
                if path in repo.large:
                    entry["lfs"] = {"sha256": data.decode(), "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        values = {"_id": "1", "id": repository, "modelId": repository, "sha": digest, "private": repo.private}
        self._answer(200, {**values, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings})

    def _preupload(self, body: bytes, repository: str, revision: str) -> None:
        repo = self._writable(repository)
        if repo is None:
            return
        files = [
            {
                "path": entry["path"],
                "uploadMode": "lfs" if entry["path"].endswith(LFS_SUFFIXES) else "regular",
                "shouldIgnore": False,
                "oid": self._oid(repo, entry["path"]),
            }
            for entry in json.loads(body)["files"]
        ]
        self._answer(200, {"files": files})

    def _oid(self, repo: Repository, path: str) -> str | None:
        data = repo.commits[-1][1].get(path)
        if data is None:
            return None
        return data.decode() if path in repo.large else git_hash(data)

    def _batch(self, body: bytes, repository: str) -> None:
        if self._writable(repository) is None:
            return
        objects = []
        for item in json.loads(body)["objects"]:
            entry = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.server.objects:
                entry["actions"] = {"upload": {"href": f"{self.server.address}/lfs/{item['oid']}"}}
            objects.append(entry)
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _put(self, body: bytes, digest: str) -> None:
        if hashlib.sha256(body).hexdigest() != digest:
            self._answer(400, {"error": "the hash does not match"})
            return
        self.server.objects[digest] = body
        self.server.uploaded.append(digest)
        self._answer(200, {})

    def _commit(self, body: bytes, repository: str, revision: str) -> None:
        repo = self._writable(repository)
        if repo is None:
            return
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repo.commits[-1][0]):
            self._answer(412, {"error": "A commit has happened since"})
            return
        files, large = dict(repo.commits[-1][1]), set(repo.large)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.server.objects:
                    self._answer(400, {"error": f"the content of {value['path']} was not uploaded"})
                    return
                files[value["path"]] = value["oid"].encode()
                large.add(value["path"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repo.large = large
        digest = repo.commit(files)
        url = f"{self.server.address}/{repository}/commit/{digest}"
        self._answer(200, {"success": True, "commitOid": digest, "commitUrl": url, "hookOutput": ""})

    def _resolve(self, body: bytes, repository: str, revision: str, file: str) -> None:
        repo = self._readable(repository)
        if repo is None:
            return
        commit = repo.at(revision)
        if commit is None or file not in commit[1]:
            self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        digest, files = commit
        headers = {"X-Repo-Commit": digest}
        if file in repo.large:
            oid = files[file].decode()
            headers |= {
                "X-Linked-Etag": f'"{oid}"',
                "X-Linked-Size": str(len(self.server.objects[oid])),
                # As on the Hub, the storage has a different host name, so clients neither follow the redirect of a HEAD
                # request nor send their token to the storage.
                "Location": f"{self.server.address.replace('127.0.0.1', 'localhost')}/storage/{oid}",
            }
            self._answer(302, b"", headers)
        else:
            self._content(files[file], {**headers, "ETag": f'"{git_hash(files[file])}"'})

    def _storage(self, body: bytes, digest: str) -> None:
        self._content(self.server.objects[digest], {"ETag": f'"{digest}"'})

    def _content(self, data: bytes, headers: dict[str, str]) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if match is None:
            self._answer(200, data, headers)
            return
        first = int(match[1])
        self._answer(206, data[first:], {**headers, "Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"})
