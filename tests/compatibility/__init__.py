"""Pyro's own tests and examples, run with our estimators in the place of its losses.

Nothing of Pyro's repository is part of this one: a person who has a checkout of it runs
``python -m tests.compatibility --checkout DIR``. What was seen is in ``docs/compatibility.md``.
"""
