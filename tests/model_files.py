"""Files of models taken apart and written again with a valid checksum."""

import json

from sfnn_pyro.runs.saved_run import GUIDE_PREFIX
from sfnn_pyro.system.weight_files import read_weights, write_weights


def read_model_file(path):
    """The parts of a model's file: ``config``, ``provenance``, ``state`` and ``guide``."""
    tensors, metadata = read_weights(path, "model")
    parts = {name: json.loads(text) for name, text in metadata.items()}
    for name, value in tensors.items():
        part = "guide" if name.startswith(GUIDE_PREFIX) else "state"
        parts.setdefault(part, {})[name.removeprefix(GUIDE_PREFIX)] = value
    return parts


def write_model_file(path, parts):
    """Writes what ``read_model_file`` reads.

    Raises TypeError, AttributeError or ValueError for parts that such a file cannot hold.
    """
    tensors = dict(parts.get("state", {}))
    tensors |= {GUIDE_PREFIX + name: value for name, value in parts.get("guide", {}).items()}
    texts = {
        name: json.dumps(value) for name, value in parts.items() if name not in ("state", "guide")
    }
    write_weights(path, "model", tensors, texts)
