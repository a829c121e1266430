"""Reads and writes a preference study in its database."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from evaluation.contract import Prompt
from evaluation.preference.design import Comparison
from evaluation.preference.storage import tables
from evaluation.preference.storage.database import writing

Plan = Callable[[int], Sequence[Comparison]]
"""Returns the comparisons of the rater with the given number."""


@dataclass(frozen=True)
class ShownComparison:
    """The data that the page of a comparison shows.

    Attributes:
        id: Identifier of the comparison.
        position: Position of the comparison in the rater's session, from 0.
        total: Number of the rater's comparisons.
        text: Text of the prompt.
        left: Identifier of the left image.
        right: Identifier of the right image.
        answers: Mapping from the questions that have been answered to the choices.
        before: Identifier of the previous comparison, or None.
        after: Identifier of the next comparison, or None.
    """

    id: str
    position: int
    total: int
    text: str
    left: str
    right: str
    answers: dict[str, str]
    before: str | None
    after: str | None


class Store:
    """A preference study in a database.

    Args:
        engine: The database.
        name: Name of the preference study, which may not exist yet.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name = engine, name
        is_sqlite = engine.dialect.name == "sqlite"
        self._dialect = sqlite if is_sqlite else postgresql
        # SQLite lets only one connection write at a time. Without this lock, the others would sleep and try again, some
        # of them for seconds.
        self._turn: AbstractContextManager[object] = Lock() if is_sqlite else nullcontext()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._turn, writing(self.engine) as connection:
            yield connection

    def study(self) -> Row[Any] | None:
        """Return the study's row, or None if it does not exist."""
        with self.engine.begin() as connection:
            return connection.execute(select(tables.study).where(tables.study.c.name == self.name)).one_or_none()

    def create(self, design: Mapping[str, Any], prompts: Sequence[Prompt], subjects: Sequence[str],
               noise: Sequence[int]) -> None:  # fmt: skip
        """Create the study, store its prompts, and assign an identifier to each image.

        Args:
            design: The settings that determine what raters see.
            prompts: The prompts.
            subjects: Names of the subjects.
            noise: Indices of the prompts with a noise image.
        """
        with self._writing() as connection:
            row = {"name": self.name, "design": design, "made": {}, "ready": False}
            study = connection.execute(insert(tables.study).values(row).returning(tables.study.c.id)).scalar_one()
            connection.execute(
                insert(tables.prompt),
                [{"study": study, "number": i, "id": p.id, "text": p.text} for i, p in enumerate(prompts)],
            )
            cells = [*((i, s) for i in range(len(prompts)) for s in subjects), *((i, "") for i in noise)]
            rows = [{"id": _identifier(), "study": study, "prompt": i, "subject": subject} for i, subject in cells]
            connection.execute(insert(tables.image), rows)

    def prompts(self) -> list[Prompt]:
        """Return the prompts in order."""
        columns = select(tables.prompt.c.id, tables.prompt.c.text).join(tables.study)
        query = columns.where(tables.study.c.name == self.name).order_by(tables.prompt.c.number)
        with self.engine.begin() as connection:
            return [Prompt(row.id, row.text) for row in connection.execute(query)]

    def images(self) -> dict[tuple[int, str], str]:
        """Return a mapping from prompt indices and subjects ("" for noise) to the identifiers of the images."""
        with self.engine.begin() as connection:
            return self._images(connection)

    def _images(self, connection: Connection) -> dict[tuple[int, str], str]:
        columns = select(tables.image.c.prompt, tables.image.c.subject, tables.image.c.id).join(tables.study)
        rows = connection.execute(columns.where(tables.study.c.name == self.name))
        return {(row.prompt, row.subject): row.id for row in rows}

    def finish(self, made: Mapping[str, Any]) -> None:
        """Record that all images exist, and how they were made."""
        with self._writing() as connection:
            query = update(tables.study).where(tables.study.c.name == self.name)
            connection.execute(query.values(made=made, ready=True))

    def add_rater(self, token: str, plan: Plan) -> int:
        """Add a rater with all comparisons, unless a rater with the same token exists.

        Args:
            token: Digest of the rater's token.
            plan: Returns the rater's comparisons.

        Returns:
            Number of the rater.
        """
        with self._writing() as connection:
            return self._add_rater(connection, token, plan)

    def _add_rater(self, connection: Connection, token: str, plan: Plan) -> int:
        # The row lock lets processes add raters one at a time. SQLite, which has a single writer, ignores the lock.
        own = select(tables.study.c.id).where(tables.study.c.name == self.name).with_for_update()
        study = connection.execute(own).scalar_one()
        of_study = tables.rater.c.study == study
        known = connection.execute(
            select(tables.rater.c.number).where(of_study, tables.rater.c.token == token)
        ).scalar()
        if known is not None:
            return int(known)
        last = connection.execute(select(func.max(tables.rater.c.number)).where(of_study)).scalar()
        number = 0 if last is None else int(last) + 1
        row = {"study": study, "number": number, "token": token}
        rater = connection.execute(insert(tables.rater).values(row).returning(tables.rater.c.id)).scalar_one()
        images = self._images(connection)
        rows = [
            {
                "id": _identifier(), "rater": rater, "position": position, "kind": item.kind, "prompt": item.prompt,
                "left": images[item.prompt, item.left], "right": images[item.prompt, item.right],
                "repeats": item.repeats,
            }
            for position, item in enumerate(plan(number))
        ]  # fmt: skip
        connection.execute(insert(tables.comparison), rows)
        return number

    def rater(self, token: str) -> int | None:
        """Return the key of the rater whose token has the given digest, or None."""
        query = select(tables.rater.c.id).join(tables.study)
        with self.engine.begin() as connection:
            return connection.execute(
                query.where(tables.study.c.name == self.name, tables.rater.c.token == token)
            ).scalar()

    def progress(self, rater: int, questions: int) -> tuple[list[str], int]:
        """Return the identifiers of a rater's comparisons that lack answers, in order, and the number of comparisons.

        Args:
            rater: Key of the rater.
            questions: Number of questions of each comparison.
        """
        own, answers = tables.comparison, tables.answer
        counted = select(own.c.id, func.count(answers.c.question).label("given")).outerjoin(answers)
        query = counted.where(own.c.rater == rater).group_by(own.c.id, own.c.position).order_by(own.c.position)
        with self.engine.begin() as connection:
            rows = connection.execute(query).all()
        return [row.id for row in rows if row.given < questions], len(rows)

    def comparison(self, rater: int, identifier: str) -> ShownComparison | None:
        """Return one of a rater's comparisons, or None if the rater has no comparison with this identifier."""
        own = tables.comparison
        with self.engine.begin() as connection:
            row = connection.execute(select(own).where(own.c.id == identifier, own.c.rater == rater)).one_or_none()
            if row is None:
                return None
            total = connection.execute(select(func.count()).where(own.c.rater == rater)).scalar_one()
            near = select(own.c.position, own.c.id).where(own.c.rater == rater)
            places = own.c.position.in_((row.position - 1, row.position + 1))
            neighbors = {place: other for place, other in connection.execute(near.where(places)).all()}
            text = connection.execute(
                select(tables.prompt.c.text)
                .join(tables.rater, tables.rater.c.study == tables.prompt.c.study)
                .where(tables.rater.c.id == rater, tables.prompt.c.number == row.prompt)
            ).scalar_one()
            given = select(tables.answer.c.question, tables.answer.c.choice)
            answers = connection.execute(given.where(tables.answer.c.comparison == identifier)).all()
        return ShownComparison(
            row.id, row.position, total, text, row.left, row.right, {question: choice for question, choice in answers},
            neighbors.get(row.position - 1), neighbors.get(row.position + 1),
        )  # fmt: skip

    def shows(self, rater: int, image: str) -> bool:
        """Return whether one of a rater's comparisons shows an image."""
        own = tables.comparison
        query = select(own.c.id).where(own.c.rater == rater, (own.c.left == image) | (own.c.right == image)).limit(1)
        with self.engine.begin() as connection:
            return connection.execute(query).first() is not None

    def record(self, rater: int, identifier: str, choices: Mapping[str, str]) -> bool:
        """Store answers. An answer to the same question replaces the previous one.

        Returns:
            Whether the rater has a comparison with this identifier.
        """
        own, answers = tables.comparison, tables.answer
        with self._writing() as connection:
            query = select(own.c.id).where(own.c.id == identifier, own.c.rater == rater)
            if connection.execute(query).first() is None:
                return False
            now = datetime.now(UTC)
            for question, choice in choices.items():
                statement = self._dialect.insert(answers).values(
                    comparison=identifier, question=question, choice=choice, answered=now, changes=0
                )
                new = statement.excluded
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=[answers.c.comparison, answers.c.question],
                        set_={"choice": new.choice, "answered": new.answered, "changes": answers.c.changes + 1},
                        where=answers.c.choice != new.choice,
                    )
                )
        return True

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that reads, for the report."""
        with self.engine.begin() as connection:
            yield connection


def _identifier() -> str:
    return secrets.token_urlsafe(16)
