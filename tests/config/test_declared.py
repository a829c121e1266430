"""Tests for properties that encoders declare before their weights are loaded."""

import pytest

from pocketdit.config.component import Component
from pocketdit.config.declared import latent_factor, latent_sides, text_lengths
from pocketdit.errors import ConfigError

DCT = Component("pocketdit.encoders.dct.DCTAutoencoder")
# The repository does not exist, so loading anything from it would fail.
VAE = Component("pocketdit.encoders.vae.DiffusersAutoencoder", {"repository": "nobody/no-such-model", "kind": "flux"})
CLIP = Component("pocketdit.encoders.pretrained_text.ClipTextEncoder", {"repository": "nobody/no-such-model"})
WORDS = Component("pocketdit.encoders.hashed_text.WordEncoder")


@pytest.mark.parametrize("autoencoder", [DCT, VAE], ids=["DCT", "VAE"])
def test_factor_and_sides_come_from_the_class(autoencoder: Component) -> None:
    assert latent_factor(autoencoder) == 8
    assert latent_sides(autoencoder, (96, 160)) == (12, 20)


@pytest.mark.parametrize("component", [WORDS, Component("gallery.stages.Mlp")], ids=["encoder", "module"])
def test_class_without_a_factor_is_not_an_autoencoder(component: Component) -> None:
    with pytest.raises(ConfigError, match=f"autoencoder: {component.class_path} does not declare a factor"):
        latent_factor(component)


def test_missing_class_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"pocketdit\.encoders\.dct has no class 'Missing'"):
        latent_factor(Component("pocketdit.encoders.dct.Missing"))


def test_text_lengths_come_from_the_configuration_or_the_default() -> None:
    shorter = Component(CLIP.class_path, {**CLIP.init_args, "max_tokens": 12})
    assert text_lengths([CLIP, WORDS, shorter]) == [77, 24, 12]
    assert text_lengths([]) == []


def test_text_encoder_without_max_tokens_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"text_encoders: gallery\.stages\.Mlp has no default max_tokens"):
        text_lengths([Component("gallery.stages.Mlp")])
