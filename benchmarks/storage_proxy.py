"""An HTTP proxy that adds the delays, bandwidth limit and faults of a remote server to a local storage server."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, Self

Fault = Literal["reset", "503", "cut"]
_CHUNK = 1 << 18


class StorageProxy:
    """A context manager that runs the proxy in a thread.

    Args:
        upstream: Port of the storage server on this machine.
        latency: Delay of each response in seconds.
        rate: Total bandwidth of all responses in bytes per second; None for no limit.
        faults: Probabilities of three kinds of faults in a GET request: the connection is reset before the response,
            the status is 503, or the connection is reset in the middle of the body.
        seed: Seed of the random faults.

    Attributes:
        port: Port of the proxy.
        is_down: Whether to reset every connection.
        requests: Number of complete responses for each method and path.
        injected: Number of injected faults of each kind.
        bytes: Total number of bytes in all responses.
    """

    def __init__(
        self,
        upstream: int,
        *,
        latency: float = 0.0,
        rate: float | None = None,
        faults: Mapping[Fault, float] | None = None,
        seed: int = 0,
    ) -> None:
        self._upstream, self._latency, self._rate = upstream, latency, rate
        self._faults, self._random = faults or {}, random.Random(seed)
        self._line_free_at = 0.0
        self.port, self.is_down, self.bytes = 0, False, 0
        self.requests: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not self.is_down and await self._answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request, and return whether the connection can be used for another one."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, path = head.split(b" ", 2)[:2]
        body = await reader.readexactly(_content_length(head) or 0)
        await asyncio.sleep(self._latency)
        fault = self._draw_fault() if method == b"GET" else None
        if fault is not None:
            self.injected[fault] += 1
        if self.is_down or fault == "reset":
            return False
        if fault == "503":
            writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return True
        source, sink = await asyncio.open_connection("127.0.0.1", self._upstream, limit=1 << 20)
        try:
            sink.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1) + body)
            await sink.drain()
            answer = await source.readuntil(b"\r\n\r\n")
            length = 0 if method == b"HEAD" else _content_length(answer)
            writer.write(answer)
            remaining = (length or 0) // 2 if fault == "cut" else length
            while (remaining is None or remaining > 0) and (
                chunk := await source.read(_CHUNK if remaining is None else min(_CHUNK, remaining))
            ):
                remaining = None if remaining is None else remaining - len(chunk)
                await self._wait_for_line(len(chunk))
                writer.write(chunk)
                await writer.drain()
                if self.is_down:
                    return False
        finally:
            sink.transport.abort()
        if fault == "cut":
            return False
        self.requests[f"{method.decode()} {path.decode()}"] += 1
        return length is not None and b"connection: close" not in answer.lower()

    async def _wait_for_line(self, size: int) -> None:
        """Wait until the simulated line, which all connections share, has transferred this number of bytes."""
        self.bytes += size
        if self._rate is not None:
            now = self._loop.time()
            self._line_free_at = max(now, self._line_free_at) + size / self._rate
            await asyncio.sleep(self._line_free_at - now)

    def _draw_fault(self) -> Fault | None:
        draw = self._random.random()
        for fault, probability in self._faults.items():
            if draw < probability:
                return fault
            draw -= probability
        return None


def _content_length(head: bytes) -> int | None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return None
