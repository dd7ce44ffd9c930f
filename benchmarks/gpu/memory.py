"""Memory of a real GPU: the peak of a training step against the plan, and predictions that survive when it runs out."""

import torch

from benchmarks.gpu.agreement import segment
from benchmarks.gpu.setting import BATCH, DESCRIPTION, EDGES, FAMILIES, Result, Setting, SkippedError
from inference.device import in_precision, is_out_of_memory
from inference.engine.capacity import Capacity
from planners.rules.memory import training_bytes
from planners.rules.networks.skeleton import SIZES
from se_unet.builder import build_network
from trainers.optimisation.loss import make_loss

WORKSPACE = 1.25  # libraries take memory for themselves, which no count sees


def peaks(setting: Setting) -> Result:
    """Measure the peak of a training step for each size and precision."""
    if setting.device.type != "cuda":
        raise SkippedError("only CUDA tells its peak memory")
    result = Result()
    for size in SIZES if setting.is_real else SIZES[:1]:
        edge = EDGES[size] if setting.is_real else setting.edge
        for family in FAMILIES:
            config = setting.config(family, size, edge)
            planned = training_bytes(config, (edge,) * 3, BATCH)
            network, loss = build_network(config).to(setting.device).train(), make_loss(DESCRIPTION, False).to(setting.device)
            image = torch.randn(BATCH, 1, edge, edge, edge).to(setting.device)
            labels = torch.zeros(BATCH, edge, edge, edge, dtype=torch.int16).to(setting.device)
            states = sum(one.numel() * one.element_size() for one in network.parameters())
            for name, dtype in (("bf16", torch.bfloat16), ("float32", None)):
                torch.cuda.reset_peak_memory_stats(setting.device)
                with in_precision(setting.device, dtype):
                    scores = network(image)
                loss(scores, labels).backward()
                del scores
                network.zero_grad(set_to_none=True)
                peak = torch.cuda.max_memory_allocated(setting.device) + states
                result.figures.append(
                    {"network": f"{size} {family}", "precision": name, "peak_gib": peak / 2**30, "planned_gib": planned / 2**30}
                )
                result.check(f"{size} {family}, {name}: peak in GiB", peak / 2**30, WORKSPACE * planned / 2**30)
            del network, loss, image, labels
            torch.cuda.empty_cache()
    return result


def running_out(setting: Setting) -> Result:
    """Fill the GPU but for a little, and predict: fewer tiles at a time, volumes in host memory, the same labels."""
    if setting.device.type != "cuda" or not setting.is_real:
        raise SkippedError("only a real GPU runs out of memory here; the tests provoke it on the stand-in")
    result, edge = Result(), setting.edge
    image = torch.randn(1, edge, 2 * edge, 2 * edge)
    for family in FAMILIES:
        network = setting.network(family)
        expected = segment(network, image, edge, setting.device)
        for left in (2.0, 1.0):
            torch.cuda.empty_cache()
            free, _ = torch.cuda.mem_get_info(setting.device)
            ballast = torch.empty(max(0, free - int(left * 2**30)), dtype=torch.uint8, device=setting.device)
            capacity = Capacity.of(setting.device, tile_batch=64)
            try:
                labels = segment(network, image, edge, setting.device, capacity)
                result.check(
                    f"{family}, {left:g} GiB left: share of other labels", float((labels != expected).float().mean()), 0.001
                )
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                result.figures.append({"network": family, "left_gib": left, "message": str(error)})
            result.figures.append(
                {"network": family, "left_gib": left, "tiles": capacity.tile_batch, "host": capacity.volumes_on_host}
            )
            del ballast
    return result
