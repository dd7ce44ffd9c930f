"""Templates of pages: each package's own, on the base that all share."""

import base64
import hashlib

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def page_environment(package: str) -> Environment:
    """Templates in `package`'s folder `templates`, then those here: `base.html.j2` and `macros.html.j2`. All text is escaped.

    Args:
        package: dotted name, such as `planners.report`.
    """
    loader = ChoiceLoader([PackageLoader(package), PackageLoader("preprocessing.pages")])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def script_source(script: Markup) -> str:
    """The source of a Content-Security-Policy that lets this one inline script run and no other."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
