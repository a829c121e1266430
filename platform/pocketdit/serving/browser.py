"""Shows the address of a page, and opens the page in a browser."""

import os
import sys
import webbrowser

from pocketdit.config.secrets import mask


def show(url: str, open_browser: bool) -> None:
    """Print the address of a page, and open it in a browser if a display is available."""
    print(mask(url), flush=True)
    # Without a display, only text browsers are available, and they would take over the terminal.
    has_display = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if open_browser and has_display:
        webbrowser.open(url)
