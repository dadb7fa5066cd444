"""The shards of global minibatches, one for each process."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data import Sampler

from sfnn_pyro.distributed.process_group import ProcessGroup


class SharedBatches(Sampler[list[int]]):
    r"""A ``batch_sampler`` that gives every rank its part of each *global* minibatch.

    The parts of a minibatch of B rows have :math:`\lceil B/N \rceil` or :math:`\lfloor B/N
    \rfloor` of them, together each row once: what one process would have seen. PyTorch's
    ``DistributedSampler`` gives every rank equally many, by repeating rows or leaving some out.

    Arguments:
        batches: the global minibatches, the same on every rank, such as a ``BatchSampler`` over a
            ``RandomSampler`` with a generator that every rank seeds alike.
        group: the processes; those of PyTorch's default process group unless given.

    Raises:
        ValueError: on iteration, a minibatch has fewer rows than there are ranks.

    Example:
        >>> from torch.utils.data import BatchSampler
        >>> batches = BatchSampler(range(8), batch_size=5, drop_last=False)
        >>> [list(SharedBatches(batches, ProcessGroup(rank, 2))) for rank in range(2)]
        [[[0, 2, 4], [5, 7]], [[1, 3], [6]]]
    """

    def __init__(self, batches: Iterable[Sequence[int]], group: ProcessGroup | None = None) -> None:
        self.batches = batches
        self.group = ProcessGroup.current() if group is None else group

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.batches:
            own = self.group.share(list(rows))
            if len(rows) < self.group.size:
                raise ValueError(
                    f"a minibatch of {len(rows)} cannot be divided over {self.group.size} ranks: "
                    "give larger minibatches, or leave the last one out (drop_last)"
                )
            yield own

    def __len__(self) -> int:
        batches: Any = self.batches
        return len(batches)
