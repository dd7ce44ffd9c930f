"""Jinja environment of the HTML pages."""

import base64
import hashlib

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def page_environment(package: str) -> Environment:
    """Return an environment of `package`'s templates, then the shared `base.html.j2` and `macros.html.j2`. All text is escaped.

    Args:
        package: dotted name of a package with a folder `templates`, such as `planners.report`.
    """
    loader = ChoiceLoader([PackageLoader(package), PackageLoader("preprocessing.pages")])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def script_source(script: Markup) -> str:
    """Return the Content-Security-Policy source that allows only this inline script."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
