"""Chooses the processes of an encoding job according to how the command was started."""

import os

from datamodules.encoding.encode import EncodeReport, encode_dataset
from datamodules.encoding.job import EncodeJob
from datamodules.encoding.ray_team import RayTeam
from datamodules.encoding.team import Ranks, SingleProcess
from datamodules.shards.schema import read_info
from pocketdit.errors import UserError


def launch(job: EncodeJob, *, overwrite: bool = False, ray: str | None = None) -> list[EncodeReport]:
    """Encode a data set on a Ray cluster, with the processes that ``torchrun`` has started, or in this process.

    Args:
        job: What to encode, and with which encoders.
        overwrite: Replace complete data sets.
        ray: Address of a Ray cluster, or "local" to start a cluster on this machine. None means no Ray.

    Returns:
        A report for each base size. Ranks other than 0 return an empty list.

    Raises:
        UserError: The source is not a data set of images. See ``encode_dataset`` for other errors.
    """
    if read_info(job.source).kind != "image":
        raise UserError(f"{job.source}: contains latents; only a data set of images can be encoded")
    if job.source.resolve() in (job.folder(size).resolve() for size in job.base_sizes):
        raise UserError(f"{job.out}: is the folder of the images to encode; choose another folder for the results")
    if ray is not None:
        cluster = RayTeam(job, ray)
        try:
            return encode_dataset(job, cluster, overwrite=overwrite)
        finally:
            cluster.close()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return encode_dataset(job, SingleProcess(job), overwrite=overwrite)
    ranks = Ranks(job)
    if ranks.rank:
        ranks.follow()
        return []
    return encode_dataset(job, ranks, overwrite=overwrite)
