"""The tables of preference studies. One database can contain several studies."""

from sqlalchemy import JSON, Boolean, Column, DateTime, ForeignKey, Integer, MetaData, String, Table, UniqueConstraint

metadata = MetaData()

study = Table(
    "preference_study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("design", JSON, nullable=False),  # the settings that determine what raters see
    Column("made", JSON, nullable=False),  # provenance of each subject's images
    Column("ready", Boolean, nullable=False),  # whether all images exist
)

prompt = Table(
    "preference_prompt",
    metadata,
    Column("study", ForeignKey(study.c.id), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False),
    Column("text", String, nullable=False),
)

# The identifier of an image is random, so it reveals neither the subject nor the prompt.
image = Table(
    "preference_image",
    metadata,
    Column("id", String, primary_key=True),
    Column("study", ForeignKey(study.c.id), nullable=False),
    Column("prompt", Integer, nullable=False),
    Column("subject", String, nullable=False),  # "" for noise
    UniqueConstraint("study", "prompt", "subject"),
)

rater = Table(
    "preference_rater",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study", ForeignKey(study.c.id), nullable=False),
    Column("number", Integer, nullable=False),
    Column("token", String, nullable=False),  # SHA-256 of the token
    UniqueConstraint("study", "number"),
    UniqueConstraint("study", "token"),
)

comparison = Table(
    "preference_comparison",
    metadata,
    Column("id", String, primary_key=True),  # random, like the identifiers of images
    Column("rater", ForeignKey(rater.c.id), nullable=False),
    Column("position", Integer, nullable=False),
    Column("kind", String, nullable=False),
    Column("prompt", Integer, nullable=False),
    Column("left", ForeignKey(image.c.id), nullable=False),
    Column("right", ForeignKey(image.c.id), nullable=False),
    Column("repeats", Integer),  # position of the comparison that this comparison repeats
    UniqueConstraint("rater", "position"),
)

# One row for each question of a comparison. A changed answer replaces the previous one.
answer = Table(
    "preference_answer",
    metadata,
    Column("comparison", ForeignKey(comparison.c.id), primary_key=True),
    Column("question", String, primary_key=True),
    Column("choice", String, nullable=False),
    Column("answered", DateTime(timezone=True), nullable=False),
    Column("changes", Integer, nullable=False),  # how often the choice was replaced by a different one
)
