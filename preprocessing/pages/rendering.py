"""Jinja environment of the HTML pages."""

import base64
import hashlib

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def page_environment(package: str) -> Environment:
    """Return an environment of the package's folder `templates`, then the shared templates of this package. All text is escaped."""
    loader = ChoiceLoader([PackageLoader(package), PackageLoader("preprocessing.pages")])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def script_source(script: Markup) -> str:
    """Return the Content-Security-Policy source that allows only this inline script."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
