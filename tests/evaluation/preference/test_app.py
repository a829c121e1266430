"""Tests for the pages and requests of the web application, without a browser."""

import re
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from evaluation.preference.invitations import read_tokens
from evaluation.preference.storage import tables
from evaluation.preference.tokens import digest, new_token
from evaluation.preference.web.app import Limits
from evaluation.preference.web.serve import MAX_BODY, application
from tests.evaluation.preference.conftest import PROMPTS, SCRIPT, Created

ADDRESS = "http://127.0.0.1:8765"
PUBLIC = "http://study.example.org"
TOTAL = 10  # eight pairs and two checks

Visit = Callable[..., TestClient]


@pytest.fixture
def visit(created: Created) -> Visit:
    """Return a function that opens the study in a new browser without scripts."""

    def open_browser(*overrides: str, is_open: bool = True, limits: Limits | None = None) -> TestClient:
        loaded, store = created("raters=2", *overrides)
        app = application(loaded.config, store, "127.0.0.1", "" if is_open else PUBLIC, limits)
        client = TestClient(app, base_url=ADDRESS, follow_redirects=False, headers={"origin": ADDRESS})
        client.loaded, client.store = loaded, store  # type: ignore[attr-defined]
        client.cookie = f"rater_{digest(min(store.images().values()))[:16]}"  # type: ignore[attr-defined]
        return client

    return open_browser


def begin(client: TestClient) -> str:
    """Start as a new rater, and return the path of the first comparison."""
    token = re.search(r'name="token" value="([^"]*)"', client.get("/").text)
    assert token is not None
    assert client.post("/begin", data={"token": token[1]}).headers["location"] == "/next"
    return client.get("/next").headers["location"]


def answer(client: TestClient, path: str, choice: str = "left", go: str = "next") -> str:
    fields = {"realism": choice, "fidelity": choice, "alignment": choice, "go": go}
    return client.post(path, data=fields).headers["location"]


def stored(client: TestClient) -> dict[tuple[str, str], tuple[str, int]]:
    """Return the stored choice for each comparison and question, and how often it was changed."""
    with client.store.reading() as connection:  # type: ignore[attr-defined]
        rows = connection.execute(tables.answer.select()).all()
    assert len({(row.comparison, row.question) for row in rows}) == len(rows)
    return {(row.comparison, row.question): (row.choice, row.changes) for row in rows}


def test_session_without_scripts_from_start_to_end(visit: Visit) -> None:
    client = visit()
    path = begin(client)
    visited: list[str] = []
    while path.startswith("/compare/"):
        page = client.get(path)
        assert f"Pair {len(visited) + 1} of {TOTAL}" in page.text
        assert page.headers["cache-control"] == "no-store"
        for image in re.findall(r'<img src="(/image/[^"]+)"', page.text):
            picture = client.get(image)
            assert picture.headers["content-type"] == "image/png"
            assert picture.content.startswith(b"\x89PNG")
        visited.append(path)
        path = answer(client, path)
    assert path == "/next"
    assert client.get("/next").headers["location"] == "/done"
    assert "all answers are stored" in client.get("/done").text
    assert len(set(visited)) == TOTAL
    assert len(stored(client)) == 3 * TOTAL
    assert answer(client, visited[3], "right", "back") == visited[2]
    assert stored(client)[visited[3].rpartition("/")[2], "realism"] == ("right", 1)
    assert len(stored(client)) == 3 * TOTAL


def test_pages_name_neither_subjects_nor_prompt_ids(visit: Visit) -> None:
    client = visit()
    path = begin(client)
    for _ in range(TOTAL):
        page = client.get(path).text
        assert "00000" not in page
        for word in ("subject", "noise", "repeat", "ImageFolder", ">a<", ">b<"):
            assert word not in page
        path = answer(client, path)


