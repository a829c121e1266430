"""DMD and K-DMD (paper Eq. 9 and 10) in the plane, where the teacher's velocity is known in closed form.

Data: five Gaussians of unequal weight. Student and critic: small networks that start from the same flow matching,
distilled to 1, 2 and 4 steps. Figure: energy distance of the student's samples to true ones, 0 for equal
distributions; the floor is that of two sets of true samples.

    python benchmarks/distribution_matching.py [--out docs/distribution_matching.png] [--seeds N] [--json PATH]
"""

import copy
import math
import time as clock
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import announce, options, report, table
from pocketdit.diffusion.path import broadcast, data_from_velocity, interpolate, shift, velocity
from pocketdit.diffusion.rollout import roll_out
from pocketdit.diffusion.samplers import Velocity, at, euler, uniform_times
from pocketdit.losses.distillation import output_loss
from pocketdit.losses.distribution_matching import distribution_matching_loss
from pocketdit.losses.flow_matching import flow_matching_loss

CENTRES = torch.tensor([[-1.4, -0.8], [1.2, -1.1], [0.0, 0.2], [1.3, 1.1], [-1.0, 1.3]])
WEIGHTS = torch.tensor([0.30, 0.10, 0.15, 0.20, 0.25])
SPREAD = 0.15  # standard deviation of each Gaussian

STEPS, SHIFT = (1, 2, 4), 3.0
STUDENT_EVERY = 5  # the two time scales: the critic learns in every iteration, the student in every fifth
FLOW_ITERATIONS, ITERATIONS, BATCH = 1500, 4000, 256
RATE, STUDENT_RATE = 1e-3, 2e-3
LEAST, MOST = 0.02, 0.98  # tau of the matching loss
COUNT = 3000  # samples that a distance is taken of
METHODS = ("start", "DMD", "K-DMD, flow map", "K-DMD, straightened", "teacher, flow map", "teacher, straightened")

Pairs = Callable[[], tuple[Tensor, Tensor]]


def draw_data(count: int, generator: torch.Generator) -> Tensor:
    """True samples (count, 2)."""
    modes = torch.multinomial(WEIGHTS, count, replacement=True, generator=generator)
    return CENTRES[modes] + SPREAD * draw_noise(count, generator)


def draw_noise(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, 2, generator=generator)


def exact_velocity(x: Tensor, time: Tensor) -> Tensor:
    """E[noise - data | x_t = x] of the mixture: the teacher. (B, 2), (B,) -> (B, 2).

    In mode k x_t is Gaussian around (1 - t) centre_k with variance (1 - t)^2 SPREAD^2 + t^2; there the velocity is
    linear in x. The modes are weighed by their probability at x.
    """
    t = time[:, None]
    variance = (1 - t) ** 2 * SPREAD**2 + t**2
    ahead = x[:, None] - (1 - t)[..., None] * CENTRES  # (B, modes, 2)
    modes = torch.softmax(WEIGHTS.log() - ahead.square().sum(-1) / (2 * variance), dim=1)
    slope = (t - (1 - t) * SPREAD**2) / variance
    return (modes[..., None] * (slope[..., None] * ahead - CENTRES)).sum(1)


def flow_map(x: Tensor, time: Tensor, steps: int = 32) -> Tensor:
    """A few-step teacher: the mean velocity (x_t - x_0(x_t)) / t of the exact flow, x_0 by many Euler steps.

    From noise one step along it ends where the flow does. It is exact for a single step alone: a second step starts
    on the line between noise and its own data, where x_t is not distributed as noised data is, and the flow from
    there gives no longer the data's distribution. Students of several steps inherit that.
    """
    data = x
    for index in range(steps):
        data = data - broadcast(time / steps, x) * exact_velocity(data, time * (1 - index / steps))
    return (x - data) / broadcast(time, x)


