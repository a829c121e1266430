"""The beam search of mPLUG."""

from collections.abc import Callable

import torch
from torch import Tensor

_ALPHA = 0.6  # exponent of the length penalty
_NEVER = -1e20  # log probability of a token that is not allowed


def beam_search(
    next_logits: Callable[[Tensor], Tensor], beams: int, min_tokens: int, max_tokens: int, start: int, end: int
) -> list[int]:
    """Return the best sequence of tokens after ``start``, including ``end`` if the sequence reaches it.

    A sequence of n tokens after ``start`` is scored by its log probability divided by ((5 + n) / 6)^0.6 (Wu et al.
    2016, arXiv 1609.08144, Eq. 14).

    As in the published code, the search stops once the best beam ends. A beam that ends without being the best becomes
    a candidate but is still extended.

    Args:
        next_logits: Maps sequences (K, T) that begin with ``start`` to logits (K, V) of their next tokens, for K
            beams and a vocabulary of V tokens.
        beams: Number of beams K.
        min_tokens: Minimum number of tokens before ``end``.
        max_tokens: Maximum number of tokens after ``start``.
        start: The start token.
        end: The end token.
    """
    alive = torch.full((beams, 1), start)
    # All beams are identical at first, so only one of them is considered in the first step.
    totals = torch.tensor([0.0] + [float("-inf")] * (beams - 1))
    candidates: list[tuple[float, list[int]]] = []
    for step in range(max_tokens):
        log_probabilities = next_logits(alive).float().log_softmax(dim=-1).cpu()
        if step < min_tokens:
            log_probabilities[:, end] = _NEVER
        penalty = ((5 + step + 1) / 6) ** _ALPHA
        scores = (log_probabilities + totals[:, None]) / penalty
        best, indices = scores.flatten().topk(beams)
        totals = best * penalty
        tokens = indices % scores.shape[1]
        alive = torch.cat([alive[indices // scores.shape[1]], tokens[:, None]], dim=1)
        stop = bool(tokens[0] == end) or step + 1 == max_tokens
        ended = [i for i in range(beams) if stop or tokens[i] == end]
        candidates += [(float(best[i]), alive[i, 1:].tolist()) for i in ended]
        if stop:
            break
    return max(candidates, key=lambda candidate: candidate[0])[1]
