"""Distance between the feature distributions of generated and real images: Fréchet distance and kernel distance.

With DINOv2 ViT-L/14 features this is DINO-FID (Stein et al. 2023, arXiv 2306.04675). With any other network the metric
is named after the network, because the values are not comparable. They also depend on the number of images (50,000 for
published values), on the reference images and on the guidance scale. Report all three.
"""

from pathlib import Path

from evaluation.contract import ImageEncoder, ImageSet, Result, Score, open_image
from evaluation.metrics.frechet import Gaussian, frechet_distance
from evaluation.metrics.kernel_distance import kernel_distance
from evaluation.metrics.reference import encode_all, reference_for
from pocketdit.counts import counted
from pocketdit.errors import ConfigError, UserError

BENCHMARK = "dino-fid"
PUBLISHED_SAMPLES = 50_000


class FeatureDistance:
    """Fréchet distance ("overall") and kernel distance ("kernel", unscaled KID). Lower is better for both.

    Args:
        prompts: Key of the prompt set in the evaluation.
        encoder: The feature network.
        reference: Real images: a sharded data set, a folder of images, or a .safetensors file with their statistics.
            The statistics of data sets and folders are computed once.
        split: Split of the data set.
        reference_samples: Maximum number of reference images.
        kept: Folder in which computed reference statistics are stored.
        subsets: Number of random subsets for the kernel distance.
        subset_size: Images per subset.
        seed: Seed for all random choices.

    Raises:
        ConfigError: ``reference_samples``, ``subsets`` or ``subset_size`` is below 2.
    """

    def __init__(
        self,
        prompts: str,
        encoder: ImageEncoder,
        reference: Path,
        split: str = "train",
        reference_samples: int = 50_000,
        kept: Path = Path("evaluations/references"),
        subsets: int = 100,
        subset_size: int = 1000,
        seed: int = 0,
    ) -> None:
        for name, value in (
            ("reference_samples", reference_samples),
            ("subsets", subsets),
            ("subset_size", subset_size),
        ):
            if value < 2:
                raise ConfigError(f"FeatureDistance: {name} must be at least 2, not {value}")
        self.prompts = prompts
        self.encoder = encoder
        self.reference, self.split, self.reference_samples = Path(reference), split, reference_samples
        self.kept = Path(kept)
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed

    def score(self, images: ImageSet) -> Result:
        """Score an image set.

        Raises:
            UserError: A prompt has no images, there are fewer than 2 images, or the reference cannot be used (see
                ``reference_for``).
        """
        missing = [prompt.id for prompt in images.prompts.prompts if not images.images.get(prompt.id)]
        if missing:
            raise UserError(
                f"{counted(len(missing), 'prompt')} without images (the first is {missing[0]}); "
                "run the evaluation again"
            )
        reference = reference_for(
            self.reference, self.encoder, self.kept, split=self.split, samples=self.reference_samples, seed=self.seed
        )
        paths = [path for prompt in images.prompts.prompts for path in images.images[prompt.id]]
        features = encode_all(map(open_image, paths), self.encoder)
        frechet = frechet_distance(Gaussian.from_samples(features), reference.gaussian())
        kernel = kernel_distance(
            features, reference.features, subsets=self.subsets, subset_size=self.subset_size, seed=self.seed
        )
        backend = self.encoder.backend
        is_published = BENCHMARK in backend.published_for
        fewest = min(len(paths), reference.samples)
        note = (
            f"Computed from {len(paths)} images and {reference.samples} reference images. Published values use "
            f"{PUBLISHED_SAMPLES:,} of each; the Fréchet distance is higher for fewer images."
        )
        return Result(
            metric=BENCHMARK if is_published else f"fd ({backend.name})",
            scores={"overall": Score(frechet, len(paths)), "kernel": Score(kernel.mean, len(paths))},
            protocol={
                "prompts": images.prompts.name,
                "samples": len(paths),
                "encoder": backend.name,
                "encoder_version": backend.version,
                "dimensions": features.shape[1],
                "reference": reference.name,
                "reference_source": reference.source,
                "reference_samples": reference.samples,
                "frechet": "squared, float64, covariances divided by N - 1",
                "kernel": {
                    "kernel": "(x.y / D + 1)^3, unbiased",
                    "subsets": kernel.subsets,
                    "subset_size": kernel.subset_size,
                    "std": kernel.std,
                    "seed": self.seed,
                },
            },
            higher_is_better=False,
            notes=(note,) if is_published and fewest < PUBLISHED_SAMPLES else (),
        )
