"""Opens a preference study that has been created."""

from pathlib import Path

from evaluation.preference.plans import design, require_same_design
from evaluation.preference.settings import Preference
from evaluation.preference.storage.database import connect, database_errors
from evaluation.preference.storage.store import Store
from pocketdit.config.load import Loaded
from pocketdit.config.shell import command_line, operand
from pocketdit.errors import RunError


def open_study(loaded: Loaded[Preference]) -> Store:
    """Open a study that has been created with the same settings.

    Raises:
        ConfigError: A setting has changed since the study was created.
        RunError: The study has not been created, or its images are missing.
    """
    settings = loaded.config
    command = command_line("preference", "create", operand(loaded.path), *map(str, loaded.overrides))
    missing = RunError(f"the study {settings.preference} has not been created; create it with: {command}")
    if not settings.storage and not Path(settings.url.removeprefix("sqlite:///")).exists():
        raise missing
    engine = connect(settings.url)
    store = Store(engine, settings.preference)
    with database_errors(engine):
        row = store.study()
    if row is None or not row.ready:
        raise missing
    require_same_design(settings.preference, row.design, design(loaded.resolved))
    return store