class Network(nn.Module):
    """Velocity of the plane: x (B, 2), t (B,) -> (B, 2)."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 + 7, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        angles = math.pi * time[:, None] * torch.tensor([1.0, 2.0, 4.0])
        return self.layers(torch.cat([x, time[:, None], angles.sin(), angles.cos()], dim=1))


def flow_loss(network: nn.Module, data: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:
    """Eq. 4 at uniform times."""
    time = torch.rand(len(data), generator=generator)
    return flow_matching_loss(network(interpolate(data, noise, time), time), velocity(data, noise))


def matched_flow(pairs: Pairs, iterations: int, seed: int) -> Network:
    """A network trained by flow matching on pairs of data and noise."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network()
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    for _ in range(iterations):
        optimizer.zero_grad()
        flow_loss(network, *pairs(), generator).backward()
        optimizer.step()
        schedule.step()
    return network


def start(seed: int, iterations: int = FLOW_ITERATIONS) -> Network:
    """What student and critic start from: flow matching on true samples, for many steps."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return matched_flow(lambda: (draw_data(BATCH, generator), draw_noise(BATCH, generator)), iterations, seed)


def straightened(seed: int, iterations: int = 2 * FLOW_ITERATIONS) -> Velocity:
    """Another few-step teacher: flow matching on noise and the data that the exact flow makes of it.

    Its paths are nearly straight (Liu et al. 2022, "Rectified flow"), so it serves any number of steps.
    """
    generator = torch.Generator().manual_seed(2000 + seed)
    noise = draw_noise(32 * BATCH, generator)
    data = data_from_velocity(noise, at(1.0, noise), flow_map(noise, at(1.0, noise)))

    def pairs() -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(noise), (BATCH,), generator=generator)
        return data[rows], noise[rows]

    return matched_flow(pairs, iterations, seed).requires_grad_(False)


def distil(student: Network, steps: int, few_step: Velocity | None, seed: int, iterations: int = ITERATIONS) -> Network:
    """A copy of ``student`` distilled to ``steps`` steps: DMD, or K-DMD if there is a few-step teacher.

    Every iteration rolls the student out to a random step of its own and trains the critic on the data estimated
    there; every ``STUDENT_EVERY``th trains the student first: Eq. 9 against the exact velocity, with Eq. 6 against
    the few-step teacher at the same x_t, a plain sum (Eq. 10 without features).
    """
    generator = torch.Generator().manual_seed(3000 + seed)
    student, critic = copy.deepcopy(student), copy.deepcopy(student)
    of_student = torch.optim.Adam(student.parameters(), STUDENT_RATE, betas=(0.0, 0.99))
    of_critic = torch.optim.Adam(critic.parameters(), RATE, betas=(0.0, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(of_student, max(1, iterations // STUDENT_EVERY))
    times = uniform_times(steps, SHIFT)
    for iteration in range(1, iterations + 1):
        step = int(torch.randint(steps, (), generator=generator))
        x_t, time = roll_out(student, draw_noise(BATCH, generator), times, step)
        prediction = student(x_t, time)
        data = data_from_velocity(x_t, time, prediction)
        if iteration % STUDENT_EVERY == 0:
            tau = shift(LEAST + (MOST - LEAST) * torch.rand(BATCH, generator=generator), SHIFT)
            loss, _ = distribution_matching_loss(data, draw_noise(BATCH, generator), tau, exact_velocity, critic)
            if few_step is not None:
                loss = loss + output_loss(prediction, few_step(x_t, time)).mean()
            of_student.zero_grad()
            loss.backward()
            of_student.step()
            schedule.step()
        of_critic.zero_grad()
        flow_loss(critic, data.detach(), draw_noise(BATCH, generator), generator).backward()
        of_critic.step()
    return student


@torch.no_grad()
def generate(network: Velocity, steps: int, seed: int = 10) -> Tensor:
    """``COUNT`` samples in ``steps`` steps."""
    return euler(network, draw_noise(COUNT, torch.Generator().manual_seed(seed)), uniform_times(steps, SHIFT))


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E|A - B| - E|A - A'| - E|B - B'| (Székely and Rizzo 2013) of two sets of points (N, 2), (M, 2)."""

    def mean_distance(p: Tensor, q: Tensor) -> float:
        return torch.cdist(p, q, compute_mode="donot_use_mm_for_euclid_dist").mean().item()

    return 2 * mean_distance(a, b) - mean_distance(a, a) - mean_distance(b, b)


def true_samples(seed: int = 11) -> Tensor:
    return draw_data(COUNT, torch.Generator().manual_seed(seed))


