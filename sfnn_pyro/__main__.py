"""``python -m sfnn_pyro``, the same as ``sfnn``."""

from sfnn_pyro.cli import main

if __name__ == "__main__":
    main()
