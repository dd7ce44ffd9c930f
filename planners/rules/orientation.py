"""Choose the orientation of images inside the software, so that thick slices keep their detail."""

from collections.abc import Mapping, Sequence

import numpy as np

from configs.errors import counted
from configs.fingerprint import CaseFingerprint, Directions, Fingerprint
from configs.plan import AxisOrder, Orientation, SliceFrame
from planners.decision import Decision
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.orientation import allowed_turns, as_directions, find_turn, thick_axis, turned_directions

_PATIENT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))  # right, anterior, superior
_MOST_CANDIDATES = 100  # cases among which the reference is sought
_CLEARLY = 0.8  # cosine of the angle to a direction of the patient up to which an axis is taken for it
_THICK = SliceFrame(reference=_PATIENT).thick


def choose_orientation(cases: Mapping[str, CaseFingerprint]) -> Decision[Orientation]:
    """Choose canonical orientation, or a slice frame where most cases have thick slices that run across different axes.

    In canonical orientation, in which the cases are measured, the axis across oblique slices, such as those of cardiac short-axis series,
    is Z in one case and X in the next. Resampled to one spacing, each would lose its detail within slices.
    """
    across = {name: thick_axis(case.spacing, _THICK) for name, case in cases.items()}
    thick = sorted(name for name, axis in across.items() if axis is not None)
    counts = {"ZYX"[axis]: list(across.values()).count(axis) for axis in range(3) if axis in across.values()}
    seen = " and ".join(f"{axis} in {counted(number, 'case')}" for axis, number in counts.items())
    if not thick:
        return Decision("canonical", "Images are turned to RAS, because no case has thick slices.")
    if len(counts) == 1:
        return Decision("canonical", f"Images are turned to RAS: thick slices run across the same axis ({seen}).")
    if 2 * len(thick) < len(cases):
        few = f"only {len(thick)} of {counted(len(cases), 'case')} have thick slices ({seen})"
        return Decision("canonical", f"Images are turned to RAS, because {few}.")
    reason = (
        f"Images are turned so that Z runs across thick slices. In the orientation RAS they would run across {seen}, and resampling to one "
        "spacing would destroy detail within slices."
    )
    return Decision(SliceFrame(reference=_most_central([cases[name] for name in thick])), reason)


def turn_cases(fingerprint: Fingerprint, orientation: Orientation) -> Fingerprint:
    """Return a fingerprint that was measured in canonical orientation as measured in the orientation of a plan."""
    if not isinstance(orientation, SliceFrame):
        return fingerprint
    return fingerprint.model_copy(update={"cases": {name: _turn(case, orientation) for name, case in fingerprint.cases.items()}})


PatientAxes = tuple[int | None, int | None, int | None]


def patient_axes(orientation: Orientation, cases: Mapping[str, CaseFingerprint]) -> PatientAxes:
    """Return the axes of (Z, Y, X) that run left-right, front-back and head-foot; None for one that is unknown, oblique or not the same in
    all cases.

    The cases are measured in the given orientation of the plan.
    """
    if isinstance(orientation, AxisOrder) and orientation.of == "canonical":
        return orientation.axes.index(2), orientation.axes.index(1), orientation.axes.index(0)
    if isinstance(orientation, SliceFrame):
        return _along(0, cases), _along(1, cases), _along(2, cases)
    return (2, 1, 0) if orientation == "canonical" else (None, None, None)


def _along(direction: int, cases: Mapping[str, CaseFingerprint]) -> int | None:
    """Return the axis of (Z, Y, X) that runs in a direction of the patient, or None."""
    cosines = np.abs([np.array(case.directions)[::-1, direction] for case in cases.values()])  # of the axes Z, Y, X
    axis = int(cosines.mean(axis=0).argmax())
    return axis if (cosines[:, axis] > _CLEARLY).all() else None


def _turn(case: CaseFingerprint, frame: SliceFrame) -> CaseFingerprint:
    geometry = _geometry(case)
    turn = find_turn(geometry, frame)
    permuted = {name: tuple(getattr(case, name)[axis] for axis in turn.axes) for name in ("spacing", "shape", "shape_after_crop")}
    return case.model_copy(update=permuted | {"directions": as_directions(turned_directions(geometry, turn))})


def _geometry(case: CaseFingerprint) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = np.array(case.directions).T * case.spacing[::-1]
    return Geometry.from_affine(case.shape, affine)


def _most_central(cases: Sequence[CaseFingerprint]) -> Directions:
    """Return the directions of the case that all others come nearest to when they are turned towards it."""
    geometries = [_geometry(case) for case in cases]
    step = -(-len(cases) // _MOST_CANDIDATES)
    upright = SliceFrame(reference=_PATIENT)
    candidates = [turned_directions(one, find_turn(one, upright)) for one in geometries[::step]]
    turned = np.array([[turned_directions(one, turn).ravel() for turn in allowed_turns(one, _THICK)] for one in geometries])
    cosines = (turned @ np.array([one.ravel() for one in candidates]).T).max(axis=1).sum(axis=0)  # one for each candidate
    return as_directions(candidates[int(cosines.round(6).argmax())])
