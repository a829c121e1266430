"""The components of a run's pipeline: models to save, and references to models on the Hub."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pocketdit.artifacts.decoder import load_decoder, require_matching_latents
from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.backbones.per_width import PerWidthNetworks, Supernet, standalone_network
from pocketdit.backbones.unet import UNet
from pocketdit.config.component import Component, build
from pocketdit.config.experiment import Experiment
from pocketdit.config.importing import import_class
from pocketdit.encoders.checkpoints import is_path
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.encoders.hashed_text import PhraseEncoder, WordEncoder
from pocketdit.encoders.pretrained_text import ClipTextEncoder, Gemma3TextEncoder
from pocketdit.encoders.vae import DiffusersAutoencoder
from pocketdit.errors import ConfigError
from pocketdit.pipelines.base import TEXT_ENCODERS, TOKENIZERS
from pocketdit.pipelines.embedded import DCTAutoencoderModel, HashedTextModel, TinyDecoderModel
from pocketdit.pipelines.schedules import scheduler_for
from pocketdit.pipelines.text_to_image import PocketDiTPipeline
from pocketdit.pipelines.transformer import PocketDiTTransformer2DModel


@dataclass(frozen=True)
class Encoder:
    """The components of a pipeline that replace one encoder of a run.

    Attributes:
        key: Key of the encoder in the run's configuration.
        components: Models and tokenizers, by their names in the pipeline.
        references: References to models on the Hub, by the same names.
        max_tokens: Number of tokens per prompt of a text encoder.
    """

    key: str
    components: dict[str, Any]
    references: dict[str, dict[str, Any]]
    max_tokens: int = 0

    @property
    def is_copied_from_files(self) -> bool:
        """Whether the run's configuration must refer to the copies of the encoder's files."""
        return any(not isinstance(part, HashedTextModel | DCTAutoencoderModel) for part in self.components.values())


def encoders_of(experiment: Experiment, copy: bool) -> list[Encoder]:
    """Return the components of a run's autoencoder and text encoders.

    Args:
        experiment: Configuration of the run.
        copy: Whether to also copy models from the Hub. Models in local folders are always copied.

    Raises:
        ConfigError: diffusers has no counterpart of an encoder, or the run has too many text encoders.
    """
    if len(experiment.text_encoders) > len(TEXT_ENCODERS):
        raise ConfigError(f"text_encoders: a pipeline has at most {len(TEXT_ENCODERS)} text encoders")
    texts = [
        text_encoder(f"text_encoders.{i}", component, names, copy)
        for i, (component, names) in enumerate(
            zip(experiment.text_encoders, zip(TEXT_ENCODERS, TOKENIZERS, strict=True), strict=False)
        )
    ]
    return [*texts, autoencoder(experiment.autoencoder, copy)]


def text_encoder(key: str, component: Component, names: tuple[str, str], copy: bool) -> Encoder:
    """Return the components of a text encoder.

    Args:
        key: Key of the encoder in the run's configuration.
        component: The encoder.
        names: Names of the text encoder and of its tokenizer in the pipeline.
        copy: See ``encoders_of``.

    Raises:
        ConfigError: diffusers has no counterpart of the encoder.
    """
    cls = import_class(component.class_path)
    if cls in (WordEncoder, PhraseEncoder):
        encoder = build(component)
        kind = "word" if cls is WordEncoder else "phrase"
        return Encoder(
            key, {names[0]: HashedTextModel(kind, encoder.width, encoder.max_tokens)}, {}, encoder.max_tokens
        )
    if cls not in (ClipTextEncoder, Gemma3TextEncoder):
        raise unsupported(key, component, (WordEncoder, PhraseEncoder, ClipTextEncoder, Gemma3TextEncoder))
    if copy or is_folder(component):
        encoder = build(component)
        return Encoder(key, dict(zip(names, (encoder.model, encoder.tokenizer), strict=True)), {}, encoder.max_tokens)
    kind = "clip" if cls is ClipTextEncoder else "gemma"
    kinds = (kind, "tokenizer")
    references = {name: reference(key, component, kind) for name, kind in zip(names, kinds, strict=True)}
    return Encoder(key, {}, references, component.init_args["max_tokens"])


def autoencoder(component: Component, copy: bool) -> Encoder:
    """Return the components of an autoencoder.

    Raises:
        ConfigError: diffusers has no counterpart of the autoencoder.
    """
    cls = import_class(component.class_path)
    if cls is DCTAutoencoder:
        built = build(component)
        return Encoder("autoencoder", {"vae": DCTAutoencoderModel(built.scale, built.center)}, {})
    if cls is not DiffusersAutoencoder:
        raise unsupported("autoencoder", component, (DCTAutoencoder, DiffusersAutoencoder))
    if copy or is_folder(component):
        return Encoder("autoencoder", {"vae": build(component).model}, {})
    published = reference("autoencoder", component, component.init_args["kind"])
    return Encoder("autoencoder", {}, {"vae": {**published, "subfolder": "vae"}})


def is_folder(component: Component) -> bool:
    """Return whether a published model is read from a local folder rather than the Hub."""
    return Path(component.init_args["repository"]).is_dir()


def reference(key: str, component: Component, kind: str) -> dict[str, Any]:
    """Return a reference to a model on the Hub (see ``load_reference``).

    Raises:
        ConfigError: The configuration refers to a local folder that does not exist.
    """
    arguments = component.init_args
    repository = arguments["repository"]
    if is_path(repository):
        raise ConfigError(
            f"{key}.init_args.repository: {repository} does not exist, and it is not the name of a repository on the "
            "Hub (OWNER/NAME), to which the pipeline could refer; restore the folder"
        )
    return {
        "kind": kind,
        "repository": repository,
        "revision": arguments.get("revision"),
        "dtype": arguments.get("dtype"),
    }


def unsupported(key: str, component: Component, supported: Sequence[type]) -> ConfigError:
    """Return the error for an encoder without a counterpart in diffusers."""
    names = ", ".join(cls.__name__ for cls in supported)
    return ConfigError(f"{key}: {component.class_path} has no counterpart in diffusers; only {names} can be published")


def network_of(folder: RunFolder, width: float | None) -> Supernet:
    """Load the network of a run, or only the sub-network of one width.

    Raises:
        ConfigError: The run does not have this width, or its network is a U-Net.
        RunError: The weights are missing or damaged.
    """
    network = load_network(folder)
    if isinstance(network, UNet):
        raise ConfigError(f"{folder.name} has a U-Net; only diffusion transformers can be published as pipelines")
    if width is None:
        return network
    return PerWidthNetworks(replace(network.spec, widths=(width,)), {width: standalone_network(network, width)})


def pipeline_of(
    folder: RunFolder,
    experiment: Experiment,
    encoders: Sequence[Encoder],
    width: float | None,
    decoder: RunFolder | None,
) -> PocketDiTPipeline:
    """Build the pipeline of a run, without the models that it refers to.

    Args:
        folder: The run folder.
        experiment: Configuration of the run.
        encoders: The components of the run's encoders.
        width: The only width to include, or None to include all widths.
        decoder: The run whose tiny decoder is included, if any.

    Raises:
        ConfigError: The tiny decoder was trained on other latents.
        RunError: Weights are missing or damaged.
    """
    components = {name: part for encoder in encoders for name, part in encoder.components.items()}
    if decoder is not None:
        require_matching_latents(experiment, decoder)
        trained = load_decoder(decoder)
        components["decoder"] = TinyDecoderModel(**asdict(trained.spec))
        components["decoder"].decoder = trained
    sampling = experiment.sampling
    return PocketDiTPipeline(
        transformer=PocketDiTTransformer2DModel.from_network(network_of(folder, width)),
        scheduler=scheduler_for(sampling.sampler, sampling.time_shift),
        max_tokens=[encoder.max_tokens for encoder in encoders if encoder.key != "autoencoder"],
        steps=sampling.steps,
        guidance=sampling.guidance,
        size=list(sampling.size),
        **components,
    )
