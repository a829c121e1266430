"""Tests that the request rate is limited for each client separately."""

from evaluation.preference.web.limits import RateLimiter


def test_burst_then_rate() -> None:
    now = [0.0]
    limiter = RateLimiter(rate=2.0, burst=3, clock=lambda: now[0])
    assert [limiter.allow("a") for _ in range(4)] == [True, True, True, False]
    assert limiter.allow("b")
    now[0] = 0.5
    assert [limiter.allow("a") for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [limiter.allow("a") for _ in range(4)] == [True, True, True, False]


def test_refused_requests_do_not_delay_later_ones() -> None:
    now = [0.0]
    limiter = RateLimiter(rate=1.0, burst=1, clock=lambda: now[0])
    assert limiter.allow("a")
    for _ in range(50):
        assert not limiter.allow("a")
    now[0] = 1.0
    assert limiter.allow("a")
