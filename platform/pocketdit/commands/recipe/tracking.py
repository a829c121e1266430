"""The MLflow run of a recipe, which is the parent of the MLflow runs of its tasks."""

from pathlib import Path

from pocketdit.commands.recipe.records import Output
from pocketdit.commands.recipe.settings import Recipe
from pocketdit.config.secrets import mask
from pocketdit.errors import RunError
from pocketdit.tracking import journal, target
from pocketdit.tracking.events import RunStatus
from pocketdit.tracking.git import revision
from pocketdit.tracking.sync import sync, sync_command

PARENT_TAG = "mlflow.parentRunId"


class RecipeRun:
    """Logs the tasks of a recipe to the journal in the recipe's folder, and sends the journal to MLflow.

    If MLflow cannot be reached, the journal keeps all entries, and the MLflow runs of the tasks have no parent.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.log = journal.Journal(recipe.folder / journal.FILE_NAME)
        target.open_target(recipe.folder, recipe.tracking.uri, recipe.tracking.project, f"recipe {recipe.recipe}")
        self.log.log_tag("kind", "recipe")
        if (code := revision(Path())) is not None:
            self.log.log_tag("git.commit", code["commit"])
        for name, needed in recipe.graph().items():
            self.log.log_tag(f"needs.{name}", ", ".join(needed) or "nothing")
        self.log.log_status("RUNNING")
        self.send()

    def run_id(self) -> str | None:
        """Return the ID of the recipe's MLflow run, or None if MLflow could not be reached."""
        stored = target.load(self.recipe.folder)
        return None if stored is None else stored.run_id

    def log_task(self, name: str, output: Output, seconds: float) -> None:
        """Log the output folder of a finished task and how long the task took."""
        self.log.log_tag(f"output.{name}", output.folder)
        self.log.log_tag(f"seconds.{name}", f"{seconds:.0f}")

    def finish(self, status: RunStatus) -> None:
        """Log how the recipe ended, and send the journal."""
        self.log.log_status(status)
        self.send()
        self.log.close()

    def send(self) -> None:
        """Send the journal to MLflow, and print a one-line message if this fails."""
        uri = self.recipe.tracking.uri
        try:
            sync(self.recipe.folder, uri)
        except RunError as error:
            print(f"MLflow: {error}; send the results later with: {sync_command(self.recipe.folder, mask(uri))}")
