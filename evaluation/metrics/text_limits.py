"""Counts the texts that a judge does not read in full, for the protocol of a result."""

from collections.abc import Sequence
from typing import Any

from evaluation.optional import TextLimit


def truncation(judge: object, texts: Sequence[str], kind: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return entries for the protocol and notes about truncated texts.

    Args:
        judge: The judge that reads the texts. If it is not a ``TextLimit``, both results are empty.
        texts: The texts.
        kind: What the texts are, such as "prompts".
    """
    if not isinstance(judge, TextLimit):
        return {}, ()
    count, limit = judge.count_truncated(texts), judge.max_text_tokens
    note = f"{count} of {len(texts)} {kind} are truncated to the {limit} tokens that the judge reads."
    return {"max_text_tokens": limit, f"truncated_{kind}": count}, (note,) if count else ()
