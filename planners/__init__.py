"""Plan networks for a dataset: fingerprint, planning rules, planning report, and the command that plans and preprocesses."""

from typing import TYPE_CHECKING

from configs.named_parts import import_on_use

if TYPE_CHECKING:
    from planners.options import PlanningOptions
    from planners.plan import make_plan
    from planners.rules.memory import training_bytes
    from planners.run import plan_and_preprocess

__all__ = ["PlanningOptions", "make_plan", "plan_and_preprocess", "training_bytes"]

__getattr__ = import_on_use(
    __name__,
    {
        "PlanningOptions": "planners.options",
        "make_plan": "planners.plan",
        "plan_and_preprocess": "planners.run",
        "training_bytes": "planners.rules.memory",
    },
)
