"""Whether a node's versions are those of the head."""

from __future__ import annotations

import platform

import pytest
import torch

from terry.cluster.host.versions import CHECKED, installed, lacks_cuda, mismatch

HEAD = {"python": "3.11.7", "terry-cluster": "0.1.0", "torch": "2.13.0+cu128", "ray": "2.60.0", "numpy": "2.3.1"}


def test_what_is_installed() -> None:
    here = installed()
    assert here["python"] == platform.python_version()
    assert here["torch"] == torch.__version__
    assert set(CHECKED) <= set(here)
    assert mismatch(here, here) == ""


@pytest.mark.parametrize("change", [{"torch": "2.13.0+cpu"}, {"python": "3.11.9"}, {"numpy": "1.0"}])
def test_builds_and_patches_may_differ(change: dict[str, str]) -> None:
    assert mismatch(HEAD, HEAD | change) == ""


def test_what_differs_is_named_with_what_to_do() -> None:
    assert mismatch(HEAD, HEAD | {"torch": "2.12.1", "ray": "2.59.0"}) == (
        "its versions are not those of the head: torch 2.12.1 instead of 2.13.0+cu128, ray 2.59.0 instead of 2.60.0; "
        "`pip install torch==2.13.0 ray==2.60.0` there, then `terry-cluster up`"
    )
    assert "torch missing instead of" in mismatch(HEAD, {k: v for k, v in HEAD.items() if k != "torch"})
    assert "make its environment anew" in mismatch(HEAD, HEAD | {"python": "3.12.1", "ray": "2.59.0"})


@pytest.mark.parametrize(
    ("torch_version", "words"),
    [("2.13.0+cpu", "built without CUDA"), ("", "not installed"), ("2.13.0", ""), ("2.13.0+cu128", "")],
)
def test_a_gpu_needs_a_torch_that_can_use_it(torch_version: str, words: str) -> None:
    said = lacks_cuda({"torch": torch_version} if torch_version else {})
    assert words in said
    assert bool(said) is bool(words)


NEWER = HEAD | {"terry-cluster": "0.2.0"}


def test_a_later_terry_put_over_a_running_one_stops_no_device() -> None:
    """`pip install` on the head's own machine, and then an agent that starts again."""
    assert mismatch(HEAD, NEWER, before=HEAD) == ""
    assert mismatch(NEWER, HEAD, before=NEWER) == ""


def test_another_torch_put_over_a_running_one_stops_it_and_says_what_renews_the_head() -> None:
    said = mismatch(HEAD, NEWER | {"torch": "2.14.0"}, before=HEAD)
    assert "terry-cluster is 0.2.0 now and was 0.1.0, torch is 2.14.0 now and was 2.13.0" in said
    assert "`terry-cluster down`, then `terry-cluster up`" in said
    assert "pip install" not in said


def test_nobody_is_told_to_go_back_where_the_head_is_the_older_one() -> None:
    said = mismatch(HEAD, NEWER)
    assert "the head is the older one" in said
    assert "pip install" not in said
    assert "pip install terry-cluster==0.2.0" in mismatch(NEWER, HEAD), "a node that was forgotten at an upgrade"
    assert "pip install" in mismatch(HEAD, NEWER | {"ray": "2.59.0"}), "not all of it is later"


@pytest.mark.parametrize(("here", "newer"), [("0.10.0", True), ("0.9.0", True), ("0.0.9", False)])
def test_versions_are_compared_as_numbers(here: str, newer: bool) -> None:
    said = mismatch(HEAD | {"terry-cluster": "0.2.0"}, HEAD | {"terry-cluster": here})
    assert ("the head is the older one" in said) is newer
