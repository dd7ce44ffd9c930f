"""Data to decisions: fingerprint, plan, and the command that plans and preprocesses."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planners.run import plan_and_preprocess

__all__ = ["plan_and_preprocess"]


def __getattr__(name: str) -> Any:
    """Import `plan_and_preprocess` when it is first used: the command answers `--help` without numpy and torch."""
    if name == "plan_and_preprocess":
        from importlib import import_module

        return import_module("planners.run").plan_and_preprocess
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
