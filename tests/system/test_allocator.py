import ctypes
import types

import pytest

from sfnn_pyro.system.allocator import keep_pages


@pytest.mark.parametrize(("answers", "taken"), [((1, 1, 1), True), ((1, 0, 1), False)])
def test_every_setting_must_be_accepted(answers, taken, monkeypatch):
    asked, given = {}, iter(answers)

    def mallopt(name, value):
        asked[name] = value
        return next(given)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: types.SimpleNamespace(mallopt=mallopt))
    assert keep_pages(2**20) is taken
    # M_MMAP_THRESHOLD at the 32 MiB that glibc allows at most, M_TRIM_THRESHOLD, M_TOP_PAD
    assert {-3: 2**25, -1: 2**20}.items() <= asked.items()
    assert not taken or asked == {-3: 2**25, -1: 2**20, -2: 2**26}


def test_a_library_without_the_setting(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_pages() is False


def test_no_library_to_ask(monkeypatch):
    def missing(name):
        raise OSError("no C library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert keep_pages() is False
