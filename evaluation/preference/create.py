"""Implements ``lightning preference create``: generates all images once and prepares the database.

An interrupted call resumes with the missing images. If the study has already been created, nothing changes, except that
more raters are invited if ``raters`` has been increased.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

from sqlalchemy.exc import IntegrityError

from evaluation.contract import ImageSet, PromptSet, open_image
from evaluation.preference.design import noise_prompts
from evaluation.preference.invitations import FILE_NAME, invite
from evaluation.preference.pictures import encode_noise, encode_subject
from evaluation.preference.plans import design, planner, require_same_design
from evaluation.preference.settings import Preference
from evaluation.preference.storage.database import connect, database_errors
from evaluation.preference.storage.store import Store
from evaluation.subjects.image_cache import check_ids, rank_from_environment
from pocketdit.config.component import build
from pocketdit.config.load import Loaded
from pocketdit.config.shell import command_line, operand
from pocketdit.counts import counted
from pocketdit.errors import ConfigError, RunError
from pocketdit.files import write_atomically
from pocketdit.locks import hold_lock
from pocketdit.tracking.target import absolute_uri

_LOCK = ".lock"


def create(loaded: Loaded[Preference]) -> None:
    """Create a preference study, or resume an interrupted call.

    Raises:
        ConfigError: A setting is invalid, or has changed since the study was created.
        RunError: The database does not respond, or another process is creating the study.
    """
    settings = loaded.config
    absolute_uri(settings.tracking.uri)  # reports an invalid URI now rather than after sampling
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out: {settings.folder} cannot be created ({error.strerror})") from error
    prompts: PromptSet = replace(build(settings.prompts).load(), images_each=1)
    check_ids(prompts)
    plan = planner(settings, len(prompts.prompts))
    plan(0)  # reports unsuitable settings now rather than after sampling
    if rank_from_environment().index > 0:  # other processes only take part in sampling
        for component in settings.subjects.values():
            build(component).images(prompts, settings.out / "images")
        return
    message = f"the study {settings.preference} is being created by another process; wait until it has finished"
    with hold_lock(settings.folder / _LOCK, message):
        engine = connect(settings.url)
        with database_errors(engine):
            store = Store(engine, settings.preference)
            _prepare(store, loaded, prompts)
            write_atomically(settings.folder / "config.yaml", loaded.to_yaml())
            _draw(store, settings, prompts)
            invite(store, plan, settings.folder, settings.raters)
        engine.dispose()
    _print_summary(loaded, len(prompts.prompts))


def _prepare(store: Store, loaded: Loaded[Preference], prompts: PromptSet) -> None:
    """Create the study in the database, or check that an existing study has the same design and prompts."""
    settings, now = loaded.config, design(loaded.resolved)
    study = store.study()
    if study is None:
        noise = noise_prompts(len(prompts.prompts), settings.seed)
        try:
            store.create(now, prompts.prompts, list(settings.subjects), noise)
        except IntegrityError as error:
            raise RunError(
                f"storage: another process is creating the study {settings.preference}; run the command again"
            ) from error
        return
    require_same_design(settings.preference, study.design, now)
    if [(p.id, p.text) for p in store.prompts()] != [(p.id, p.text) for p in prompts.prompts]:
        raise ConfigError(
            f"prompts: {settings.preference} was created with other prompts; give this study another name: "
            "preference=NAME"
        )


def _draw(store: Store, settings: Preference, prompts: PromptSet) -> None:
    """Sample and encode all images, one subject after the other, unless all images are ready."""
    study = store.study()
    if study is not None and study.ready:
        return
    images = store.images()
    made, sizes = {}, {}
    first: ImageSet | None = None
    for name, component in settings.subjects.items():
        drawn: ImageSet = build(component).images(prompts, settings.out / "images")
        first = first or drawn
        encode_subject(
            drawn, {i: key for (i, subject), key in images.items() if subject == name}, settings.folder, name
        )
        made[name] = json.loads(json.dumps(dict(drawn.provenance), default=str))
        sizes[name] = open_image(drawn.images[prompts.prompts[0].id][0]).shape[:2]
    assert first is not None  # there are at least two subjects
    encode_noise(first, {i: key for (i, subject), key in images.items() if not subject}, settings.folder, settings.seed)
    store.finish(made)
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {width}x{height}" for name, (height, width) in sizes.items())
        print(f"Images have different sizes ({listed}), which may reveal the subjects to the raters.")


def _print_summary(loaded: Loaded[Preference], prompts: int) -> None:
    settings = loaded.config
    pairs = prompts * len(settings.pairs)
    hand = min(settings.pairs_per_rater, pairs)
    print(f"study    {settings.folder}: {counted(pairs, 'pair')}, of which each rater compares {hand}")
    raters = counted(math.ceil(pairs / hand), "rater")
    print(f"         at least {raters} needed for one vote on each pair; plan for several times as many")
    if settings.raters:
        print(f"raters   {settings.raters} tokens in {Path(settings.folder) / FILE_NAME}")
    words = [operand(loaded.path), *map(str, loaded.overrides)]
    print(f"next     {command_line('preference', 'serve', *words)}")
