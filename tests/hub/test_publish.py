"""Tests for ``lightning publish --to``: a single width, a tiny decoder, the code file, and errors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from evaluation.contract import Result
from evaluation.contract import Score as EvaluationScore
from evaluation.report.results import Report, save
from pocketdit.artifacts.decoder import with_decoder
from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, create, load_experiment
from pocketdit.artifacts.weights import save_weights
from pocketdit.commands.main import main
from pocketdit.config.experiment import DecoderExperiment
from pocketdit.config.load import load
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.encoders.hashed_text import WordEncoder
from pocketdit.encoders.hidden_states import last_hidden_states
from pocketdit.encoders.normalized_latents import decode_normalized
from pocketdit.encoders.pretrained_text import ClipTextEncoder, Gemma3TextEncoder
from pocketdit.encoders.vae import AutoencoderKind, DiffusersAutoencoder
from pocketdit.errors import RunError
from pocketdit.files import sha256_of
from pocketdit.hub.remote_code import pipeline_code
from pocketdit.pipelines.references import load_reference
from pocketdit.running.assemble import build_encoders
from pocketdit.sampling import initial_noise, sample
from tests.conftest import ROOT
from tests.encoders.test_pretrained_text import save_clip, save_gemma
from tests.encoders.test_vae import write_checkpoints
from tests.hub.conftest import randomize, write_run
from tests.hub.stand_in import StandInHub

PROMPTS = ["a red circle", "a blue star"]


@pytest.fixture(scope="module")
def decoder_run(run: RunFolder) -> RunFolder:
    """A run of a tiny decoder with random weights, stored next to the run of the network."""
    runs = run.path.parents[1]
    overrides = ["decoder.channels=[16, 8, 8]", "decoder.blocks=[1, 1, 1]", f"runs={runs}"]
    loaded = load(ROOT / "experiments" / "tiny_decoder.yaml", overrides, DecoderExperiment)
    folder = create(runs, "tiny_decoder", "first", loaded.to_yaml())
    decoder = TinyDecoder(loaded.config.decoder)
    randomize(decoder)
    save_weights(folder.weights, decoder.state_dict())
    folder.finished.write_text("6\n")
    return folder


def expected(run: RunFolder, width: float, decoder: RunFolder | None = None) -> Tensor:
    experiment = load_experiment(run)
    encoders = build_encoders(experiment)
    if decoder is not None:
        encoders = with_decoder(encoders, experiment, decoder)
    return sample(load_network(run), encoders, PROMPTS, width, experiment.sampling)


def sampled(folder: Path) -> tuple[Any, Tensor]:
    from pocketdit import PocketDiTPipeline

    pipe = PocketDiTPipeline.from_pretrained(folder)
    images: Tensor = pipe(PROMPTS, latents=initial_noise(PROMPTS, 0, 16, 8, 8), output_type="pt").images
    return pipe, images * 2 - 1


def test_single_width_is_a_smaller_folder(run: RunFolder, tmp_path: Path) -> None:
    for name, options in {"all": [], "narrow": ["--width", "0.5"]}.items():
        assert main(["publish", str(run.path), "--to", str(tmp_path / name), *options]) == 0
    weights = [tmp_path / name / "transformer/diffusion_pytorch_model.safetensors" for name in ("all", "narrow")]
    assert weights[1].stat().st_size < 0.6 * weights[0].stat().st_size
    pipe, images = sampled(tmp_path / "narrow")
    assert pipe.widths == (0.5,)
    torch.testing.assert_close(images, expected(run, 0.5), atol=1e-4, rtol=0)
    assert not (tmp_path / "narrow" / "run").exists()


def test_tiny_decoder_is_published_and_pulled(
    hub: StandInHub, run: RunFolder, decoder_run: RunFolder, tmp_path: Path
) -> None:
    options = ["--decoder", str(decoder_run.path)]
    assert main(["publish", str(run.path), "--to", str(tmp_path / "folder"), *options]) == 0
    _, images = sampled(tmp_path / "folder")
    torch.testing.assert_close(images, expected(run, 1.0, decoder_run), atol=1e-4, rtol=0)
    assert main(["publish", str(run.path), "--hub", "alice/tiny", *options]) == 0
    assert main(["pull", "alice/tiny", "--runs", str(tmp_path / "runs")]) == 0
    pulled = tmp_path / "runs" / "alice" / "tiny.decoder" / "weights.safetensors"
    assert sha256_of(pulled) == sha256_of(decoder_run.weights)


def test_configuration_does_not_describe_the_machine(run: RunFolder, tmp_path: Path) -> None:
    local = write_run(
        tmp_path / "runs", [f"data.init_args.path={tmp_path}/scenes", f"tracking.uri=sqlite:///{tmp_path}/a"]
    )
    assert main(["publish", str(local.path), "--to", str(tmp_path / "folder")]) == 0
    for path in (tmp_path / "folder").rglob("*"):
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes(), path
    assert "path: data/scenes" in (tmp_path / "folder" / "run" / "config.yaml").read_text()


def test_environment_variables_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_SECRET", "hidden-value")
    local = write_run(tmp_path / "runs", ["data.init_args.path=${oc.env:MY_SECRET}"])
    assert main(["publish", str(local.path), "--to", str(tmp_path / "folder")]) == 2
    error = capsys.readouterr().err
    assert "data.init_args.path refers to an environment variable" in error
    assert "hidden-value" not in error
    assert not (tmp_path / "folder").exists()


def test_code_file_is_always_the_same_and_complete(run: RunFolder, tmp_path: Path) -> None:
    code = pipeline_code("1.0")
    assert code == pipeline_code("1.0")
    assert "from pocketdit" not in "\n".join(
        line for line in code.splitlines() if not line.startswith(('"', " ", "is"))
    )
    compile(code, "pipeline.py", "exec")
    assert main(["publish", str(run.path), "--to", str(tmp_path / "folder")]) == 0
    index = json.loads((tmp_path / "folder" / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline", "PocketDiTPipeline"]


def test_the_card_has_the_scores_of_these_weights_by_width(run: RunFolder, tmp_path: Path) -> None:
    """Scores of other weights are omitted, and a newer score replaces an older one."""
    protocol = {
        "prompts": "captions",
        "prompt_count": 2,
        "judge": {"name": "rules", "version": "1"},
        "overall": "share",
    }
    digest = sha256_of(run.weights)
    recorded = [(0.5, 0.25, digest), (0.5, 0.5, digest), (1.0, 0.75, digest), (1.0, 0.125, "other")]
    for number, (width, value, weights) in enumerate(recorded):
        scores = {"overall": EvaluationScore(value, 2), "counting": EvaluationScore(0.5, 2, {"a": 1.0, "b": 0.0})}
        made = {"captions": {"weights_sha256": weights, "width": width}}
        report = Report("held_out", "run", (Result("accuracy", scores, protocol),), made)
        save(report, tmp_path / "evaluations" / str(number), 100)
    options = ["--evaluations", str(tmp_path / "evaluations"), "--data", "drawings of shapes, made for this test"]
    assert main(["publish", str(run.path), "--to", str(tmp_path / "folder"), *options]) == 0
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "data set `scenes`: drawings of shapes, made for this test. The author has not chosen a license" in card
    assert (
        """
