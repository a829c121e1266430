"""A request for images, which is parsed from the query of a link or from the body of an HTTP request.

    prompt=...&prompt=...&seed=0&size=128x128
    run=RUN&width=0.5&width=1&steps=28&sampler=dpmpp_2m&guidance=4&decoder=autoencoder
    against.run=RUN&against.width=1&...

Missing settings default to the run's own. The second run is only sampled if the query contains one of its settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, get_type_hints
from urllib.parse import parse_qsl, urlencode

from pocketdit.bounds import Guidance, Steps
from pocketdit.commands.demo.subjects import AUTOENCODER, Subject
from pocketdit.config.errors import InvalidValueError, did_you_mean
from pocketdit.config.experiment import Experiment, Sampling
from pocketdit.config.image_size import ImageSize, parse_size
from pocketdit.config.shell import command_line, operand
from pocketdit.config.typed import convert
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.errors import ConfigError
from pocketdit.running.model import sampling_device
from pocketdit.running.sampling_memory import require_sampling_memory
from pocketdit.running.sampling_options import select_widths, with_sampling

AGAINST = "against."
MAX_PROMPTS = 64
MAX_FIELDS = 256


@dataclass(frozen=True)
class SideQuery:
    """The settings in a query that apply to one of the runs."""

    run: str
    width: tuple[float, ...]
    steps: Steps
    sampler: SamplerName
    guidance: Guidance
    decoder: str


@dataclass(frozen=True)
class SharedQuery:
    """The settings in a query that apply to both runs."""

    prompt: tuple[str, ...]
    seed: int
    size: ImageSize


@dataclass(frozen=True)
class Side:
    """A run and the settings with which it is sampled.

    Attributes:
        subject: The run.
        experiment: The run's configuration, with the sampling settings of the request.
        widths: Widths to sample.
        decoder: Name of the decoder that decodes the images.
    """

    subject: Subject
    experiment: Experiment
    widths: list[float]
    decoder: str

    @property
    def sampling(self) -> Sampling:
        """The sampling settings of this run."""
        return self.experiment.sampling

    def command(self, out: str) -> str:
        """Return the ``lightning sample`` command that writes the same images to a folder."""
        sampling = self.sampling
        words = ["--width", *(f"{width:g}" for width in self.widths)]
        words += ["--steps", str(sampling.steps), "--sampler", sampling.sampler, "--guidance", repr(sampling.guidance)]
        words += ["--seeds", str(sampling.seed), "--size", size_text(sampling)]
        words += [] if self.decoder == AUTOENCODER else ["--decoder", self.decoder]
        return command_line("sample", operand(self.subject.name), *words, "--out", out, prompts=sampling.prompts)


@dataclass(frozen=True)
class Request:
    """A request for images.

    Attributes:
        sides: One or two runs, with their settings.
    """

    sides: tuple[Side, ...]

    @property
    def sampling(self) -> Sampling:
        """The sampling settings of the first run. The second run has the same prompts, seed and size."""
        return self.sides[0].sampling

    @property
    def same_noise(self) -> bool:
        """Whether all images for a prompt start from the same noise."""
        return len({side.subject.noise_shape(self.sampling.size) for side in self.sides}) == 1

    def query(self) -> str:
        """Return the query of the link that restores the settings."""
        sampling = self.sampling
        pairs: list[tuple[str, str | int]] = [("prompt", text) for text in sampling.prompts]
        pairs += [("seed", sampling.seed), ("size", size_text(sampling))]
        for prefix, side in zip(("", AGAINST), self.sides, strict=False):
            own: list[tuple[str, str | int]] = [("run", side.subject.name)]
            own += [("width", f"{width:g}") for width in side.widths]
            own += [("steps", side.sampling.steps), ("sampler", side.sampling.sampler)]
            own += [("guidance", repr(side.sampling.guidance)), ("decoder", side.decoder)]
            pairs += [(prefix + name, value) for name, value in own]
        return urlencode(pairs)


def size_text(sampling: Sampling) -> str:
    """Format the image size as HEIGHTxWIDTH."""
    return f"{sampling.size[0]}x{sampling.size[1]}"


def parse_request(query: str, subjects: Sequence[Subject]) -> Request:
    """Return the request that a query describes.

    Raises:
        ConfigError: A setting is unknown or invalid, or there is not enough memory. The message is one line.
    """
    shared, own, other = _split(query)
    first = subjects[0]
    sampling = first.experiment.sampling
    defaults = {"prompt": list(sampling.prompts[:1]), "seed": sampling.seed, "size": size_text(sampling)}
    common = _convert({**defaults, **shared}, SharedQuery)
    sides = [_side(first, own, common, "")]
    if other:
        if len(subjects) == 1:
            raise ConfigError(f"{AGAINST}run: this playground has no second run; start it with against=RUN")
        sides.append(_side(subjects[1], other, common, AGAINST))
    return Request(tuple(sides))


def _split(query: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Split a query into the shared settings, the settings of the first run, and the settings of the second run.

    Raises:
        ConfigError: A setting is unknown, or occurs twice.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=MAX_FIELDS)
    except ValueError:
        raise ConfigError(f"the link is damaged, or contains more than {MAX_FIELDS} settings") from None
    groups: dict[str, dict[str, Any]] = {"shared": {}, "": {}, AGAINST: {}}
    types = {**get_type_hints(SharedQuery), **get_type_hints(SideQuery)}
    names = [*types, *(AGAINST + field.name for field in fields(SideQuery))]
    for key, value in pairs:
        if key not in names:
            raise ConfigError(f"{key}: unknown setting{did_you_mean(key, names)}")
        prefix, name = (AGAINST, key.removeprefix(AGAINST)) if key.startswith(AGAINST) else ("", key)
        group = groups[prefix if name in SideQuery.__dataclass_fields__ else "shared"]
        if name in ("prompt", "width"):
            group.setdefault(name, []).append(value)
        elif name in group:
            raise ConfigError(f"{key}: occurs twice")
        else:
            group[name] = value
    return groups["shared"], groups[""], groups[AGAINST]


def _side(subject: Subject, values: dict[str, Any], common: SharedQuery, prefix: str) -> Side:
    sampling = subject.experiment.sampling
    defaults = {
        "run": subject.name,
        "width": subject.widths,
        "steps": sampling.steps,
        "sampler": sampling.sampler,
        "guidance": sampling.guidance,
        "decoder": AUTOENCODER,
    }
    query = _convert({**defaults, **values}, SideQuery, prefix)
    if query.run != subject.name:
        raise ConfigError(f"{prefix}run: this playground shows {subject.name}, not {query.run}")
    if query.decoder not in subject.decoders:
        known = ", ".join(subject.decoders)
        raise ConfigError(f"{prefix}decoder: {query.decoder!r} is not one of {known}")
    if len(common.prompt) > MAX_PROMPTS:
        raise ConfigError(f"prompt: a request may have at most {MAX_PROMPTS} prompts, not {len(common.prompt)}")
    if any(len(text.splitlines()) > 1 or text.endswith("\n") for text in common.prompt):
        raise ConfigError("prompt: a prompt must be a single line")
    try:
        size = parse_size(common.size, "size=")
    except ValueError as error:
        raise ConfigError(str(error)) from None
    experiment = with_sampling(
        subject.experiment,
        prompts=common.prompt,
        seed=common.seed,
        size=size,
        steps=query.steps,
        sampler=query.sampler,
        guidance=query.guidance,
    )
    widths = select_widths(query.width, experiment, subject.name, f"{prefix}width=")
    require_sampling_memory(experiment, size, len(common.prompt), "size", sampling_device())
    return Side(subject, experiment, widths, query.decoder)


def _convert(values: dict[str, Any], cls: type[Any], prefix: str = "") -> Any:
    try:
        return convert(values, cls, prefix.rstrip("."))
    except InvalidValueError as error:
        raise ConfigError(str(error)) from None
