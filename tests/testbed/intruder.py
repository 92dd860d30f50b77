"""Run on a host of a bed: try everything that Ray's ports offer, as nobody, without the cluster's token.

usage: python intruder.py PORTS.json FILE...     ({"10.77.0.2": [6379, ...]}; files that must not be readable)

Prints JSON: for each port what came of each way of asking, by method of each of Ray's services. An empty request is
sent to every method there is, without a token and with a wrong one. TOKEN in the environment: one
harmless question with that, as a control.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from ray.core.generated import (
    core_worker_pb2,
    gcs_service_pb2,
    node_manager_pb2,
    ray_client_pb2,
    reporter_pb2,
)

_TIMEOUT_S = 5.0
_MODULES = (gcs_service_pb2, node_manager_pb2, core_worker_pb2, ray_client_pb2, reporter_pb2)
#: What Ray's own processes send with each call: every method is asked in its usual form.
_NODE_ID = ("node_id", "ab" * 28)
#: Ray ships no description of these.
_OTHERS = (
    "/ray.rpc.ObjectManagerService/Push",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.ObjectManagerService/FreeObjects",
    "/ray.rpc.syncer.RaySyncer/StartSync",
    "/ray.rpc.RuntimeEnvGcsService/PinRuntimeEnvURI",
    "/grpc.health.v1.Health/Check",
)
_HTTP = ("/get_or_create_runtime_env", "/delete_runtime_env_if_possible", "/get_runtime_envs_info", "/api/jobs/", "/")


def methods() -> Iterator[str]:
    """Every method of every service."""
    for module in _MODULES:
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from (f"/{service.full_name}/{method.name}" for method in service.methods)
    yield from _OTHERS


def asked(channel: grpc.Channel, method: str, token: str | None) -> str:
    """What came of an empty request: a gRPC status."""
    metadata = [_NODE_ID, *([("authorization", f"Bearer {token}")] if token else [])]
    try:
        channel.stream_stream(method)(iter([b""]), timeout=_TIMEOUT_S, metadata=metadata).next()
    except grpc.RpcError as error:
        return str(error.code().name)
    except StopIteration:
        return "OK"
    return "OK"


def over_http(host: str, port: int, path: str, token: str | None) -> str:
    """What came of a POST: its status."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request("POST", path, body=b"", headers=headers)
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def everything(host: str, port: int, token: str | None) -> dict[str, str]:
    """What came of all that can be asked. Never with the right token: then it would be done."""
    found = {path: over_http(host, port, path, token) for path in _HTTP}
    with grpc.insecure_channel(f"{host}:{port}") as channel, contextlib.suppress(grpc.FutureTimeoutError):
        grpc.channel_ready_future(channel).result(timeout=2.0)
        found |= {method: asked(channel, method, token) for method in methods()}
    return found


def main() -> None:
    """Become nobody, then try."""
    ports: dict[str, list[int]] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    token = os.environ.get("TOKEN")
    if token is None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    found: dict[str, Any] = {"readable": [name for name in sys.argv[2:] if _readable(name)]}
    places = [(host, port) for host, listed in ports.items() for port in listed]
    for kind, given in [] if token else [("none", None), ("wrong", "a" * 64)]:
        found[kind] = {f"{host}:{port}": everything(host, port, given) for host, port in places}
    if token:
        with grpc.insecure_channel(f"{places[0][0]}:{places[0][1]}") as channel:
            found["control"] = asked(channel, "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo", token)
    json.dump(found, sys.stdout)


def _readable(name: str) -> bool:
    try:
        with open(name, "rb"):  # noqa: PTH123
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
