"""Commands that messages suggest, quoted so that they can be pasted into a shell."""

import json
import shlex
from collections.abc import Iterable
from pathlib import Path

from pocketdit.config.override import escape, parse
from pocketdit.errors import ConfigError


def command_line(*words: str | Path, prompts: Iterable[str] = ()) -> str:
    """Return the command ``lightning WORDS PROMPTS``.

    Args:
        words: Options, paths, names of runs, and overrides. A word that begins with a hyphen is an option.
        prompts: Prompts, which may begin with a hyphen.
    """
    texts = list(prompts)
    end_of_options = ["--"] if any(text.startswith("-") for text in texts) else []
    return shlex.join(["lightning", *map(str, words), *end_of_options, *texts])


def operand(path: str | Path) -> str:
    """Return a path or the name of a run as a word that is not read as an option or an override."""
    text = str(path)
    return f"./{text}" if text.startswith("-") or "=" in text.partition("/")[0] else text


def setting(key: str, value: str | Path) -> str:
    """Return the override that sets a key to a string, which is quoted only if YAML requires it."""
    text = escape(str(value))
    try:
        if parse(f"{key}={text}").value == text and "\n" not in text:
            return f"{key}={text}"
    except ConfigError:
        pass
    return f"{key}={json.dumps(text, ensure_ascii=False)}"
