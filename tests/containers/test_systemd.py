"""The unit file under a real systemd, installed by the commands at its top.

systemd is the first process of a privileged container of Debian 13. It gets a cgroup v2 tree without controllers, so
`MemoryMax` and `TasksMax` are read and not tried.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import AUTHORITIES, Engine
from proxies import wait_until

from .conftest import WITH_ROOT, secrets_of

pytestmark = [pytest.mark.slow, WITH_ROOT]

MACHINE = (
    "FROM debian:13.2-slim\n"
    "RUN apt-get update && apt-get install --yes --no-install-recommends systemd-sysv dbus python3-venv\n"
)
# Credentials are mounts that have to spread, as they do on a machine, and cgroups of version 2 the only ones.
BOOT = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && mount --make-rshared / && exec /sbin/init"
SLUG = "secure-mcp-server"


@pytest.fixture(scope="module")
def machine(podman: Engine, project: Path) -> Iterator[str]:
    """A machine on which the unit is installed and enabled; return its name."""
    image = "localhost/machine:1"
    podman("build", "--pull-never", "--tag", image, "--file", "-", project, input=MACHINE, seconds=300)
    options = ("--privileged", "--systemd=always", "--cgroupns=private", "--volume", f"{project}:/src:ro")
    name = podman("run", "--detach", *options, "--env", f"PIP_CERT={AUTHORITIES}", image, "sh", "-c", BOOT)
    try:
        wait_until(lambda: podman.run("exec", name, "systemctl", "is-system-running").stdout.strip() in STARTED)
        unit = (project / "deploy/systemd/mcp-server.service").read_text(encoding="utf-8")
        (commands,) = re.findall(r"(?ms)^#   install .*?enable --now \S+$", unit)
        lines = re.sub(r"(?m)^#   ", "", commands).replace(
            "systemctl daemon-reload", f"{SETTINGS}\nsystemctl daemon-reload"
        )
        podman("exec", name, "sh", "-ec", f"cp -r /src /tmp/src && cd /tmp/src\n{lines}", seconds=300)
        yield name
    finally:
        podman("rm", "--force", "--time", "0", "--volumes", name)


STARTED = {"running", "degraded"}  # the kernel has no modules to load here, which degrades a container
SETTINGS = f"echo PUBLIC_URL=https://mcp.example.com > /etc/{SLUG}/settings.env"
READY = (
    "import http.client; asked = http.client.HTTPConnection('127.0.0.1', 8080); asked.request('GET', '/readyz');"
    "raise SystemExit(asked.getresponse().status != 200)"
)


def shown(podman: Engine, machine: str, name: str) -> str:
    return podman("exec", machine, "systemctl", "show", "--property", name, "--value", SLUG)


def test_unit_serves_with_its_key_as_a_credential(podman: Engine, machine: str, project: Path) -> None:
    wait_until(lambda: podman.run("exec", machine, "python3", "-c", READY).returncode == 0)
    assert shown(podman, machine, "ActiveState") == "active"
    key = podman("exec", machine, "cat", f"/run/credentials/{SLUG}.service/api_key")
    assert key.startswith("mcp_")
    log = podman("exec", machine, "journalctl", "--unit", SLUG, "--no-pager")
    environment = podman("exec", machine, "cat", f"/proc/{shown(podman, machine, 'MainPID')}/environ")
    for text in (log, environment, json.dumps(podman.inspect(machine))):
        assert key not in text
        assert not [name for name, value in secrets_of(project).items() if value in text]


def test_service_is_no_root_and_has_no_capability(podman: Engine, machine: str) -> None:
    text = podman("exec", machine, "cat", f"/proc/{shown(podman, machine, 'MainPID')}/status")
    status = dict(re.findall(r"(\w+):\s+(.*)", text))
    assert int(status["Uid"].split()[0]) > 60000, "a user that exists while the service runs"
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_systemd_analyze_security_calls_the_running_unit_ok(
    podman: Engine, machine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = podman("exec", machine, "systemd-analyze", "security", "--no-pager", SLUG).splitlines()[-1]
    with capsys.disabled():
        print(f"\n{said}")  # noqa: T201
    (level,) = re.findall(r"level for \S+: ([\d.]+)", said)
    assert float(level) < 1.5


def test_killed_service_comes_back_and_stopped_one_ends_with_0(podman: Engine, machine: str) -> None:
    before = shown(podman, machine, "MainPID")
    podman("exec", machine, "systemctl", "kill", "--signal", "KILL", SLUG)
    wait_until(lambda: shown(podman, machine, "MainPID") not in {before, "0"})
    wait_until(lambda: podman.run("exec", machine, "python3", "-c", READY).returncode == 0)
    podman("exec", machine, "systemctl", "stop", SLUG)
    assert (shown(podman, machine, "Result"), shown(podman, machine, "ExecMainStatus")) == ("success", "0")


def test_unusable_settings_are_not_tried_again(podman: Engine, machine: str) -> None:
    podman("exec", machine, "sh", "-c", f"echo HOST=0.0.0.0 >> /etc/{SLUG}/settings.env; echo > /etc/{SLUG}/api_key")
    podman.run("exec", machine, "systemctl", "restart", SLUG)
    wait_until(lambda: shown(podman, machine, "ActiveState") == "failed")
    assert (shown(podman, machine, "ExecMainStatus"), shown(podman, machine, "NRestarts")) == ("78", "0")
