"""Whole volumes while training: the Dice of a few validation cases, predicted as quickly as whole volumes can be."""

from collections.abc import Sequence

import torch
from torch import nn

from configs.plan import Plan
from inference import Predictor
from inference.model import Model
from inference.options import PredictionOptions
from inference.scores import score_case, summarise
from preprocessing.store import CaseStore
from trainers.previous_stage import PreviousStage
from trainers.validation import predict_case


def chosen_cases(identifiers: Sequence[str], number: int) -> list[str]:
    """So many cases, evenly spread over the sorted identifiers."""
    cases = sorted(identifiers)
    number = min(number, len(cases))
    return [cases[index * len(cases) // number] for index in range(number)]


class VolumeCheck:
    """Mean foreground Dice of whole volumes on their original grids, without mirroring and scales.

    Args:
        network: as it is when this is called.
        plan: of one configuration with this network.
        store: the prepared cases.
        cases: to predict.
        device: of the network.
        previous: segmentations of the first network of a cascade.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        store: CaseStore,
        cases: Sequence[str],
        device: torch.device,
        previous: PreviousStage | None = None,
    ):
        self._previous = previous
        options = PredictionOptions(mirror=False, scales=(1.0,))
        self._predictor = Predictor(Model(plan, {"training": network}), device, options)
        self._network = network
        self._store = store
        self._cases = cases

    def __call__(self) -> float:
        """NaN where no label occurs in the cases."""
        self._network.eval()
        scores = {}
        for identifier in self._cases:
            labels, reference, spacing = predict_case(self._predictor, self._store.read(identifier), self._previous)
            scores[identifier] = score_case(labels, reference, self._predictor.description, spacing)
        mean = summarise(scores).mean_foreground_dice
        return float("nan") if mean is None else mean
