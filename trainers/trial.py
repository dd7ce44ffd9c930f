"""Try a user's own classes on one batch of random numbers, before cases are read and anything is written."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from configs.dataset import possible_classes
from configs.named_parts import import_part
from inference.model import make_network
from inference.trial import check_finite, check_scores, explained, raise_wrong, random_images, try_network
from trainers.augmentation.planned import make_augmentation
from trainers.augmentation.spatial import SpatialDraw
from trainers.job import Job
from trainers.loop import Trainer
from trainers.optimisation.checkpoint import random_states, restore_random_states
from trainers.optimisation.distributed import share_of
from trainers.optimisation.loss import make_loss
from trainers.optimisation.precision import Precision
from trainers.optimisation.step import explained_memory

_DRAWS = 8  # of a spatial transform, which may be the identity at random


def try_parts(job: Job) -> None:
    """Try the classes that the settings name; without any, nothing is done.

    The network takes a batch of the planned size forward and backward, and an image as in prediction; the loss takes the network's scores,
    and the augmentation an image. A user's own trainer with steps of its own trains as it likes. The states of random generators are
    restored.

    Raises:
        InputError: a class cannot be imported or made, fails, or returns what is not expected.
        DeviceMemoryError: the device has too little memory for a batch.
    """
    config = job.config
    with _restored_random_states():
        takes_our_steps = config.trainer_class is None or _takes_our_steps(import_part(config.trainer_class, "trainer class"))
        if config.augmentation_class is not None:
            _try_augmentation(job, f"augmentation class `{config.augmentation_class}`")
        if config.network_class is not None or config.loss_class is not None:
            with explained_memory():
                _try_step(job) if takes_our_steps else _try_network_alone(job)


@contextmanager
def _restored_random_states() -> Iterator[None]:
    before = random_states()
    try:
        yield
    finally:
        restore_random_states(before)


def _takes_our_steps(trainer: object) -> bool:
    """Return whether a user's own trainer leaves the training step as it is; otherwise network and loss may agree on anything."""
    is_ours = isinstance(trainer, type) and issubclass(trainer, Trainer)
    return is_ours and all(getattr(trainer, name) is getattr(Trainer, name) for name in ("_train", "_step"))


def _try_network_alone(job: Job) -> None:
    """Give a user's own network an image as in prediction."""
    if job.config.network_class is None:
        return
    where = f"network class `{job.config.network_class}`"
    with explained(where, "to be made"):
        network = make_network(job.plan.network, job.config.network_class).to(job.device)
    try_network(network, job.plan, where)


def _try_augmentation(job: Job, where: str) -> None:
    planned, channels = job.plan.network, len(job.plan.dataset.channels)
    image, random = np.zeros((1, channels, *planned.patch_size), np.float32), np.random.default_rng(0)
    random.standard_normal(out=image, dtype=np.float32)
    with explained(where, "to be made"):
        augmentation = make_augmentation(planned, job.plan.configuration.normalisation, job.config)
    with explained(where, f"in draw_spatial or change_intensity with an image {image.shape}"):
        draws = [augmentation.draw_spatial(random) for _ in range(_DRAWS)]
        changed = augmentation.change_intensity(image.copy(), random)
    wrong = next((draw for draw in draws if not isinstance(draw, SpatialDraw)), None)
    if wrong is not None:
        raise_wrong(where, f"draw_spatial returns a {type(wrong).__name__}", "a trainers.SpatialDraw")
    if not isinstance(changed, np.ndarray) or changed.shape != image.shape or changed.dtype != image.dtype:
        given = f"{changed.dtype} {changed.shape}" if isinstance(changed, np.ndarray) else type(changed).__name__
        raise_wrong(where, f"change_intensity returns {given}", f"an array float32 {image.shape} (1, channels, Z, Y, X)")
    if not np.isfinite(changed).all():
        raise_wrong(where, "change_intensity makes values that are not finite", "finite numbers")


def _try_step(job: Job) -> None:
    """Take a training step but the optimiser's, and blame a class only if it is the user's."""
    config, plan = job.config, job.plan
    of_network = None if config.network_class is None else f"network class `{config.network_class}`"
    of_loss = None if config.loss_class is None else f"loss class `{config.loss_class}`"
    batch = max(1, len(share_of(plan.network.batch_size)) // config.accumulate)
    images = random_images(plan, batch, job.device)
    labels = _random_labels(job, batch)
    with _blamed(of_network, "to be made"):
        network = make_network(plan.network, config.network_class).to(job.device).train()
    with _blamed(of_loss, "to be made"):
        loss = make_loss(plan.dataset, plan.network.batch_dice, config).to(job.device)
    with (
        _blamed(of_network, f"in training on images {tuple(images.shape)}"),
        Precision(job.device, config.mixed_precision).context(),
    ):
        scores = network(images)
    if of_network is not None and of_loss is None:
        finest = scores[0] if isinstance(scores, list | tuple) and scores else scores
        check_scores(of_network, finest, plan, batch)
    with _blamed(of_loss or of_network, f"on the network's scores and labels {tuple(labels.shape)}"):
        value = loss(scores, labels)
    _check_loss(of_loss or of_network or "", value)
    with _blamed(of_loss or of_network, "when gradients are computed"):
        value.backward()
    _check_gradients(of_network or of_loss or "", network)
    if of_network is not None:
        try_network(network, plan, of_network)


def _random_labels(job: Job, batch: int) -> Tensor:
    """Return class indices (batch, Z, Y, X) int16, with ignored voxels if the dataset has some."""
    description, random = job.plan.dataset, np.random.default_rng(0)
    indices = [*range(len(description.values)), *([] if description.ignore_index is None else [description.ignore_index])]
    indices += possible_classes(description)
    drawn = random.choice(np.array(indices, np.int16), (batch, *job.plan.network.patch_size))
    return torch.from_numpy(drawn).to(job.device)


def _blamed(where: str | None, what: str) -> AbstractContextManager[None]:
    return nullcontext() if where is None else explained(where, what)


def _check_loss(where: str, value: object) -> None:
    if not isinstance(value, Tensor) or value.ndim:
        given = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise_wrong(where, f"the loss is {given}", "a scalar tensor")
    if not value.requires_grad:
        raise_wrong(where, "the loss does not depend on the network's parameters", "a loss with gradients")
    check_finite(where, "losses", [value.detach()])


def _check_gradients(where: str, network: nn.Module) -> None:
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if not gradients:
        raise_wrong(where, "no parameter of the network gets a gradient", "gradients")
    check_finite(where, "gradients", gradients)
