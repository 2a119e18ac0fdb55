"""Encoded cases are kept within a memory budget; the least recently used is evicted first."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from brats_clip.cases import Volume
from brats_clip.errors import CaseError, InputError
from brats_clip.interactive.cache import CaseCache
from brats_clip.interactive.known_case import KnownCase


def case(nbytes: int = 10) -> SimpleNamespace:
    return SimpleNamespace(nbytes=nbytes)


def filled(budget: int, *keys: str) -> CaseCache:
    cache = CaseCache(budget)
    for key in keys:
        cache.put(key, case())
    return cache


def kept(cache: CaseCache, keys: str) -> str:
    return "".join(key for key in keys if cache.get(key) is not None)


def given(nbytes: int = 10) -> KnownCase:
    """Return a case whose image was given in memory, or as a file if ``nbytes`` is 0."""
    source = Volume(np.zeros(nbytes, np.uint8), np.eye(4), "t1") if nbytes else "/data/t1.nii.gz"
    return KnownCase("p1", {"t1": source}, {"t1": ("t1",)} if nbytes else {"t1": ("/data/t1.nii.gz",)})


def in_memory(cache: CaseCache, keys: str) -> str:
    """Return those of ``keys`` whose sources are still kept; asking does not count as use."""
    return "".join(key for key in keys if cache._known[key].sources is not None)


def test_images_in_memory_are_counted_and_evicted_oldest_first():
    cache = CaseCache(25)
    for key in "abc":
        cache.remember(key, given())
    assert in_memory(cache, "abc") == "bc" and cache.nbytes == 20
    cache.known("b")
    cache.remember("d", given())
    assert in_memory(cache, "abcd") == "bd"


def test_encodings_are_evicted_before_images_in_memory():
    cache = filled(40, "a", "b")
    for key in "ab":
        cache.remember(key, given())
    assert cache.nbytes == 40
    cache.remember("c", given())
    assert kept(cache, "ab") == "b" and in_memory(cache, "abc") == "abc"


@pytest.mark.parametrize("budget", [0, 15])
def test_images_of_the_last_case_are_kept_and_files_are_not_counted(budget):
    cache = CaseCache(budget)
    cache.remember("a", given(0))
    cache.remember("b", given(20))
    assert in_memory(cache, "ab") == "ab"
    cache.remember("c", given(0))
    assert in_memory(cache, "abc") == "ac" and cache.nbytes == 0


def test_evicted_images_are_an_error_and_a_dropped_case_is_unknown():
    cache = CaseCache(0)
    cache.remember("a", given())
    assert cache.known("a").unchanged_sources()["t1"].path == "t1"
    cache.remember("b", given())
    with pytest.raises(CaseError, match=r"case p1: .*given in memory that had to go.*cache_bytes.*set_case again"):
        cache.known("a").unchanged_sources()
    cache.drop("a")
    assert cache.known("a") is None and cache.known("x") is None


def test_cached_case_is_returned_as_the_same_object():
    cache, one = CaseCache(20), case()
    cache.put("a", one)
    cache.put("b", case())
    assert cache.get("a") is one and len(cache) == 2 and cache.nbytes == 20
    assert cache.get("c") is None


def test_least_recently_used_case_is_evicted_first():
    assert kept(filled(20, "a", "b", "c"), "abc") == "bc"
    cache = filled(20, "a", "b")
    cache.get("a")
    cache.put("c", case())
    assert kept(cache, "abc") == "ac"


def test_large_case_evicts_several():
    cache = filled(40, "a", "b", "c", "d")
    cache.put("e", case(25))
    assert kept(cache, "abcde") == "de" and cache.nbytes <= 40


@pytest.mark.parametrize("budget", [0, 5])
def test_last_case_is_kept_however_large(budget):
    assert kept(filled(budget, "a", "b"), "ab") == "b"


def test_trim_evicts_after_a_case_has_grown():
    cache, growing = filled(30, "a", "b"), case()
    cache.put("c", growing)
    growing.nbytes = 20
    cache.trim()
    assert kept(cache, "abc") == "bc" and cache.nbytes == 30


def test_drop_removes_a_case_and_ignores_unknown_keys():
    cache = filled(30, "a", "b")
    cache.drop("a")
    cache.drop("x")
    assert kept(cache, "ab") == "b" and cache.nbytes == 10


@pytest.mark.parametrize("budget", [-1, "2GB", None, float("nan"), True])
def test_invalid_budget_is_an_error(budget):
    with pytest.raises(InputError, match=f"cache_bytes: found {budget!r}; expected a number of bytes"):
        CaseCache(budget)


def test_budget_holds_with_concurrent_threads():
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
