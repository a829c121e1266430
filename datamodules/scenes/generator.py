"""Rendered scenes as a source of captioned images for a data set."""

from collections.abc import Iterator
from dataclasses import dataclass

from datamodules.scenes.captions import annotate_scene
from datamodules.scenes.render import render_scene
from datamodules.scenes.split import generate_scenes
from datamodules.shards.attribution import Attribution
from datamodules.shards.build_generated import GeneratedImage
from datamodules.shards.schema import Split


@dataclass(frozen=True)
class SceneGenerator:
    """Generates scenes of colored shapes."""

    name: str = "scenes"
    origin: str = "datamodules.scenes"
    attribution: Attribution | None = None

    def generate(self, split: Split, count: int, seed: int) -> Iterator[GeneratedImage]:
        """Yield ``count`` images of a split (see ``generate_scenes``)."""
        for captioned in generate_scenes(split, count, seed):
            annotations = annotate_scene(captioned.scene, captioned.captions[0])
            yield GeneratedImage(captioned.id, render_scene(captioned.scene), captioned.captions, annotations)