def distance(network: Velocity, steps: int) -> float:
    """Energy distance of a network's samples to true ones."""
    return energy_distance(generate(network, steps), true_samples())


def compare(seed: int, iterations: int = ITERATIONS) -> list[dict[str, Any]]:
    """One row for each number of steps and network, with its samples and the seconds that distilling took."""
    begun = start(seed, min(iterations, FLOW_ITERATIONS))
    few_step = {"flow map": flow_map, "straightened": straightened(seed, min(iterations, 2 * FLOW_ITERATIONS))}
    rows: list[dict[str, Any]] = []
    for steps in STEPS:
        for method in METHODS:
            kind, _, teacher = method.partition(", ")
            began = clock.perf_counter()
            network: Velocity
            if kind == "start":
                network = begun
            elif kind == "teacher":
                network = few_step[teacher]
            else:
                network = distil(begun, steps, few_step[teacher] if teacher else None, seed, iterations)
            seconds = clock.perf_counter() - began
            samples = generate(network, steps)
            figures = {"distance": energy_distance(samples, true_samples()), "seconds": seconds}
            rows.append({"seed": seed, "steps": steps, "method": method, **figures, "samples": samples})
    return rows


def plot(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Samples of one seed: a row for each number of steps, true samples in grey behind."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    true = true_samples()
    shown = [method for method in METHODS if not method.startswith("teacher")]
    figure, axes = plt.subplot_mosaic(
        [["true", *(f"{steps} {method}" for method in shown)] for steps in STEPS], figsize=(13, 8)
    )  # type: ignore[call-overload]
    for axis in axes.values():
        axis.scatter(true[:, 0], true[:, 1], s=1.5, color="0.8", linewidths=0)
        axis.set(xlim=(-2.3, 2.3), ylim=(-2.3, 2.3), xticks=[], yticks=[], aspect="equal")
    axes["true"].scatter(true[:, 0], true[:, 1], s=1.5, color="0.25", linewidths=0)
    axes["true"].set_title("true samples", fontsize=11)
    for row in rows:
        if row["method"] in shown:
            axis = axes[f"{row['steps']} {row['method']}"]
            axis.scatter(row["samples"][:, 0], row["samples"][:, 1], s=1.5, color="tab:blue", linewidths=0)
            axis.text(0.97, 0.03, f"{row['distance']:.3f}", transform=axis.transAxes, ha="right", fontsize=10)
    for method in shown:
        axes[f"{STEPS[0]} {method}"].set_title(method.replace("start", "start: flow matching"), fontsize=11)
    for steps in STEPS:
        axes[f"{steps} {shown[0]}"].set_ylabel(f"{steps} step{'s' * (steps > 1)}", fontsize=11)
    figure.suptitle("Step distillation in the plane: samples, and their energy distance to true ones", fontsize=13)
    figure.tight_layout()
    figure.savefig(out, dpi=90)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--out", type=Path, help="also draw samples into this PNG")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="repeat with as many seeds")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)  # a second thread only waits for networks of this size
    announce()
    rows = [row for seed in range(chosen.seeds) for row in compare(seed, *[2 * STUDENT_EVERY] * chosen.quick)]

    cells = []
    for steps in STEPS:
        for method in METHODS:
            same = [row for row in rows if (row["steps"], row["method"]) == (steps, method)]
            seconds = sum(row["seconds"] for row in same) / len(same)
            distances = " ".join(f"{row['distance']:.4f}" for row in same)
            cells.append([method, steps, distances, f"{seconds:.0f} s" if "DMD" in method else ""])
    floor = energy_distance(true_samples(), true_samples(12))
    print(table(["network", "steps", "distance, by seed", "distilled in"], cells), end="\n\n")
    print(f"floor, true samples to true samples: {floor:.4f}")
    if chosen.out is not None:
        plot([row for row in rows if row["seed"] == 0], chosen.out)
        print(f"picture: {chosen.out}")
    plain = [{name: value for name, value in row.items() if name != "samples"} for row in rows]
    report({"benchmark": "distribution_matching", "rows": plain, "floor": floor}, chosen.json)


if __name__ == "__main__":
    main()
