"""The only way out: a proxy that knows the hosts, beside compose.yaml and in Kubernetes.

`tests/containers/test_egress.py` brings the one of compose.yaml up. No cluster runs here: the manifests are read.
"""

from __future__ import annotations

import functools
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml
from baking import bake
from manifests import Manifest, build, find
from proxies import free_port, listens, needs, running, wait_until
from test_deployment_files import follow_kubernetes, kubernetes_faults

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the programs are installed on Linux only")

ANSWERS: dict[str, dict[str, Any]] = {
    "memory": {},
    "redis and oauth": {"rate_limit": "redis", "auth": "oauth"},
}


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Makes the project of a deployment and of answers, once. Read-only."""

    @functools.cache
    def make(deployment: str, answers: str) -> Path:
        return bake(tmp_path_factory.mktemp("egress"), deployment=deployment, examples="full", **ANSWERS[answers])

    return make


@pytest.fixture(scope="module", params=ANSWERS)
def project(request: pytest.FixtureRequest, baked: Callable[[str, str], Path]) -> Path:
    """A project for Kubernetes."""
    return baked("kubernetes", request.param)


def public_rules(policy: Manifest) -> list[Manifest]:
    """Return the rules of a policy that open addresses outside of the cluster."""
    return [rule for rule in policy["spec"]["egress"] if any("ipBlock" in to for to in rule["to"])]


def egress_faults(made: list[Manifest]) -> list[str]:
    """What `kubernetes_faults` says, and what would let the server leave by another way."""
    (slug,) = (one["metadata"]["name"] for one in made if one["kind"] == "Namespace")
    server, proxy = find(made, "NetworkPolicy", slug), find(made, "NetworkPolicy", "egress")
    name = {"matchLabels": {"app.kubernetes.io/name": "egress"}}
    said = kubernetes_faults(made)
    if public_rules(server):
        said.append("the server reaches public addresses")
    if {"to": [{"podSelector": name}], "ports": [{"port": 8888}]} not in server["spec"]["egress"]:
        said.append("the server does not reach the proxy")
    if (
        proxy["spec"]["podSelector"] != name
        or find(made, "Service", "egress")["spec"]["selector"] != name["matchLabels"]
    ):
        said.append("the policy is not the proxy's")
    senders = [sender for rule in proxy["spec"]["ingress"] for sender in rule["from"]]
    if senders != [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": slug}}}]:
        said.append("others may use the proxy")
    if [rule["ports"] for rule in public_rules(proxy)] != [[{"port": 443}]]:
        said.append("the proxy reaches other ports")
    return said


def test_only_the_proxy_leaves_the_cluster(project: Path) -> None:
    made = build(project / "deploy/egress")
    assert egress_faults(made) == []
    settings = find(made, "ConfigMap", "secure-mcp-server")["data"]
    ways = {name: value for name, value in settings.items() if value == "http://egress:8888"}
    assert set(ways) == {"EGRESS_PROXY"} | ({"OAUTH_PROXY"} if "AUTH_MODE" in settings else set())
    assert find(made, "ConfigMap", "egress")["data"]["allowed-hosts"] == "example.com\n"


def test_the_proxy_may_reach_what_the_server_may_reach_without_it(project: Path) -> None:
    without = find(build(project / "deploy/kubernetes/production"), "NetworkPolicy", "secure-mcp-server")
    proxy = find(build(project / "deploy/egress"), "NetworkPolicy", "egress")
    assert public_rules(proxy) == public_rules(without) != []


NAMES_THE_PROXY = "  podSelector:\n    matchLabels:\n      app.kubernetes.io/name: "
REPLACES = "replace\n        path: /spec/egress/"

MISTAKES = {
    "still-open": ("kustomization.yaml", f"{REPLACES}2", f"{REPLACES}0"),
    "another-target": ("kustomization.yaml", "name: egress\n          ports", "name: valkey\n          ports"),
    "latest": ("kustomization.yaml", "newTag: 0.1.0", "newTag: latest"),
    "everybody": ("proxy.yaml", "    - from:\n        - podSelector:", "    - from:\n        - namespaceSelector:"),
    "another-policy": ("proxy.yaml", f"{NAMES_THE_PROXY}egress", f"{NAMES_THE_PROXY}other"),
    "any-port": ("proxy.yaml", "        - port: 443", "        - port: 80"),
    "metadata": ("proxy.yaml", "              - 169.254.0.0/16\n", ""),
    "root": ("proxy.yaml", "runAsUser: 10001", "runAsUser: 0"),
    "token": ("proxy.yaml", "      automountServiceAccountToken: false\n", ""),
    "writable": ("proxy.yaml", "            readOnlyRootFilesystem: true\n", ""),
}


@pytest.mark.parametrize(("name", "old", "new"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found(name: str, old: str, new: str, baked: Callable[[str, str], Path], tmp_path: Path) -> None:
    copied = shutil.copytree(baked("kubernetes", "redis and oauth") / "deploy", tmp_path / "deploy")
    file = copied / "egress" / name
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    assert egress_faults(build(copied / "egress")) != []


def test_a_patch_of_another_rule_does_not_fit(baked: Callable[[str, str], Path], tmp_path: Path) -> None:
    copied = shutil.copytree(baked("kubernetes", "memory") / "deploy", tmp_path / "deploy")
    file = copied / "egress/kustomization.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("/spec/egress/1", "/spec/egress/0"), encoding="utf-8")
    with pytest.raises(ValueError, match="is not there"):
        build(copied / "egress")


def test_every_file_is_used(project: Path) -> None:
    directory = project / "deploy/egress"
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text(encoding="utf-8"))
    used = {*kustomization["resources"], *kustomization["configMapGenerator"][1]["files"], "Dockerfile"}
    assert used - {"../kubernetes/production"} == {path.name for path in directory.iterdir()} - {"kustomization.yaml"}


@linux_only
@pytest.mark.parametrize("older", [0, 2], ids=["newest", "two-before"])
def test_the_schemas_of_kubernetes_accept_it(older: int, project: Path, tmp_path: Path) -> None:
    follow_kubernetes(build(project / "deploy/egress"), older, tmp_path)


# --- the proxy itself -------------------------------------------------------------------------------------------------


@contextmanager
def tinyproxy(directory: Path, place: Path, *, hosts: str, allowed_port: int) -> Iterator[int]:
    """Run tinyproxy with a project's settings, on a free port, for hosts and a port of this machine."""
    port = free_port()
    (place / "allowed-hosts").write_text(hosts, encoding="utf-8")
    text = (directory / "tinyproxy.conf").read_text(encoding="utf-8")
    for old, new in {
        "Port 8888": f"Port {port}\nListen 127.0.0.1",
        "Allow 172.31.250.0/24": "Allow 127.0.0.0/8",
        "ConnectPort 443": f"ConnectPort {allowed_port}",
        "/etc/tinyproxy/": f"{place}/",
    }.items():
        assert old in text or old.startswith("Allow")
        text = text.replace(old, new)
    (place / "tinyproxy.conf").write_text(text, encoding="utf-8")
    with running(["tinyproxy", "-d", "-c", str(place / "tinyproxy.conf")], place, {}):
        wait_until(lambda: listens(port))
        yield port


def asked(port: int, host: str, target: int) -> str:
    """Ask for a tunnel, and return what comes out of it, or the refusal."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.set_tunnel(host, target)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except OSError as error:
        return str(error)
    finally:
        connection.close()


@linux_only
@pytest.mark.parametrize("deployment", ["docker", "kubernetes"])
def test_the_proxy_knows_the_hosts_and_one_port(
    deployment: str, baked: Callable[[str, str], Path], tmp_path: Path
) -> None:
    needs("tinyproxy", package="tinyproxy-bin")
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as other:
        target = listener.getsockname()[1]

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(65_536)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        directory = baked(deployment, "memory") / "deploy/egress"
        with tinyproxy(directory, tmp_path, hosts="localhost\n", allowed_port=target) as port:
            assert asked(port, "localhost", target) == "hello"
            assert "403" in asked(port, "localhost", other.getsockname()[1])
            for host in ("127.0.0.1", "not-localhost", "localhost.example.com", "sub.localhost"):
                assert "403" in asked(port, host, target), host
