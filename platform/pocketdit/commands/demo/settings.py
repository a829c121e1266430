"""Settings of ``lightning demo``, given as ``key=value`` on the command line."""

from dataclasses import dataclass
from pathlib import Path

from pocketdit.serving.loopback import HOST


@dataclass(frozen=True)
class Demo:
    """Settings of ``lightning demo``.

    Attributes:
        run: Path of a run, EXPERIMENT/RUN, or EXPERIMENT for its latest run.
        against: A second run, with which the first one can be compared.
        decoder: A run whose tiny decoder can decode the images.
        out: Folder in which each session creates a folder for its images.
        runs: Folder of all runs.
        address: IP address to listen on. Unless this is a loopback address, the page requires a token.
        port: Preferred port. If it is in use, the next free port is used.
        browser: Whether to open the page in a browser if a display is available.
    """

    run: str
    against: str = ""
    decoder: str = ""
    out: Path = Path("playground")
    runs: Path = Path("runs")
    address: str = HOST
    port: int = 7860
    browser: bool = True
