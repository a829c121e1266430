"""Test DMD and K-DMD (Eqs. 9 and 10 of the paper) on 2D data, for which the teacher's velocity is known in closed form.

    python benchmarks/distribution_matching.py [--out docs/images/distribution_matching.png] [--seeds N] [--json PATH]

The data distribution is a mixture of five Gaussians with unequal weights. The student and the critic are small networks
that start from the same flow-matching network, and the student is distilled to 1, 2 and 4 steps. The score is the
energy distance between the student's samples and true samples, which is 0 if the distributions are equal. The floor is
the distance between two sets of true samples.

Points have shape (B, 2), and times (B,).
"""

import copy
import math
import time as clock
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import argument_parser, print_machine, table, write_result
from pocketdit.diffusion.path import broadcast_time, data_from_velocity, interpolate, shift_time, velocity
from pocketdit.diffusion.rollout import euler_rollout
from pocketdit.diffusion.samplers import Velocity, batch_time, euler, uniform_times
from pocketdit.losses.distillation import output_loss
from pocketdit.losses.distribution_matching import distribution_matching_loss
from pocketdit.losses.flow_matching import flow_matching_loss

CENTERS = torch.tensor([[-1.4, -0.8], [1.2, -1.1], [0.0, 0.2], [1.3, 1.1], [-1.0, 1.3]])
WEIGHTS = torch.tensor([0.30, 0.10, 0.15, 0.20, 0.25])
SPREAD = 0.15  # standard deviation of each Gaussian

STEPS, SHIFT = (1, 2, 4), 3.0
STUDENT_EVERY = 5  # the critic is trained in every iteration, the student in every fifth
FLOW_ITERATIONS, ITERATIONS, BATCH = 1500, 4000, 256
LEARNING_RATE, STUDENT_LEARNING_RATE = 1e-3, 2e-3
MIN_TAU, MAX_TAU = 0.02, 0.98  # range of the noise levels in the matching loss
COUNT = 3000  # number of samples in each of the two sets that are compared
METHODS = ("start", "DMD", "K-DMD, flow map", "K-DMD, straightened", "teacher, flow map", "teacher, straightened")
TITLES = {  # column titles in the plot
    "start": "before distillation",
    "DMD": "DMD",
    "K-DMD, flow map": "K-DMD, flow-map teacher",
    "K-DMD, straightened": "K-DMD, straightened teacher",
}

Pairs = Callable[[], tuple[Tensor, Tensor]]


def draw_data(count: int, generator: torch.Generator) -> Tensor:
    """Draw true samples (count, 2)."""
    modes = torch.multinomial(WEIGHTS, count, replacement=True, generator=generator)
    return CENTERS[modes] + SPREAD * draw_noise(count, generator)


def draw_noise(count: int, generator: torch.Generator) -> Tensor:
    """Draw noise (count, 2)."""
    return torch.randn(count, 2, generator=generator)


def exact_velocity(x: Tensor, time: Tensor) -> Tensor:
    """Compute the teacher's velocity E[noise - data | x_t = x] (B, 2) for the mixture of Gaussians.

    In mode k, x_t is Gaussian around (1 - t) center_k with variance (1 - t)^2 SPREAD^2 + t^2, and the velocity is
    linear in x. The modes are weighted by their probability given x.
    """
    t = time[:, None]
    variance = (1 - t) ** 2 * SPREAD**2 + t**2
    deviation = x[:, None] - (1 - t)[..., None] * CENTERS  # (B, modes, 2)
    modes = torch.softmax(WEIGHTS.log() - deviation.square().sum(-1) / (2 * variance), dim=1)
    slope = (t - (1 - t) * SPREAD**2) / variance
    return (modes[..., None] * (slope[..., None] * deviation - CENTERS)).sum(1)


def flow_map(x: Tensor, time: Tensor, steps: int = 32) -> Tensor:
    """Compute the velocity of a few-step teacher: the average velocity (x_t - x_0(x_t)) / t along the exact flow.

    The end point x_0 of the flow is computed with many Euler steps. A single step of this teacher from pure noise ends
    exactly where the flow does. With more steps, the teacher is not exact: its second step starts from a point on the
    line between the noise and the end point. Such points are not distributed like noised data, so the flow from there
    does not end in the data distribution. Students with several steps inherit this error.
    """
    data = x
    for index in range(steps):
        data = data - broadcast_time(time / steps, x) * exact_velocity(data, time * (1 - index / steps))
    return (x - data) / broadcast_time(time, x)


