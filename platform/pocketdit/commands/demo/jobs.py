"""The queue of requests. The main thread processes one at a time, while the server's thread streams its events."""

import asyncio
import threading
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from pocketdit.commands.demo.request import Request
from pocketdit.errors import UserError
from pocketdit.names import one_line

MAX_WAITING = 16

Event = dict[str, Any]


class CanceledError(Exception):
    """The request was canceled."""


class Job:
    """A request in the queue. It is created by the server's thread, which also reads its events.

    Args:
        request: The request.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._canceled = threading.Event()

    def emit(self, **event: Any) -> None:
        """Report an event. Any thread may call this method."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def end(self) -> None:
        """Report that no more events follow. Any thread may call this method."""
        self._loop.call_soon_threadsafe(self._events.put_nowait, None)

    async def events(self) -> AsyncIterator[Event]:
        """Yield the request's events until it ends."""
        while (event := await self._events.get()) is not None:
            yield event

    def cancel(self) -> None:
        """Cancel the request. If it is running, it ends before its next sampling step."""
        self._canceled.set()

    def check(self) -> None:
        """Raise ``CanceledError`` if the request was canceled."""
        if self._canceled.is_set():
            raise CanceledError


class Jobs:
    """The queue of requests, in which at most ``MAX_WAITING`` requests can wait."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()

    def add(self, job: Job) -> bool:
        """Add a request if the queue has room for it, and return whether it was added."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                return False
            self._waiting.append(job)
            self._report_places()
            self._changed.notify()
        return True

    def cancel(self, job: Job) -> None:
        """Cancel a request that is waiting or running. This has no effect on a request that has ended."""
        job.cancel()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                job.end()
                self._report_places()

    def work(self, sample: Callable[[Job], None]) -> None:
        """Process the requests one at a time, until an exception such as ``KeyboardInterrupt`` is raised.

        Args:
            sample: Function that samples the images of a request.
        """
        while True:
            job = self._take()
            try:
                job.check()
                sample(job)
            except CanceledError:
                pass
            except (UserError, OSError) as error:
                job.emit(event="error", text=one_line(str(error)))
            except Exception:
                traceback.print_exc()
                job.emit(event="error", text="internal error; see the terminal in which the playground runs")
            finally:
                with self._changed:
                    self._running = None
                job.end()

    def _take(self) -> Job:
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            self._running = self._waiting.popleft()
            self._report_places()
            return self._running

    def _report_places(self) -> None:
        for place, job in enumerate(self._waiting, start=self._running is not None):
            job.emit(event="waiting", ahead=place)
