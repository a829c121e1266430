"""The model card of a published run, which is generated from the files of the run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.backbones.build import build_network
from pocketdit.config.component import Component
from pocketdit.config.experiment import Experiment

HASHED = ("pocketdit.encoders.hashed_text.WordEncoder", "pocketdit.encoders.hashed_text.PhraseEncoder")
ANALYTIC = ("pocketdit.encoders.dct.DCTAutoencoder",)
PAPER = """\
@article{hu2026snapgenpp,
  title   = {SnapGen++: Unleashing Diffusion Transformers for Efficient High-Fidelity Image Generation on Edge Devices},
  author  = {Hu, Dongting and others},
  journal = {arXiv preprint arXiv:2601.08303},
  year    = {2026}
}"""


@dataclass(frozen=True)
class Score:
    """One recorded score of the run.

    Attributes:
        metric: Name of the metric.
        judge: Name and version of the judge, or "".
        prompts: Name of the prompt set, and number of prompts.
        meaning: Definition of the overall score, or "".
        name: Name of the score, for example "overall" or a group of prompts.
        width: Width of the sub-network.
        value: The score, with its 95% confidence interval if there is one.
    """

    metric: str
    judge: str
    prompts: str
    meaning: str
    name: str
    width: float
    value: str


@dataclass(frozen=True)
class CardFacts:
    """The facts in the model card that do not come from the run's configuration.

    Attributes:
        title: Name of the model.
        location: The folder or the repository on the Hub from which the pipeline is loaded.
        license: SPDX identifier of the license that the author has chosen, if any.
        data: The author's description of the data, if any.
        parameters: Number of parameters of each width.
        scores: Recorded scores.
        notice: Attribution that the license of the data requires, or "".
        has_grid: Whether ``samples.png`` exists.
        can_pull: Whether the run can be restored with ``lightning pull``.
    """

    title: str
    location: str
    license: str | None
    data: str | None
    parameters: dict[float, int]
    scores: Sequence[Score]
    notice: str
    has_grid: bool
    can_pull: bool


def front_matter(facts: CardFacts) -> str:
    """Return the card's metadata as YAML."""
    values: dict[str, Any] = {
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": ["pocketdit", "text-to-image", "elastic", "diffusion-transformer"],
        "inference": False,
    }
    if facts.license:
        values = {"license": facts.license, **values}
    if facts.has_grid:
        values["thumbnail"] = "samples.png"
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---\n"


def model_card(folder: RunFolder, experiment: Experiment, facts: CardFacts) -> str:
    """Return the text of the model card."""
    sections = [
        _what_it_is(experiment, facts),
        _use(experiment, facts),
        _data(experiment, facts),
        _training(folder, experiment),
        _evaluation(facts),
        _limits(experiment),
        f"## Citation\n\n```bibtex\n{PAPER}\n```",
    ]
    return front_matter(facts) + "\n" + "\n\n".join(sections) + "\n"


def _what_it_is(experiment: Experiment, facts: CardFacts) -> str:
    height, width = experiment.sampling.size
    rows = [
        [f"{fraction:g}x", str(experiment.backbone.hidden_size(fraction)), _millions(count)]
        for fraction, count in sorted(facts.parameters.items())
    ]
    text = f"""\
# {facts.title}

A text-to-image diffusion transformer for images of {height}x{width} pixels, trained with PocketDiT, an open \
implementation of [SnapGen++](https://arxiv.org/abs/2601.08303) that is not affiliated with the authors of the paper."""
    if len(rows) > 1:
        text += " The model contains sub-networks of several widths, so that each device can use a suitable width."
    text += "\n\n" + table(["width", "hidden size", "parameters"], rows)
    if facts.has_grid:
        text += "\n\n![Samples of the run](samples.png)\n\n*The last preview of the run, not selected by hand.*"
    return text


def _use(experiment: Experiment, facts: CardFacts) -> str:
    prompt, width = json.dumps(experiment.sampling.prompts[0], ensure_ascii=False), min(facts.parameters)
    location = json.dumps(facts.location)
    folder = "  # the folder that contains this card" if facts.location == "." else ""
    diffusers_version = version("diffusers")
    text = f"""\
## Use

```python
from pocketdit import PocketDiTPipeline

pipe = PocketDiTPipeline.from_pretrained({location}){folder}
pipe.set_width({width:g})
image = pipe({prompt}).images[0]
```

PocketDiT is not on PyPI; install it from a checkout of its source. Without it, diffusers (tested with \
{diffusers_version}) and transformers can run the code in `pipeline.py` of this repository. Read that file first, \
because its code runs with your permissions:

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained({location}, trust_remote_code=True)
```"""
    if facts.can_pull:
        text += (
            f"\n\n`lightning pull {facts.location}` restores the training run, for evaluation, export and fine-tuning."
        )
    return text


