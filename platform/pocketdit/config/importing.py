"""Import the classes that a configuration names."""

import importlib
import pkgutil
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Any

from pocketdit.config.errors import did_you_mean, nearest
from pocketdit.config.optimizers import support_of
from pocketdit.config.trust import require_trusted, require_trusted_class
from pocketdit.errors import ConfigError


def import_class(class_path: str) -> Any:
    """Import a class that a configuration names. All such imports in this project use this function.

    Raises:
        ConfigError: The class does not exist or is not trusted, or its module cannot be imported.
    """
    require_module(class_path)
    module_name, _, name = class_path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        cls = getattr(module, name, None)
    except SyntaxError as error:
        raise ConfigError(f"{error.filename}:{error.lineno}: {error.msg}") from error
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{class_path}: cannot be imported: {error}") from error
    if not isinstance(cls, type):
        classes = [other for other, value in vars(module).items() if isinstance(value, type)]
        raise ConfigError(f"{module_name} has no class {name!r}{did_you_mean(name, classes)}")
    require_trusted_class(cls, class_path)
    return cls


def require_module(class_path: str) -> None:
    """Check that the module of a class exists, without running any code of its package.

    Raises:
        ConfigError: The path is malformed, the class is not trusted, or the module does not exist. The message suggests
            the nearest module.
    """
    *parts, class_name = class_path.split(".")
    if not parts or not all(part.isidentifier() for part in (*parts, class_name)):
        raise ConfigError(f"{class_path!r} is not of the form 'package.module.Class'")
    require_trusted(class_path)
    if ".".join(parts) in sys.modules:
        return
    folders = None
    for depth, part in enumerate(parts):
        package, name = ".".join(parts[:depth]), ".".join(parts[: depth + 1])
        if package and folders is None:
            raise ConfigError(f"{package} is a module, not a package, so it does not contain a module {part!r}")
        spec = PathFinder.find_spec(name, folders) if package else find_spec(name)
        if spec is None:
            near = nearest(part, [module.name for module in pkgutil.iter_modules(folders)])
            suggestion = ".".join([*parts[:depth], near or "", *parts[depth + 1 :], class_name])
            if (support := support_of(class_path)) is not None:
                raise ConfigError(f"{support.package} is not installed; run: pip install {support.package}")
            raise ConfigError(f"no module {name!r}" + (f"; did you mean {suggestion!r}?" if near else ""))
        folders = spec.submodule_search_locations
