"""Two processes that compute together: forked from one that has imported the package."""

import io
import multiprocessing
import traceback

import pyro
import torch
import torch.distributed as dist

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["sfnn_pyro.cli", "tests.distributed.world"])


def on_ranks(function, *arguments, size=2, store=None):
    """What ``function(*arguments)`` returns on each of the ranks, which meet in a file."""
    channels, processes = [], []
    for rank in range(size):
        here, there = _CONTEXT.Pipe()
        process = _CONTEXT.Process(
            target=_main, args=(there, rank, size, str(store), function, arguments)
        )
        process.start()
        there.close()
        channels.append(here)
        processes.append(process)
    try:
        answers = [torch.load(io.BytesIO(channel.recv_bytes())) for channel in channels]
    finally:
        for process in processes:
            process.join(10)
            if process.is_alive():
                process.kill()
                process.join()
    errors = [error for error, _ in answers if error]
    assert not errors, "\n".join(errors)
    return [value for _, value in answers]


def _main(channel, rank, size, store, function, arguments):
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    try:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
        answer = None, function(*arguments)
    except Exception:
        answer = f"rank {rank}: {traceback.format_exc()}", None
    buffer = io.BytesIO()
    torch.save(answer, buffer)
    try:
        channel.send_bytes(buffer.getvalue())
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
