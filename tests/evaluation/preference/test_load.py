"""Tests the server with fifty simultaneous raters over loopback while it is killed several times."""

import http.client
import json
import random
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image

from evaluation.preference.create import create
from evaluation.preference.settings import Preference
from pocketdit.config.load import load
from pocketdit.serving.ports import listen
from tests.evaluation.preference.server import Server, serving

RATERS, PAIRS, KILLS = 50, 34, 5
QUESTIONS = ("realism", "fidelity", "alignment")
OVERRIDES = (f"pairs_per_rater={PAIRS}", "checks.noise=0", "checks.repeat=0")
ANSWERS = RATERS * PAIRS * len(QUESTIONS)  # 5100


class Rater:
    """A rater's browser without scripts, which tries again if the server does not respond.

    Args:
        server: The server.
        number: Seed of the choices.
    """

    def __init__(self, server: Server, number: int) -> None:
        self.server, self.random = server, random.Random(number)
        self.cookie = ""
        self.seconds: list[float] = []
        self.retries = 0
        self.chosen: dict[tuple[str, str], str] = {}
        self.connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, fields: dict[str, str] | None = None) -> tuple[http.client.HTTPResponse, str]:
        body = urlencode(fields) if fields is not None else None
        headers = {"Cookie": self.cookie, "Origin": self.server.address}
        while True:
            self.connection = self.connection or http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
            begun = time.perf_counter()
            try:
                self.connection.request(method, path, body, headers)
                response = self.connection.getresponse()
                content = response.read().decode("latin-1")
            except (OSError, http.client.HTTPException):
                self.connection.close()
                self.connection = None
                self.retries += 1
                time.sleep(0.1)
                continue
            if response.status == 429:
                time.sleep(0.2)
                continue
            assert response.status < 400, (path, response.status, content)
            self.seconds.append(time.perf_counter() - begun)
            return response, content

    def take_part(self) -> None:
        _, page = self.ask("GET", "/")
        token = re.search(r'name="token" value="([^"]*)"', page)
        assert token is not None
        response, _ = self.ask("POST", "/begin", {"token": token[1]})
        self.cookie = (response.getheader("Set-Cookie") or "").partition(";")[0]
        path = self.ask("GET", "/next")[0].getheader("Location") or ""
        while path.startswith("/compare/"):
            self.ask("GET", path)
            for question in QUESTIONS:
                choice = self.random.choice(("left", "right"))
                self.ask("POST", path, {question: choice})
                self.chosen[path.rpartition("/")[2], question] = choice
            path = self.ask("POST", path, {"go": "next"})[0].getheader("Location") or ""
            if path == "/next":
                path = self.ask("GET", path)[0].getheader("Location") or ""
        assert path == "/done"


@pytest.fixture
def large(file: Path, tmp_path: Path) -> Iterator[Server]:
    """A server for a study with enough prompts for 34 pairs per rater."""
    (tmp_path / "prompts.txt").write_text("\n".join(f"prompt {i}" for i in range(PAIRS)))
    for name in "ab":
        for i in range(PAIRS):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / name / f"{i:05d}.png")
    create(load(file, OVERRIDES, Preference))
    with listen("127.0.0.1", 8720) as probe:
        port = probe.getsockname()[1]
    with serving(file, port, *OVERRIDES) as server:
        yield server


def answers(tmp_path: Path) -> int:
    with sqlite3.connect(tmp_path / "out" / "studies" / "test" / "study.db", timeout=30) as database:
        return int(database.execute("SELECT count(*) FROM preference_answer").fetchone()[0])


@pytest.mark.slow
@pytest.mark.parametrize("kills", [0, KILLS])
def test_no_answer_is_lost_or_doubled(large: Server, tmp_path: Path, kills: int) -> None:
    raters = [Rater(large, number) for number in range(RATERS)]
    finished = threading.Event()

    def kill() -> None:
        """Kill the server ``kills`` times, evenly distributed over the stored answers, and start it again each time."""
        for number in range(1, kills + 1):
            while answers(tmp_path) < ANSWERS * number / (kills + 1):
                if finished.wait(0.05):
                    return
            large.stop()
            large.start()

    killer = threading.Thread(target=kill)
    killer.start()
    begun = time.perf_counter()
    try:
        with ThreadPoolExecutor(RATERS) as pool:
            for _ in pool.map(Rater.take_part, raters):
                pass
    finally:
        finished.set()
        killer.join()
    elapsed = time.perf_counter() - begun
    seconds = np.array([value for rater in raters for value in rater.seconds])
    shares = {name: round(1000 * float(np.percentile(seconds, percent)), 1) for name, percent in
              (("median", 50), ("p95", 95), ("p99", 99), ("max", 100))}  # fmt: skip
    print(f"{kills} kills, {len(seconds)} requests in {elapsed:.1f} s, "
          f"{sum(rater.retries for rater in raters)} retries, latency in ms: {json.dumps(shares)}")  # fmt: skip
    with sqlite3.connect(tmp_path / "out" / "studies" / "test" / "study.db") as database:
        rows = database.execute("SELECT comparison, question, choice FROM preference_answer").fetchall()
    expected = {key: choice for rater in raters for key, choice in rater.chosen.items()}
    assert len(rows) == len(expected) == ANSWERS
    assert {(comparison, question): choice for comparison, question, choice in rows} == expected
    if kills:
        assert sum(rater.retries for rater in raters) >= kills
