"""Names of nnU-Net's trainers that leave the planned network and its use in prediction as they are."""

import re

from configs.errors import Fault

# What the names of the trainers of nnU-Net 2.0 to 2.8 say: length, mirroring, augmentation, optimiser, loss, sampling.
_WORDS = (
    r"_?\d+epochs?", r"_?\d+ep", r"_?NoMirroring", r"_?onlyMirror01", r"Benchmark_5epochs", r"_noDataLoading",
    r"_?DA5", r"_?DASegOrd0", r"ord0", r"Segord0", r"NoDA", r"_noDummy2DDA", r"_warmup", r"CosAnneal",
    r"Vanilla", r"Adam", r"Adan", r"\d+en\d+", r"DiceLoss", r"DiceCELoss_noSmooth", r"DiceTopK10Loss", r"Topk10Loss", r"LS01",
    r"CELoss", r"NoDeepSupervision", r"_probabilisticOversampling", r"_0\d+", r"_Trainer_BS8",
)  # fmt: skip
_KNOWN = re.compile(rf"nnUNet(Trainer)?({'|'.join(_WORDS)})*")


def trainer_fault(where: str, trainer: str) -> Fault | None:
    """Return a fault where a trainer may have changed the network, or what prediction does with it."""
    if _KNOWN.fullmatch(trainer):
        return None
    problem = f"the trainer `{trainer}` is not one that is known to leave nnU-Net's planned network as it is"
    remedy = "If you know that it changes neither the network nor the preparation of images, add --trust-trainer"
    return Fault(where, problem, remedy)
