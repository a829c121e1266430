"""Progress lines, which are updated in place in a terminal or notebook and written line by line to a log elsewhere."""

import sys
from typing import Any

from tqdm.auto import tqdm

LOG_SECONDS = 20.0  # minimum time between two lines in a log


def in_notebook() -> bool:
    """Return whether this process is a notebook kernel. Its output is not a terminal, but can be updated in place."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_shell() if get_shell is not None else None
    return shell is not None and "IPKernelApp" in shell.config


class ProgressLine:
    """A progress line on standard error.

    Args:
        bar_format: Format of the line, as for tqdm.
        options: Other options for tqdm.
    """

    def __init__(self, bar_format: str, **options: Any) -> None:
        self.live = sys.stderr.isatty() or in_notebook()
        self.bar = tqdm(
            bar_format=bar_format if self.live else f"{bar_format}\n",
            dynamic_ncols=self.live,
            mininterval=0.2 if self.live else LOG_SECONDS,
            maxinterval=10 if self.live else LOG_SECONDS * 1.5,
            ascii=None if self.live else " #",
            **options,
        )
        self._written = self._state()  # tqdm already writes the line when the bar is created

    def advance(self, n: int, text: str | None = None) -> None:
        """Set the position and, unless ``text`` is None, the text at the end of the line."""
        if text is not None:
            self.bar.set_postfix_str(text, refresh=False)
        if self.bar.update(n - self.bar.n):
            self._written = self._state()
        elif self.live and text is not None:
            self.bar.refresh()

    def close(self) -> None:
        """Stop updating the line. In a log, also write the final state unless the log already contains it."""
        if not self.live and self._written == self._state():
            self.bar.leave, self.bar.sp = False, lambda text: None
        self.bar.close()

    def _state(self) -> tuple[int, str]:
        return self.bar.n, str(self.bar.postfix)
