"""The devices that PyTorch may compute on here."""

import re

import torch


def check_device(device: str) -> str:
    """Refuses a device that is none, or is not there.

    Raises:
        ValueError: the message says which there are.

    Example:
        >>> check_device("cpu")
        'cpu'
        >>> check_device("meta")
        Traceback (most recent call last):
            ...
        ValueError: device='meta': give cpu or cuda
    """
    if device == "cpu":
        return device
    found = re.fullmatch(r"cuda(?::([0-9]{1,4}))?", device)
    if found is None:
        raise ValueError(f"device={device!r}: give cpu or cuda")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise ValueError(f"device={device!r}: PyTorch sees no GPU here; give cpu")
    if int(found[1] or 0) >= count:
        raise ValueError(f"device={device!r}: there are {count} GPUs here, from cuda:0; give cuda")
    return device
