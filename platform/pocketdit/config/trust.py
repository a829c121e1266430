"""Checks that the classes in a configuration are trusted before they are imported, because an import runs code.

A configuration may be downloaded, and a run folder may come from another person. Both may only name classes of this
project, the library classes listed below, and classes of the modules that the user lists in ``pocketdit.toml``.
"""

from pocketdit.config.errors import did_you_mean_or_all, nearest
from pocketdit.config.optimizers import TESTED, require_working
from pocketdit.config.project import FILE_NAME, read_project
from pocketdit.errors import ConfigError

OUR_PACKAGES = ("pocketdit", "datamodules", "evaluation", "sweeps")
OPTIMIZERS = (
    "ASGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
    "SGD",
)
LIBRARY_CLASSES = frozenset(
    {f"torch.optim.{name}" for name in OPTIMIZERS} | {support.class_path for support in TESTED if support.package}
)


def require_trusted(class_path: str) -> None:
    """Check that a configuration may name a class.

    Raises:
        ConfigError: The class is known not to work, or it is not trusted. In the latter case, the message explains how
            to trust it.
    """
    if class_path in LIBRARY_CLASSES:
        return
    require_working(class_path)  # must come first, because it would not help to trust a class that does not work
    if "__main__" in class_path.split("."):
        raise ConfigError(f"{class_path} is not trusted, because importing __main__ runs a program")
    top = class_path.partition(".")[0]
    modules = read_project().modules
    if top in OUR_PACKAGES or any(class_path.startswith(f"{module}.") for module in modules):
        return
    if class_path.startswith("torch.optim.") or (top == "torch" and class_path.endswith(OPTIMIZERS)):
        raise ConfigError(f"{class_path} is not trusted{did_you_mean_or_all(class_path, sorted(LIBRARY_CLASSES))}")
    if top == "torch":
        raise ConfigError(f"{class_path} is not trusted; the only trusted classes of torch are its optimizers")
    near = nearest(top, (*OUR_PACKAGES, *modules))
    hint = f"did you mean {class_path.replace(top, near, 1)!r}? Otherwise, " if near else ""
    raise ConfigError(
        f"{class_path} is not trusted; {hint}"
        f'to allow YAML files to run its code, add "{top}" to modules under [trust] in {FILE_NAME}'
    )


def require_trusted_class(cls: type, class_path: str) -> None:
    """Check that the class at ``class_path`` is defined in trusted code, rather than imported from another module.

    Raises:
        ConfigError: The class is defined in a module that is not trusted.
    """
    if class_path not in LIBRARY_CLASSES:
        require_trusted(f"{cls.__module__}.{cls.__name__}")