class Network(nn.Module):
    """An MLP that predicts the velocity (B, 2) from x (B, 2) and t (B,)."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 + 7, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Predict the velocity (B, 2)."""
        angles = math.pi * time[:, None] * torch.tensor([1.0, 2.0, 4.0])
        velocities: Tensor = self.layers(torch.cat([x, time[:, None], angles.sin(), angles.cos()], dim=1))
        return velocities


def flow_loss(network: nn.Module, data: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:
    """Compute the flow-matching loss (Eq. 4) at uniformly drawn times."""
    time = torch.rand(len(data), generator=generator)
    return flow_matching_loss(network(interpolate(data, noise, time), time), velocity(data, noise))


def train_flow(pairs: Pairs, iterations: int, seed: int) -> Network:
    """Train a network with flow matching on pairs of data and noise."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network()
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    for _ in range(iterations):
        optimizer.zero_grad()
        torch.autograd.backward(flow_loss(network, *pairs(), generator))
        optimizer.step()
        schedule.step()
    return network


def pretrain(seed: int, iterations: int = FLOW_ITERATIONS) -> Network:
    """Use flow matching on true samples to train the network from which the student and the critic start."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return train_flow(lambda: (draw_data(BATCH, generator), draw_noise(BATCH, generator)), iterations, seed)


def straightened_teacher(seed: int, iterations: int = 2 * FLOW_ITERATIONS) -> Velocity:
    """Train a second few-step teacher with flow matching on noise paired with the end points of its exact flow.

    Its paths are nearly straight (Liu et al. 2022, "Rectified flow"), so it is accurate for any number of steps.
    """
    generator = torch.Generator().manual_seed(2000 + seed)
    noise = draw_noise(32 * BATCH, generator)
    data = data_from_velocity(noise, batch_time(1.0, noise), flow_map(noise, batch_time(1.0, noise)))

    def pairs() -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(noise), (BATCH,), generator=generator)
        return data[rows], noise[rows]

    return train_flow(pairs, iterations, seed).requires_grad_(False)