**accuracy** (judge: rules 1; prompts: captions, 2; overall: share)

| score | 0.5x | 1x |
| --- | --- | --- |
| overall | 0.500 | 0.750 |
| counting | 0.500 (0.000 to 1.000) | 0.500 (0.000 to 1.000) |
"""
        in card
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "{new}", "--width", "0.7"], "--width 0.7: tiny/first only has the widths 0.5, 1"),
        (["--to", "{full}"], "already exists"),
        (["--to", "{new}", "--public"], "--public: requires --hub"),
        (["--hub", "alice/tiny", "--width", "0.5"], "--width: requires --to"),
    ],
)
def test_wrong_options_are_one_line(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    words = [word.format(new=tmp_path / "new", full=run.path) for word in options]
    assert main(["publish", str(run.path), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


CLIP = "{{class_path: pocketdit.encoders.pretrained_text.ClipTextEncoder, init_args: {{repository: {}}}}}"
GEMMA = "{class_path: pocketdit.encoders.pretrained_text.Gemma3TextEncoder, init_args: {repository: carol/gemma}}"
FLUX = "{class_path: pocketdit.encoders.vae.DiffusersAutoencoder, init_args: {repository: carol/vae, kind: flux}}"


def published_encoders(clip: str) -> list[str]:
    """Return overrides that name encoders on the Hub without max_tokens, revision or dtype, as in experiments/paper."""
    return [f"autoencoder={FLUX}", f"text_encoders=[{CLIP.format(clip)}, {GEMMA}]"]


@pytest.fixture(scope="module")
def referring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published folder that refers to encoders on the Hub."""
    folder = tmp_path_factory.mktemp("referring")
    local = write_run(folder / "runs", published_encoders("carol/clip"))
    assert main(["publish", str(local.path), "--to", str(folder / "published")]) == 0
    return folder / "published"


