"""Finds noun chunks with word lists.

For example, the noun chunks of "a green bench and a blue bowl" are "a green bench" and "a blue bowl". These rules can
be used in place of spaCy's en_core_web_sm and need no model. The names of results that use them say so.
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
_BOUNDARIES = _words(
    # prepositions
    "above across against along alongside amidst among around as at atop before behind below beneath beside besides "
    "between beyond by down during for from in inside into like near nearby next of off on onto out outside over past "
    "through to toward towards under underneath up with within without "
    # conjunctions, pronouns, adverbs of place and time
    "and but or nor while when where which who whom whose that then so both either he him himself herself it itself "
    "she they them themselves there together neatly away not nestled "
    # verbs that are common in the prompts and rarely used as nouns there
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
# Words that can be verbs or nouns: "metallic stand display" ends in a verb, and "a triangular slice" in a noun.
_VERB_OR_NOUN = _words(
    "back can cast cook cover covered cut display drip fall flash light measure mix nap perch release rest slice "
    "stand stir watch"
)
# A word in the past tense at the end of a run is a verb ("the old oak tree snaked"). The pattern excludes "seed" and
# "red".
_PAST_TENSE = re.compile(r"[a-z]{3,}(?<!e)ed")
_WORD = re.compile(r"[A-Za-z0-9]+(?:['’:-][A-Za-z0-9]+)*|[^\sA-Za-z0-9]")


class RuleChunks:
    """Finds noun chunks with word lists. Scores computed with it are not comparable with published ones."""

    backend = Backend("rule-chunks", "1")

    def chunks(self, text: str) -> list[str]:
        """Return the noun chunks of a text (see ``rule_chunks``)."""
        return rule_chunks(text)


def rule_chunks(text: str) -> list[str]:
    """Split a text into runs of words between punctuation, prepositions, conjunctions and common verbs.

    A determiner or a number starts a new run. Two colors may share a run ("a black and white cat"), and a comma may
    follow its first adjective ("a long, narrow hall"). A verb that no rule recognizes remains in its chunk.
    """
    words = _WORD.findall(text)
    lower = [*(word.lower() for word in words), "", ""]
    runs: list[list[str]] = [[]]
    for i, word in enumerate(words):
        previous, current, following, second = lower[i - 1], *lower[i : i + 3]
        described = sum(w.lower() not in _DETERMINERS for w in runs[-1])
        if current in _DETERMINERS:
            runs.append([word])
        elif current == "and" and described and previous in _COLORS and following in _COLORS:
            runs[-1].append(word)
        elif (
            current == ","
            and described == 1
            and len(runs[-1]) > 1
            and not _is_boundary(following)
            and not _is_boundary(second)
        ):
            runs[-1][-1] += ","
        elif _is_boundary(current) or (
            current in _VERB_OR_NOUN and described > 1 and (following in _DETERMINERS or following in ("on", "in"))
        ):
            runs.append([])
        else:
            runs[-1].append(word)
    return [
        " ".join(run) for run in map(_without_final_verb, runs) if not {word.lower() for word in run} <= _DETERMINERS
    ]


def _is_boundary(word: str) -> bool:
    return word in _DETERMINERS or word in _BOUNDARIES or not word[:1].isalnum()


def _without_final_verb(run: list[str]) -> list[str]:
    return run[:-1] if run and _PAST_TENSE.fullmatch(run[-1]) else run


def strip_determiners(chunk: str) -> str:
    """Return a chunk in lower case without its leading determiners: "red hat" for "The red hat"."""
    words = chunk.lower().split()
    while words and words[0] in _DETERMINERS:
        words.pop(0)
    return " ".join(words)
