"""The processes that compute together: the only place that communicates with the others."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from sfnn_pyro.system.devices import check_device
from sfnn_pyro.training import TrainingError

# DistributedDataParallel keeps gloo's threads alive until the process ends. A thread that still
# holds the context of the last backward pass needs the GIL to release it, which aborts a process
# that has begun to end (PyTorch's issue 190489). So the main thread sleeps for these seconds.
_RELEASE_SECONDS = 0.2


class LostContact(TrainingError):
    """Another process ended or cannot be reached; the training resumes from its checkpoint."""


@dataclass(frozen=True)
class ProcessGroup:
    """PyTorch's default process group, as one of its processes sees it.

    In a group of one (the default) every method is the identity, so that code reads the same for
    one process and for many. All but ``share`` and ``seed`` are collective: every rank must call
    them, in the same order.

    Arguments:
        rank: number of this process, from 0.
        size: number of processes.

    Example:
        >>> ProcessGroup().sum([1.0, 2.0]), ProcessGroup(1, 2).share(range(4))
        ([1.0, 2.0], range(1, 4, 2))
    """

    rank: int = 0
    size: int = 1

    @staticmethod
    def current() -> "ProcessGroup":
        """The process in PyTorch's default process group; alone if there is none.

        Example:
            >>> ProcessGroup.current()
            ProcessGroup(rank=0, size=1)
        """
        if not (dist.is_available() and dist.is_initialized()):
            return ProcessGroup()
        return ProcessGroup(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def share(self, rows: Any) -> Any:
        """The shard of this rank: every ``size``-th of the rows, from the ``rank``-th."""
        return rows[self.rank :: self.size]

    def seed(self, seed: int, *key: int) -> int:
        """A seed of this rank's own random stream, by NumPy's ``SeedSequence``.

        Arguments:
            seed: seed of the whole training.
            key: further numbers, for a stream that differs from the first.

        Example:
            >>> ProcessGroup(0, 2).seed(7) == ProcessGroup(1, 2).seed(7)
            False
        """
        sequence = np.random.SeedSequence(seed, spawn_key=(self.rank, *key))
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sum over the ranks of each value, in float64."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def max(self, values: Sequence[float]) -> list[float]:
        """The largest over the ranks of each value."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def all_gather(self, values: Tensor) -> Tensor:
        """``(size * m, ...)``, the ranks' tensors ``(m, ...)`` of one shape, in their order."""
        if self.is_alone:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    def gather_objects(self, value: Any) -> list[Any]:
        """Every rank's value, in their order; for small values that are rarely needed."""
        if self.is_alone:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """The value of rank 0; those of the other ranks are ignored."""
        if self.is_alone:
            return value
        box = [value if self.is_first else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Turns the tensors into their sums over the ranks, in place, by one message."""
        if self.is_alone or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def _reduced(self, values: Sequence[float], operation: Any) -> list[float]:
        if self.is_alone:
            return list(values)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        numbers = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(numbers, operation)
        return numbers.tolist()


def launched() -> bool:
    """Whether ``torchrun`` started this process.

    Example:
        >>> launched()
        False
    """
    return dist.is_available() and dist.is_torchelastic_launched()


def own_device(device: str) -> str:
    """The device of this process: with ``"cuda"`` under ``torchrun``, each has a GPU of its own.

    Raises:
        ValueError: there is no such device.

    Example:
        >>> own_device("cpu")
        'cpu'
    """
    check_device(device)
    if torch.device(device).type == "cuda":
        if launched():
            device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    return device


TIMEOUT_MINUTES = 5.0
"""Longer than any rank keeps the others waiting: while it loads data or writes a checkpoint."""
MAX_TIMEOUT_MINUTES = 10_000.0


@contextmanager
def joined(timeout_minutes: float = TIMEOUT_MINUTES) -> Iterator[ProcessGroup]:
    """The process group that ``torchrun`` started, or a group of one, while the block lasts.

    Tensors on a GPU travel by NCCL, everything else by gloo.

    Arguments:
        timeout_minutes: minutes without an answer after which another process counts as lost. A
            host that is switched off or cut off says nothing: only this ends the wait for it.

    Raises:
        LostContact: another process ended, or does not answer.
        ValueError: ``timeout_minutes`` is not above 0, or above ``MAX_TIMEOUT_MINUTES``.

    Example:
        >>> with joined() as group:
        ...     group.is_alone
        True
    """
    if not 0 < timeout_minutes <= MAX_TIMEOUT_MINUTES:
        raise ValueError(
            f"timeout_minutes={timeout_minutes}: must be above 0 and at most "
            f"{MAX_TIMEOUT_MINUTES:.0f}"
        )
    if not launched():
        yield ProcessGroup()
        return
    timeout = timedelta(minutes=timeout_minutes)
    nccl = torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if nccl else "gloo"
    store, rank, size = _rendezvous()
    dist.init_process_group(backend, timeout=timeout, world_size=size, rank=rank, store=store)
    try:
        yield ProcessGroup.current()
    except RuntimeError as error:
        if not _of_connection(error):
            raise
        first = str(error).partition("\n")[0].partition(". ")[0]
        raise LostContact(
            f"lost contact with another rank, which may say why ({first}); resume from the last "
            "checkpoint by the same command, or let torchrun do so: --max-restarts"
        ) from error
    finally:
        dist.destroy_process_group()
        time.sleep(_RELEASE_SECONDS)


def _rendezvous() -> tuple[dist.Store, int, int]:
    """A store that holds no address from before a restart, this rank, and the number of ranks.

    ``torchrun`` keeps one store over its restarts: a rank that is faster than another would take
    the address of that one's predecessor, and wait for it (PyTorch's issue 135712). On one node
    the restarts are counted alike for all ranks; on several PyTorch has a switch.
    """
    several = int(os.environ["GROUP_WORLD_SIZE"]) > 1
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if several and kept and int(os.environ["TORCHELASTIC_MAX_RESTARTS"]):
        raise ValueError(
            "restarts on several nodes need TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the "
            "environment of torchrun, or its ranks may not meet again; set it, or give "
            "--max-restarts 0"
        )
    store, rank, size = next(iter(dist.rendezvous("env://")))
    start = 0 if several else int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    return dist.PrefixStore(f"start-{start}", store), rank, size


def _of_connection(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error)