def test_repeated_requests_change_nothing(visit: Visit) -> None:
    """Every request is sent twice, as if a rater had double-clicked the buttons and reloaded the pages."""
    client = visit()
    token = new_token()
    for _ in range(2):
        assert client.post("/begin", data={"token": token}).headers["location"] == "/next"
    client.cookies.clear()
    assert client.post("/begin", data={"token": token}).headers["location"] == "/next"
    with client.store.reading() as connection:  # type: ignore[attr-defined]
        assert len(connection.execute(tables.rater.select()).all()) == 3  # two of these raters were invited
    path = client.get("/next").headers["location"]
    locations = {answer(client, path) for _ in range(3)}
    assert len(locations) == 1
    assert {changes for _, changes in stored(client).values()} == {0}
    assert len(stored(client)) == 3


def test_single_answers_are_stored_and_missing_ones_are_requested(visit: Visit) -> None:
    client = visit()
    path = begin(client)
    saved = client.post(path, data={"fidelity": "right"})
    assert (saved.status_code, saved.content) == (204, b"")
    assert client.get("/next").headers["location"] == path
    assert re.findall(r'value="(\w+)"[^>]*checked', client.get(path).text) == ["right"]
    assert client.post(path, data={"go": "next"}).headers["location"] == f"{path}?incomplete"
    assert "Answer every question first." in client.get(f"{path}?incomplete").text
    assert client.post(path, data={"go": "back"}).headers["location"] == "/"
    assert "You have answered 0 of 10 pairs." in client.get("/").text


def test_prompt_is_shown_as_text(visit: Visit) -> None:
    client = visit(f"pairs_per_rater={PROMPTS}")
    path, shown = begin(client), 0
    while path.startswith("/compare/"):
        page = client.get(path).text
        if "&lt;script&gt;document.title" in page:
            shown += 1
            assert SCRIPT not in page
        assert page.count("<script") == 1
        path = answer(client, path)
    assert shown >= 1


INVALID = [
        "realism=middle", "realism=tie", "beauty=left", "realism=left&realism=right", "go=elsewhere", "realism", "=",
        "%ff=left", "&".join(f"q{i}=left" for i in range(50)),
]  # fmt: skip


def test_invalid_answers_are_refused(visit: Visit) -> None:
    client = visit()
    path = begin(client)
    for body in INVALID:
        assert client.post(path, content=body.encode()).status_code == 400, body
    assert stored(client) == {}


def test_ties_are_possible_on_request_only(visit: Visit) -> None:
    client = visit("ties=true")
    path = begin(client)
    assert 'value="tie"' in client.get(path).text
    assert client.post(path, data={"realism": "tie"}).status_code == 204
    assert [choice for choice, _ in stored(client).values()] == ["tie"]


def test_comparisons_and_images_belong_to_one_rater(visit: Visit) -> None:
    client = visit()
    path = begin(client)
    images = re.findall(r'<img src="(/image/[^"]+)"', client.get(path).text)
    every = {f"/image/{identifier}" for identifier in client.store.images().values()}  # type: ignore[attr-defined]
    other = TestClient(client.app, base_url=ADDRESS, follow_redirects=False)
    assert [other.get(target).status_code for target in (path, *images, "/next", "/done")] == [401] * 5
    assert other.post(path, data={"realism": "left"}).status_code == 401
    begin(other)
    assert other.get(path).status_code == 404
    assert other.post(path, data={"realism": "left"}).status_code == 404
    allowed_images = sum(other.get(target).status_code == 200 for target in every)
    assert allowed_images < len(every)
    assert stored(client) == {}


OTHER_PATHS = [
        "/image/../study.db", "/image/..%2Fstudy.db", "/image/%2e%2e%2fstudy.db", "/image/....//study.db",
        "/image/%2Fetc%2Fpasswd", "/image/00000", "/image/" + "A" * 22, "/image/%00", "/image/", "/image/x%0d%0aX:1",
        "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/serve.py", "/static/app.py", "/static/",
        "/compare/1", "/compare/..%2f..%2fstudy.db", "/join/" + "A" * 43, "/join/..%2f", "/study.db", "/raters.csv",
        "/compare/x'%20OR%20'1'='1", "/favicon.ico",
]  # fmt: skip


