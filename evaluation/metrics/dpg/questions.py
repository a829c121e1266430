"""Reads the questions of DPG-Bench from the metadata of prompts."""

from evaluation.contract import Prompt
from evaluation.metrics.dpg.scoring import Question, parse_questions
from pocketdit.errors import UserError

# Keys of the metadata. The first three contain mappings whose keys are question numbers (as strings), in the order of
# the question file.
QUESTIONS, TUPLES, DEPENDENCIES = "questions", "tuples", "dependencies"
OPENS_FILE = "opens_file"  # true for the prompt whose first question is the first row of the question file


def read_questions(prompt: Prompt) -> tuple[Question, ...]:
    """Return a prompt's questions in the order of the question file.

    Raises:
        UserError: The metadata contains no questions, or they are malformed.
    """
    try:
        data = prompt.metadata
        questions = parse_questions(data[QUESTIONS], data[TUPLES], data[DEPENDENCIES])
    except (KeyError, TypeError, ValueError, AttributeError):
        questions = ()
    if not questions:
        raise UserError(
            f"prompt {prompt.id} has no questions in DPG-Bench's format; for DPG-Bench's own prompts, put "
            "dpg_bench.csv (github.com/TencentQQGYLab/ELLA, folder dpg_bench) next to prompts.jsonl"
        )
    return questions
