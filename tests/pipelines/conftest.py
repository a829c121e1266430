"""Fixture that provides a network with random weights, its encoders, and a diffusers pipeline built from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pocketdit.backbones.dit import ElasticDiT
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.encoders.hashed_text import PhraseEncoder, WordEncoder
from pocketdit.encoders.inputs import Encoders
from tests.conftest import PRETRAIN
from tests.hub.conftest import TINY, randomize


@dataclass
class Pair:
    """The network and encoders of a run, and a diffusers pipeline built from them."""

    network: ElasticDiT
    encoders: Encoders
    experiment: Experiment
    pipe: Any


def load_experiment() -> Experiment:
    return load(Path(PRETRAIN), TINY, Experiment).config


@pytest.fixture
def pair() -> Pair:
    from pocketdit import PocketDiTPipeline
    from pocketdit.pipelines.embedded import DCTAutoencoderModel, HashedTextModel
    from pocketdit.pipelines.schedules import scheduler_for
    from pocketdit.pipelines.transformer import PocketDiTTransformer2DModel

    experiment = load_experiment()
    network = ElasticDiT(experiment.dit).eval()
    randomize(network)
    pipe = PocketDiTPipeline(
        transformer=PocketDiTTransformer2DModel.from_network(network),
        scheduler=scheduler_for("dpmpp_2m", 3.0),
        vae=DCTAutoencoderModel(2.1, 0.53),
        text_encoder=HashedTextModel("word", 128, 80),
        text_encoder_2=HashedTextModel("phrase", 192, 80),
        max_tokens=[80, 80],
        steps=4,
        guidance=2.0,
        size=[64, 64],
    )
    pipe.set_progress_bar_config(disable=True)
    encoders = Encoders(DCTAutoencoder(2.1, 0.53), [WordEncoder(128, 80), PhraseEncoder(192, 80)])
    return Pair(network, encoders, experiment, pipe)
