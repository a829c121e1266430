"""Draws the data flow of a K-DMD iteration."""

from matplotlib.figure import Figure

from docs.drawings.experiments import DISTILL, Data, experiment
from docs.drawings.shapes import GREEN, GREY, ORANGE, arrow, box, canvas, label, legend
from pocketdit.diffusion.samplers import uniform_times


def k_dmd_data() -> Data:
    """Return the settings of the paper's step distillation that ``draw_k_dmd`` shows."""
    settings = experiment(DISTILL).stage.init_args
    times = uniform_times(int(settings["steps"]), float(settings["time_shift"]))
    return {
        "times": [round(time, 4) for time in times],
        **{key: settings[key] for key in ("guidance", "rank", "student_every")},
    }


def draw_k_dmd(data: Data) -> Figure:
    """Draw the data flow of a K-DMD iteration."""
    figure, axes = canvas(5.2, 7.3)
    left, right, wide = 14.5, 40.0, 18.0
    times = ", ".join(f"{time:g}" for time in data["times"][:-1])
    lora = f"LoRA, rank {data['rank']}"
    box(axes, 26, 4.4, 46, 5.4, f"Roll-out of the student from noise, no gradient,\nto one of its times: {times}", GREY)
    box(axes, 26, 12.2, 7, 3.8, "$x_t$", GREY, size=13)
    box(axes, left, 20.4, wide, 6, f"Student $\\theta$\n{lora}", GREEN)
    box(axes, right, 20.4, wide, 6, "Few-step teacher $\\xi'$\nits LoRA on", GREY)
    box(axes, right, 31.6, wide, 6, "$\\mathcal{L}_{out}+\\mathcal{L}_{feat}$\nEq. 6 and 7", ORANGE)
    box(axes, left, 31.6, wide, 4.2, "$\\hat{x}_0 = x_t - t\\,v_\\theta$", GREY, size=13)
    box(axes, left, 40.4, wide, 3.8, "add noise at time $\\tau$", GREY)
    box(axes, 9.0, 49.2, 13, 6.2, f"Teacher $\\xi$\nguidance {data['guidance']:g}", GREY)
    box(axes, 24.0, 49.2, 14, 6.2, f"Critic $c$\n{lora}", GREEN)
    box(axes, left, 60.0, wide, 6, "$\\mathcal{L}_{DMD}$, Eq. 9\ncritic − teacher", ORANGE)
    box(axes, 42.0, 49.2, 15, 6.2, "Flow matching\nEq. 4", ORANGE)
    for x, start, end in (
        *((26, 7.1, 10.3), (right, 23.4, 28.6), (left, 23.4, 29.5), (left, 33.7, 38.5)),
        *((9.5, 42.3, 46.1), (20, 42.3, 46.1), (9.5, 52.3, 57), (20, 52.3, 57)),
    ):
        arrow(axes, (x, start), (x, end))
    arrow(axes, (31, 49.2), (34.5, 49.2))
    for x in (left, right):
        arrow(axes, (26 + (3.5 if x > 26 else -3.5), 12.2), (x, 12.2), (x, 17.4))
    arrow(axes, (left + wide / 2, 20.4), (27.2, 20.4), (27.2, 31.6), (right - wide / 2, 31.6))
    label(axes, 28.0, 26.0, "$v_\\theta$, features", 11.5, ha="left")
    arrow(axes, (left, 36.3), (42, 36.3), (42, 46.1), linestyle="--")
    label(axes, 33, 38.3, "no gradient", 11.5)
    legend(axes, 29, 57.6, GREEN, "trained")
    legend(axes, 29, 61.2, GREY, "frozen, or no weights")
    legend(axes, 29, 64.8, ORANGE, "loss")
    label(axes, 26, 70.2, f"Critic: every iteration. Student: every {data['student_every']}th.", 11.5)
    return figure
