"""The questions of DPG-Bench as a prompt's metadata holds them."""

from evaluation.contract import Prompt
from evaluation.metrics.dpg.scoring import Question, parse_questions
from pocketdit.errors import UserError

# Keys of a prompt's metadata. The first three are by the question's number as text, in the order of the file.
QUESTIONS, TUPLES, DEPENDENCIES = "questions", "tuples", "dependencies"
OPENS_FILE = "opens_file"  # true for the prompt whose first question is the first row of the question file


def read_questions(prompt: Prompt) -> tuple[Question, ...]:
    """A prompt's questions, at least one, in the order of the question file.

    Raises:
        UserError: its metadata has none.
    """
    try:
        data = prompt.metadata
        questions = parse_questions(data[QUESTIONS], data[TUPLES], data[DEPENDENCIES])
    except (KeyError, TypeError, ValueError, AttributeError):
        questions = ()
    if not questions:
        raise UserError(
            f"prompt {prompt.id} has no questions in DPG-Bench's form; for DPG-Bench itself put dpg_bench.csv from "
            "github.com/TencentQQGYLab/ELLA, folder dpg_bench, beside prompts.jsonl"
        )
    return questions
