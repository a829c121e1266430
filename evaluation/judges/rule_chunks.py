"""Noun chunks of a prompt: "a green bench and a blue bowl" has "a green bench" and "a blue bowl".

T2I-CompBench takes those of spaCy's en_core_web_sm. The rules here need no model, and stand in for it under their own
name.
"""

import re

from evaluation.contract import Backend


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DETERMINERS = _words(
    "a an the one two three four five six seven eight nine ten his her its their this that these those some"
)
_COLORS = _words(
    "black white red green blue yellow orange purple pink brown grey gray beige tan gold silver golden colorful"
)
_JOINTS = _words(
    # prepositions
    "above across against along alongside amidst among around as at atop before behind below beneath beside besides "
    "between beyond by down during for from in inside into like near nearby next of off on onto out outside over past "
    "through to toward towards under underneath up with within without "
    # conjunctions, pronouns, adverbs of place and time
    "and but or nor while when where which who whom whose that then so both either he him himself herself it itself "
    "she they them themselves there together neatly away not nestled "
    # verbs that the prompts use again and again and that are no nouns
    "am is are was were be been being has have had having could do does did will would "
    "adds adorned attached attract attracted bake bloomed boil carried cluttered contrasted contrasts "
    "covers danced decorated displayed drives driving drove draped "
    "falls fell filled flew float floated floats flowed fluttered flying gather gathered gathers gleam gleamed "
    "grazed held hold holding holds hung hang hangs helping illuminate illuminated jot jumped jumping "
    "kept lay laying lays leaned leaning leans lie lies lit looking lying made makes making matching melted "
    "mounted parked perched piled placed played playing poured propelled protecting "
    "provide provided provides reads reflect reflected reflects rested resting rests "
    "running sailed sat serve serves served shared shine shines shining shone sit sits sitting slept snuggled "
    "sparkle sparkled stacked standing stood surrounded suspended swam swayed taking tell told "
    "ticked used using was walking watching wearing wears wrote write"
)
# Verb or noun: "metallic stand display" ends in a verb, "a triangular slice" in a noun.
_EITHER = _words(
    "back can cast cook cover covered cut display drip fall flash light measure mix nap perch release rest slice "
    "stand stir watch"
)
# A past form at the end of a run is its verb ("the old oak tree snaked"); "seed" and "red" are none.
_PAST = re.compile(r"[a-z]{3,}(?<!e)ed")
_WORD = re.compile(r"[A-Za-z0-9]+(?:['’:-][A-Za-z0-9]+)*|[^\sA-Za-z0-9]")


class RuleChunks:
    """A stand-in for spaCy's noun chunks, by word lists; scores with it are not the published ones."""

    backend = Backend("rule-chunks", "1")

    def chunks(self, text: str) -> list[str]:
        return rule_chunks(text)


def rule_chunks(text: str) -> list[str]:
    """Runs of words between punctuation, prepositions, conjunctions and common verbs.

    A determiner or a number opens a new run; two colours may share one ("a black and white cat"), and a comma may
    stand after its first adjective ("a long, narrow hall"). A verb that no rule knows stays in its chunk.
    """
    words = _WORD.findall(text)
    lows = [*(word.lower() for word in words), "", ""]
    runs: list[list[str]] = [[]]
    for i, word in enumerate(words):
        before, low, after, later = lows[i - 1], *lows[i : i + 3]
        described = sum(w.lower() not in _DETERMINERS for w in runs[-1])
        if low in _DETERMINERS:
            runs.append([word])
        elif low == "and" and described and before in _COLORS and after in _COLORS:
            runs[-1].append(word)
        elif low == "," and described == 1 and len(runs[-1]) > 1 and not _splits(after) and not _splits(later):
            runs[-1][-1] += ","
        elif _splits(low) or (low in _EITHER and described > 1 and (after in _DETERMINERS or after in ("on", "in"))):
            runs.append([])
        else:
            runs[-1].append(word)
    return [" ".join(run) for run in map(_without_verb, runs) if not {word.lower() for word in run} <= _DETERMINERS]


def _splits(low: str) -> bool:
    return low in _DETERMINERS or low in _JOINTS or not low[:1].isalnum()


def _without_verb(run: list[str]) -> list[str]:
    return run[:-1] if run and _PAST.fullmatch(run[-1]) else run


def bare(chunk: str) -> str:
    """A chunk in lower case without the determiners that open it: "The red hat" is "red hat"."""
    words = chunk.lower().split()
    while words and words[0] in _DETERMINERS:
        words.pop(0)
    return " ".join(words)