def distill(
    student: Network, steps: int, few_step: Velocity | None, seed: int, iterations: int = ITERATIONS
) -> Network:
    """Distill a copy of the student to ``steps`` steps, with DMD or, given a few-step teacher, with K-DMD.

    Each iteration rolls the student out to one of its steps, chosen at random, and trains the critic on the student's
    estimate of the data at that step. In every ``STUDENT_EVERY``-th iteration, the student is trained first: with Eq. 9
    against the exact velocity and, for K-DMD, also with Eq. 6 against the few-step teacher at the same x_t. This is
    Eq. 10 without the feature loss.
    """
    generator = torch.Generator().manual_seed(3000 + seed)
    student, critic = copy.deepcopy(student), copy.deepcopy(student)
    student_optimizer = torch.optim.Adam(student.parameters(), STUDENT_LEARNING_RATE, betas=(0.0, 0.99))
    critic_optimizer = torch.optim.Adam(critic.parameters(), LEARNING_RATE, betas=(0.0, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(student_optimizer, max(1, iterations // STUDENT_EVERY))
    times = uniform_times(steps, SHIFT)
    for iteration in range(1, iterations + 1):
        step = int(torch.randint(steps, (), generator=generator))
        x_t, time = euler_rollout(student, draw_noise(BATCH, generator), times, step)
        prediction = student(x_t, time)
        data = data_from_velocity(x_t, time, prediction)
        if iteration % STUDENT_EVERY == 0:
            tau = shift_time(MIN_TAU + (MAX_TAU - MIN_TAU) * torch.rand(BATCH, generator=generator), SHIFT)
            loss, _ = distribution_matching_loss(data, draw_noise(BATCH, generator), tau, exact_velocity, critic)
            if few_step is not None:
                loss = loss + output_loss(prediction, few_step(x_t, time)).mean()
            student_optimizer.zero_grad()
            torch.autograd.backward(loss)
            student_optimizer.step()
            schedule.step()
        critic_optimizer.zero_grad()
        torch.autograd.backward(flow_loss(critic, data.detach(), draw_noise(BATCH, generator), generator))
        critic_optimizer.step()
    return student


@torch.no_grad()
def generate(network: Velocity, steps: int, seed: int = 10) -> Tensor:
    """Sample ``COUNT`` points with ``steps`` Euler steps."""
    return euler(network, draw_noise(COUNT, torch.Generator().manual_seed(seed)), uniform_times(steps, SHIFT))


def energy_distance(a: Tensor, b: Tensor) -> float:
    """Compute 2 E|A - B| - E|A - A'| - E|B - B'| (Székely and Rizzo 2013) for two sets of points (N, 2) and (M, 2)."""

    def mean_distance(p: Tensor, q: Tensor) -> float:
        return torch.cdist(p, q, compute_mode="donot_use_mm_for_euclid_dist").mean().item()

    return 2 * mean_distance(a, b) - mean_distance(a, a) - mean_distance(b, b)


def true_samples(seed: int = 11) -> Tensor:
    """Draw ``COUNT`` true samples."""
    return draw_data(COUNT, torch.Generator().manual_seed(seed))


def distance(network: Velocity, steps: int) -> float:
    """Compute the energy distance between a network's samples and true samples."""
    return energy_distance(generate(network, steps), true_samples())


def compare(seed: int, iterations: int = ITERATIONS) -> list[dict[str, Any]]:
    """Return the samples, energy distance, and training time (s) of each method for each number of steps."""
    pretrained = pretrain(seed, min(iterations, FLOW_ITERATIONS))
    few_step = {"flow map": flow_map, "straightened": straightened_teacher(seed, min(iterations, 2 * FLOW_ITERATIONS))}
    rows: list[dict[str, Any]] = []
    for steps in STEPS:
        for method in METHODS:
            kind, _, teacher = method.partition(", ")
            start_time = clock.perf_counter()
            network: Velocity
            if kind == "start":
                network = pretrained
            elif kind == "teacher":
                network = few_step[teacher]
            else:
                network = distill(pretrained, steps, few_step[teacher] if teacher else None, seed, iterations)
            seconds = clock.perf_counter() - start_time
            samples = generate(network, steps)
            figures = {"distance": energy_distance(samples, true_samples()), "seconds": seconds}
            rows.append({"seed": seed, "steps": steps, "method": method, **figures, "samples": samples})
    return rows


def plot(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Plot one seed's samples in a row of panels per number of steps, with true samples in gray behind them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    true = true_samples()
    shown = list(TITLES)
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
        axes[f"{STEPS[0]} {method}"].set_title(TITLES[method], fontsize=11)
    for steps in STEPS:
        axes[f"{steps} {shown[0]}"].set_ylabel(f"{steps} step{'s' * (steps > 1)}", fontsize=11)
    figure.suptitle("Step distillation on 2D data: samples and their energy distance from true samples", fontsize=13)
    figure.tight_layout()
    figure.savefig(out, dpi=90)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--out", type=Path, metavar="PNG", help="also write a plot of the first seed's samples")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="number of seeds (default: %(default)s)")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)  # networks of this size do not benefit from more threads
    print_machine()
    rows = [row for seed in range(args.seeds) for row in compare(seed, *[2 * STUDENT_EVERY] * args.quick)]

    cells = []
    for steps in STEPS:
        for method in METHODS:
            matching = [row for row in rows if (row["steps"], row["method"]) == (steps, method)]
            seconds = sum(row["seconds"] for row in matching) / len(matching)
            distances = " ".join(f"{row['distance']:.4f}" for row in matching)
            cells.append([method, steps, distances, f"{seconds:.0f} s" if "DMD" in method else ""])
    floor = energy_distance(true_samples(), true_samples(12))
    print(table(["network", "steps", "energy distance per seed", "distillation time"], cells), end="\n\n")
    print(f"floor (two sets of true samples): {floor:.4f}")
    if args.out is not None:
        plot([row for row in rows if row["seed"] == 0], args.out)
        print(f"plot: {args.out}")
    numbers = [{name: value for name, value in row.items() if name != "samples"} for row in rows]
    write_result({"benchmark": "distribution_matching", "rows": numbers, "floor": floor}, args.json)


if __name__ == "__main__":
    main()
