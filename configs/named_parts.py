"""Import by names: a user's own classes and functions such as `package.module:Class`, and public names of a package on their first use."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from configs.errors import Fault, InputError

PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


def import_part(name: str, what: str) -> Any:
    """Import the class or function `package.module:Class`, which messages call `what`.

    This runs the code of its module, so call it only with names that the user gave.

    Raises:
        InputError: the module does not exist, fails when it is imported, or does not have this name.
    """
    module_name, _, attribute = name.partition(":")
    where = f"{what} `{name}`"
    try:
        module = import_module(module_name)
    except ImportError as error:
        remedy = f"Install {module_name.split('.')[0]}, or add its folder to PYTHONPATH"
        raise InputError(Fault(where, f"the module cannot be imported ({error})", remedy)) from error
    except Exception as error:
        problem = f"the module fails when it is imported ({type(error).__name__}: {error})"
        raise InputError(Fault(where, problem, "Fix the module")) from error
    if not hasattr(module, attribute):
        names = ", ".join(sorted(name for name in vars(module) if not name.startswith("_"))[:10])
        raise InputError(Fault(where, f"{module_name} has no `{attribute}`", f"It has {names}"))
    return getattr(module, attribute)


def import_on_use(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package, which imports a public name on its first use from the module that defines it.

    Commands thus answer `--help` without numpy and torch.
    """

    def import_name(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return import_name
