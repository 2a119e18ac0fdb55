"""Encoded cases within a budget: the one used longest ago goes first."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from brats_clip.errors import InputError
from brats_clip.interactive.cache import CaseCache


def case(nbytes: int = 10) -> SimpleNamespace:
    return SimpleNamespace(nbytes=nbytes)


def filled(budget: int, *keys: str) -> CaseCache:
    cache = CaseCache(budget)
    for key in keys:
        cache.put(key, case())
    return cache


def kept(cache: CaseCache, keys: str) -> str:
    return "".join(key for key in keys if cache.get(key) is not None)


def test_what_fits_stays_and_is_the_same_object():
    cache, one = CaseCache(20), case()
    cache.put("a", one)
    cache.put("b", case())
    assert cache.get("a") is one and len(cache) == 2 and cache.nbytes == 20
    assert cache.get("c") is None


def test_the_one_used_longest_ago_goes_first():
    assert kept(filled(20, "a", "b", "c"), "abc") == "bc"
    cache = filled(20, "a", "b")
    cache.get("a")
    cache.put("c", case())
    assert kept(cache, "abc") == "ac"


def test_several_go_for_a_large_one():
    cache = filled(40, "a", "b", "c", "d")
    cache.put("e", case(25))
    assert kept(cache, "abcde") == "de" and cache.nbytes <= 40


@pytest.mark.parametrize("budget", [0, 5])
def test_the_last_one_stays_however_large(budget):
    assert kept(filled(budget, "a", "b"), "ab") == "b"


def test_a_case_that_grew_makes_room_when_trimmed():
    cache, growing = filled(30, "a", "b"), case()
    cache.put("c", growing)
    growing.nbytes = 20
    cache.trim()
    assert kept(cache, "abc") == "bc" and cache.nbytes == 30


def test_a_dropped_case_is_gone_and_dropping_nothing_is_no_error():
    cache = filled(30, "a", "b")
    cache.drop("a")
    cache.drop("x")
    assert kept(cache, "ab") == "b" and cache.nbytes == 10


def test_a_negative_budget_is_an_error():
    with pytest.raises(InputError, match="cache_bytes: found -1"):
        CaseCache(-1)


def test_many_threads_leave_no_more_than_the_budget():
    cache, errors = CaseCache(35), []

    def work(name: str) -> None:
        try:
            for i in range(200):
                cache.put(f"{name}{i % 5}", case())
                cache.get(f"{name}{i % 3}")
                assert cache.nbytes >= 0
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and cache.nbytes <= 35
