"""A stand-in GPU for machines without one: tensors that say `cuda:0`, compute on the CPU, and follow the rules of a CUDA device.

It raises for operators on tensors of two devices, counts kernel launches, synchronisations and copies, follows the memory that is alive,
and runs out of memory where a test asks for it. Numbers are those of a CPU; speed is not simulated. It works in a process of its own,
because it must be loaded before PyTorch and replaces what `torch.cuda` answers: see `tests/gpu/plugin.py`.
"""
