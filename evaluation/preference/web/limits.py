"""Limits the rate of requests."""

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

_MOST_CLIENTS = 10_000


class RateLimiter:
    """A token bucket for each client. The buckets of the clients that have been inactive the longest are dropped.

    Args:
        rate: Number of requests per second that a client can send indefinitely.
        burst: Number of requests that a client can send at once.
        clock: Returns the time in seconds.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.clock = rate, burst, clock
        # For each client, the number of remaining requests and the time at which it was computed.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    def allow(self, client: str) -> bool:
        """Count a request of a client, and return whether it is within the limit."""
        with self._lock:
            now = self.clock()
            remaining, then = self._buckets.pop(client, (float(self.burst), now))
            remaining = min(float(self.burst), remaining + (now - then) * self.rate)
            allowed = remaining >= 1
            self._buckets[client] = (remaining - allowed, now)
            if len(self._buckets) > _MOST_CLIENTS:
                self._buckets.popitem(last=False)
            return allowed