def test_references_have_the_settings_with_which_the_run_loads_its_encoders(referring: Path) -> None:
    """If an argument is missing, the default of the encoder's class is stored, not the default of the pipeline."""
    index = json.loads((referring / "model_index.json").read_text())
    clip = {"kind": "clip", "repository": "carol/clip", "revision": None, "dtype": "float32"}
    gemma = {"kind": "gemma", "repository": "carol/gemma", "revision": None, "dtype": "bfloat16"}
    assert index["references"] == {
        "text_encoder": clip,
        "tokenizer": {**clip, "kind": "tokenizer"},
        "text_encoder_2": gemma,
        "tokenizer_2": {**gemma, "kind": "tokenizer"},
        "vae": {"kind": "flux", "repository": "carol/vae", "revision": None, "dtype": "float32", "subfolder": "vae"},
    }
    assert index["max_tokens"] == [77, 256]
    assert {path.name for path in referring.iterdir() if path.is_dir()} == {"run", "scheduler", "transformer"}


def test_missing_reference_is_one_line(referring: Path) -> None:
    from pocketdit import PocketDiTPipeline

    with pytest.raises(RunError) as caught:
        PocketDiTPipeline.from_pretrained(referring)
    message = str(caught.value)
    assert message.startswith("carol/clip: cannot load references.text_encoder of model_index.json: ")
    assert "hf download carol/clip" in message
    assert "\n" not in message


def test_folder_that_is_missing_is_not_published_as_a_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = write_run(tmp_path / "runs", published_encoders(f"{tmp_path}/gone"))
    assert main(["publish", str(local.path), "--to", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err
    assert f"text_encoders.0.init_args.repository: {tmp_path}/gone does not exist" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_references_load_what_the_encoders_load(tmp_path: Path) -> None:
    """The repositories are local folders here. Unknown kinds and incomplete weights must be refused."""
    save_clip(tmp_path / "clip")
    save_gemma(tmp_path / "gemma")
    write_checkpoints(tmp_path)
    encoders = {
        "clip": ClipTextEncoder(str(tmp_path / "clip"), 8),
        "gemma": Gemma3TextEncoder(str(tmp_path / "gemma"), 8),
    }
    for name, encoder in encoders.items():
        reference = {"repository": str(tmp_path / name), "dtype": "bfloat16" if name == "gemma" else None}
        model = load_reference("text_encoder", {**reference, "kind": name})
        tokenizer = load_reference("tokenizer", {**reference, "kind": "tokenizer"})
        tokens = last_hidden_states(tokenizer, model, PROMPTS, 8, torch.device("cpu"))
        assert torch.equal(tokens.embeddings, encoder.encode(PROMPTS).embeddings)
    kinds: dict[AutoencoderKind, str | None] = {"flux": "vae", "flux2": None, "qwen_image": None, "sd3": None}
    for kind, subfolder in kinds.items():
        folder = str(tmp_path / kind)
        vae = load_reference("vae", {"kind": kind, "repository": folder, "subfolder": subfolder})
        channels = 32 if kind == "flux2" else 16
        latents = torch.randn(1, channels, 4, 4, generator=torch.Generator().manual_seed(0))
        assert torch.equal(decode_normalized(vae, latents), DiffusersAutoencoder(folder, kind).decode(latents))
    with pytest.raises(ValueError, match=r"references\.vae: unknown kind 'sdxl'; valid: tokenizer, clip"):
        load_reference("vae", {"kind": "sdxl", "repository": folder})
    weights = load_file(tmp_path / "clip" / "model.safetensors")
    del weights["text_model.final_layer_norm.weight"]
    save_file(weights, tmp_path / "clip" / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        RunError, match=r"references\.text_encoder of model_index\.json: missing weights: .*final_layer"
    ):
        load_reference("text_encoder", {"kind": "clip", "repository": str(tmp_path / "clip")})


def test_encoder_without_a_counterpart_is_named(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pocketdit.hub import components

    monkeypatch.setattr(components, "PhraseEncoder", WordEncoder)
    assert main(["publish", str(run.path), "--to", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err
    assert "text_encoders.1: pocketdit.encoders.hashed_text.PhraseEncoder has no counterpart in diffusers" in error
    assert list(tmp_path.iterdir()) == []