def _data(experiment: Experiment, facts: CardFacts) -> str:
    arguments = experiment.data.init_args
    name = Path(str(arguments["path"])).name if arguments.get("path") else experiment.data.class_path
    described = f": {facts.data.rstrip('.')}." if facts.data else ". The author has not described it."
    text = f"## Data and license\n\nThe network was trained on the data set `{name}`{described} "
    if facts.license:
        text += f"The license of the weights is {facts.license}."
    else:
        text += "The author has not chosen a license for the weights; ask before you use them."
    if facts.notice:
        lines = "\n".join(f"> {line}" for line in facts.notice.splitlines())
        text += f" The license of the data requires this notice:\n\n{lines}"
    return text


def _training(folder: RunFolder, experiment: Experiment) -> str:
    training, optimizer, sampling = experiment.training, experiment.optimizer, experiment.sampling
    rows = [
        ["stage", f"`{short(experiment.stage)}`"],
        ["steps", f"{folder.finished_steps() or training.max_steps}"],
        ["batch size", str(experiment.data.init_args.get("batch_size", "-"))],
        ["optimizer", f"`{short(optimizer)}`, learning rate {optimizer.init_args.get('lr', '-')}"],
        ["precision", training.precision],
        ["sampling", f"{sampling.steps} steps, `{sampling.sampler}`, guidance scale {sampling.guidance:g}"],
        ["autoencoder", describe(experiment.autoencoder)],
        *(["text encoder", describe(component)] for component in experiment.text_encoders),
        *([f"parent ({role})", f"`{name}`"] for role, name in experiment.parents.items()),
    ]
    if not folder.finished_steps():
        rows[1][1] += " planned; the run has not finished"
    losses = [[f"`{key}`", f"{value:.4f}"] for key, value in last_losses(folder).items()]
    text = f"## Training\n\n{table(['setting', 'value'], rows)}"
    if losses:
        text += f"\n\n{table(['last validation loss', 'value'], losses)}"
    return text


def _evaluation(facts: CardFacts) -> str:
    if not facts.scores:
        return "## Evaluation\n\nNo evaluation of these weights has been recorded."
    groups: dict[tuple[str, ...], list[Score]] = {}
    for score in facts.scores:
        groups.setdefault((score.metric, score.judge, score.prompts, score.meaning), []).append(score)
    text = (
        "## Evaluation\n\nThe judge is the program or model that scored the images. Scores of different judges are not "
        "comparable. 95% confidence intervals are in parentheses."
    )
    for (metric, judge, prompts, meaning), scores in groups.items():
        widths = sorted({score.width for score in scores})
        values = {(score.name, score.width): score.value for score in scores}
        names = dict.fromkeys(score.name for score in scores)
        rows = [[name, *(values.get((name, width), "-") for width in widths)] for name in names]
        facts_of_group = [f"judge: {judge}" * bool(judge), f"prompts: {prompts}", f"overall: {meaning}" * bool(meaning)]
        text += f"\n\n**{metric}** ({'; '.join(filter(None, facts_of_group))})\n\n"
        text += table(["score", *(f"{width:g}x" for width in widths)], rows)
    return text


def _limits(experiment: Experiment) -> str:
    height, width = experiment.sampling.size
    lines = [f"- It was trained for images of {height}x{width} pixels. Images of other sizes may be worse."]
    if any(component.class_path in HASHED for component in experiment.text_encoders):
        lines.append(
            "- Its text encoders are stand-ins without knowledge of language, so it only knows the words of its "
            "training captions."
        )
    if experiment.autoencoder.class_path in ANALYTIC:
        lines.append("- Its autoencoder is an analytic stand-in for a trained autoencoder, and blurs photographs.")
    lines += [
        "- It reproduces the biases of its training data, and its images are not filtered.",
        "- Narrower widths produce worse images; compare the widths before you choose one.",
    ]
    return "## Limits\n\n" + "\n".join(lines)


def describe(component: Component) -> str:
    """Describe an encoder in a few words."""
    if component.class_path in (*HASHED, *ANALYTIC):
        return f"`{short(component)}`, a stand-in that needs no download"
    repository = str(component.init_args.get("repository", ""))
    name = Path(repository).name if Path(repository).is_absolute() else repository
    return f"`{short(component)}` {name}".rstrip()


def short(component: Component) -> str:
    """Return the name of a component's class without its module."""
    return component.class_path.rpartition(".")[2]


def last_losses(folder: RunFolder) -> dict[str, float]:
    """Return the last validation loss of each width from the run's journal, if it has one."""
    losses: dict[str, float] = {}
    try:
        lines = folder.metrics.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return losses
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # an incomplete last line, which an interrupted run leaves behind
        if event.get("kind") == "metric" and str(event.get("key")).startswith("validation/loss/"):
            losses[event["key"]] = float(event["value"])
    return losses


def parameter_counts(experiment: Experiment, widths: Sequence[float]) -> dict[float, int]:
    """Return the number of parameters of each width."""
    counts = {}
    for width in widths:
        with torch.device("meta"):
            network = build_network(experiment.backbone.standalone(width))
        counts[width] = sum(weight.numel() for weight in network.parameters())
    return counts


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count < 1e9 else f"{count / 1e9:.2f} B"
