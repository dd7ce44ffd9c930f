"""Import a user's own classes and functions by names such as `package.module:Class`."""

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