def test_no_other_path_is_served(visit: Visit) -> None:
    client = visit()
    begin(client)
    for path in OTHER_PATHS:
        response = client.get(path)
        assert response.status_code == 404, path
        assert "This page does not exist." in response.text


FOREIGN = [
    {"host": "attacker.example"},
    {"origin": "http://attacker.example"},
    {"origin": "null"},
    {"host": "127.0.0.1.attacker.example"},
]


def test_foreign_requests_are_refused(visit: Visit) -> None:
    client = visit()
    path = begin(client)
    for headers in FOREIGN:
        assert client.get("/", headers=headers).status_code == 403
        assert client.post(path, data={"realism": "left"}, headers=headers).status_code == 403
    assert stored(client) == {}


def test_oversized_bodies_are_refused(visit: Visit) -> None:
    client = visit()
    path = begin(client)
    assert client.post(path, content=b"realism=" + b"x" * MAX_BODY).status_code == 413
    assert stored(client) == {}


def test_pages_load_nothing_from_elsewhere(visit: Visit) -> None:
    client = visit()
    path = begin(client)
    for target in ("/", path, "/done", "/none", "/static/style.css", "/static/compare.js"):
        response = client.get(target)
        assert not re.search(r"(?:https?:)?//\w", response.text.replace("// ", ""))
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "unsafe" not in response.headers["content-security-policy"]
        assert not re.search(r"<script>|\son\w+=|style=", response.text)


def test_invited_raters_need_their_token(visit: Visit) -> None:
    client = visit(is_open=False)
    assert "Open your personal link to take part." in client.get("/").text
    assert client.post("/begin", data={"token": new_token()}).status_code == 403
    assert client.get("/next").status_code == 401
    assert client.get(f"/join/{new_token()}").status_code == 404
    token = read_tokens(client.loaded.config.folder / "raters.csv")[1]  # type: ignore[attr-defined]
    joined = client.get(f"/join/{token}")
    assert (joined.status_code, joined.headers["location"]) == (303, "/")
    cookie = joined.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert token not in client.get("/").text
    assert answer(client, client.get("/next").headers["location"]).startswith("/compare/")
    assert len(stored(client)) == 3
    assert digest(token) != token


def test_tokens_of_another_form_are_refused(visit: Visit) -> None:
    client = visit()
    for token in ("", "short", "x" * 43 + "/", "../" * 14):
        assert client.post("/begin", data={"token": token}).status_code == 400
        client.cookies.set(client.cookie, token)  # type: ignore[attr-defined]
        assert client.get("/next").status_code == 401


def test_public_name_is_accepted_and_cookies_are_secure(visit: Visit) -> None:
    client = visit(is_open=False)
    token = read_tokens(client.loaded.config.folder / "raters.csv")[0]  # type: ignore[attr-defined]
    proxied = {"host": "study.example.org", "origin": "https://study.example.org"}
    joined = client.get(f"/join/{token}", headers=proxied)
    assert joined.status_code == 303
    assert client.get("/", headers={"host": "other.example.org"}).status_code == 403
    loaded, store = client.loaded, client.store  # type: ignore[attr-defined]
    secure = application(loaded.config, store, "127.0.0.1", "https://study.example.org")
    cookie = TestClient(secure, base_url=ADDRESS, follow_redirects=False).get(f"/join/{token}").headers["set-cookie"]
    assert "; secure" in cookie.lower()


def test_rate_of_requests_is_limited(visit: Visit) -> None:
    client = visit(limits=Limits(rater=(0.001, 5), stranger=(0.001, 8)))
    path = begin(client)
    assert [client.get(path).status_code for _ in range(6)] == [200] * 4 + [429] * 2
    other = TestClient(client.app, base_url=ADDRESS)
    assert 429 in [other.get(f"/join/{new_token()}").status_code for _ in range(9)]


def test_database_that_does_not_respond_is_reported(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    client = visit()
    path = begin(client)

    def fail(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    monkeypatch.setattr(client.store, "record", fail)  # type: ignore[attr-defined]
    response = client.post(path, data={"realism": "left"})
    assert response.status_code == 503
    assert "cannot be stored at the moment" in response.text
    assert "disk" not in response.text
