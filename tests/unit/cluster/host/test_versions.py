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
