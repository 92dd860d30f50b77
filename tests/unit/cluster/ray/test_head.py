"""A Ray cluster of others: whose token, whose settings, which node is one of theirs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.ray.daemons import (
    HEAD_VARIABLE,
    RAY_SETTINGS,
    guest_environment,
    instance,
    others_raylet,
    runtime_folder,
    users_token,
)
from terry.cluster.ray.head import adopt_head, key_of


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[WorkspacePaths]:
    found = WorkspacePaths(tmp_path)
    yield found
    shutil.rmtree(runtime_folder(found))


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_token_is_found_as_ray_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert users_token() == "", "unless Ray is told to use one"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(UserError, match=r"the token cannot be read: .*\.ray/auth_token.*RAY_AUTH_TOKEN_PATH"):
        users_token()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("at-home\n")
    assert users_token() == "at-home"
    (tmp_path / "other").write_text("elsewhere")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "other"))
    assert users_token() == "elsewhere"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "said")
    assert users_token() == "said"


def test_a_guest_has_the_token_in_a_private_file_and_keeps_to_the_settings_of_others(workspace: WorkspacePaths) -> None:
    found = guest_environment(workspace, "secret")
    path = Path(found["RAY_AUTH_TOKEN_PATH"])
    assert (found["RAY_AUTH_MODE"], path.read_text(), path.stat().st_mode & 0o777) == ("token", "secret", 0o600)
    assert "secret" not in found.values()
    theirs = {name for name in RAY_SETTINGS if "health_check" in name or "keepalive" in name or "gcs_rpc" in name}
    assert theirs
    assert not theirs & found.keys()
    assert guest_environment(workspace, "")["RAY_AUTH_MODE"] == "disabled"


def test_a_head_that_was_silent_is_the_same_one_again(workspace: WorkspacePaths) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        first = adopt_head(workspace, address)
        assert adopt_head(workspace, address, before=first).incarnation == first.incarnation, (
            "machines that have joined stay"
        )
        assert adopt_head(workspace, address).incarnation != first.incarnation
        key = key_of(workspace, first)
    assert (key.foreign, key.token, key.address) == (True, "", address)
    with pytest.raises(RuntimeError, match="nobody answers"):
        adopt_head(workspace, address)


@pytest.mark.parametrize("is_ours", [False, True])
def test_a_node_of_theirs_is_known_by_its_raylet(workspace: WorkspacePaths, tmp_path: Path, is_ours: bool) -> None:
    """One that we have started ourselves does not count."""
    program = tmp_path / "raylet"
    shutil.copy(shutil.which("bash") or "/bin/bash", program)
    command = [str(program), "-c", "read", "raylet", "--gcs-address=127.0.0.1:9"]
    env = {**os.environ, **({HEAD_VARIABLE: instance(workspace)} if is_ours else {})}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=env) as raylet:
        assert others_raylet(workspace, "localhost:9") is not is_ours
        assert not others_raylet(workspace, "127.0.0.1:10"), "of another cluster"
        raylet.communicate()
    assert not others_raylet(workspace, "127.0.0.1:9")
