"""A container engine for the tests: Debian's podman, and local stand-ins for the images that the files name.

No registry is needed. `mmdebstrap` makes one base of Debian 13 from Debian's packages, with Python 3.13, Valkey and
tinyproxy; uv and Caddy come from PyPI. `FROM` lines and `image:` find the stand-ins under the names of the real images.
What is slow to make is kept below `~/.cache/cookiecutter-secure-mcp`, keyed by what it is made of.

    with engine() as podman:
        podman("run", "--rm", image, "true")
"""

import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from proxies import program

DEBIAN = "podman runc netavark aardvark-dns iptables mmdebstrap"
INSTALL = f"apt-get install --no-install-recommends {DEBIAN}"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cookiecutter-secure-mcp"
RUN = Path("/run/cookiecutter-secure-mcp")
"""Short: with a long name, podman 4.3 waits 20 s for the end of every container."""
IN_BASE = ("python3", "ca-certificates", "valkey-server", "valkey-tools", "tinyproxy-bin")
LEFT_OUT = ("doc", "man", "locale", "info")
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Of this machine: packages may come through a proxy that has an authority of its own."""
PIP, UV = "pip==26.2.1", "uv==0.13.9"

# Tagged with the names in the files. Each says what the real image starts, and as which user.
STAND_INS = {
    "docker.io/library/python:3.13.15-slim-trixie": (
        "RUN ln -s /usr/bin/python3 /usr/local/bin/python && rm /usr/lib/python3*/EXTERNALLY-MANAGED\n"
        "COPY pip /usr/local/lib/python3.13/dist-packages/\n"
        "RUN rm -r /usr/local/lib/python3.13/dist-packages/bin\n"
        "ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\n"
        'CMD ["python3"]\n'
    ),
    "ghcr.io/astral-sh/uv:0.13.9": "COPY uv /uv\n",
    "docker.io/library/caddy:2.11.4-alpine": (
        "COPY caddy /usr/bin/caddy\n"
        "ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data\n"
        'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]\n'
    ),
    "docker.io/library/debian:13.2-slim": 'CMD ["bash"]\n',
    "docker.io/valkey/valkey:8.1.8-alpine": 'WORKDIR /data\nCMD ["valkey-server"]\n',
}


@dataclass(frozen=True)
class Engine:
    """podman with its own configuration and its own store, apart from what a person has on the machine."""

    environment: dict[str, str] = field(repr=False)

    def __call__(self, *words: str | Path, input: str | None = None, seconds: float = 120) -> str:  # noqa: A002
        """Run one command and return what it prints."""
        done = self.run(*words, input=input, seconds=seconds)
        assert done.returncode == 0, f"podman {' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr}"
        return done.stdout.strip()

    def run(
        self,
        *words: str | Path,
        input: str | None = None,  # noqa: A002
        seconds: float = 120,
    ) -> "subprocess.CompletedProcess[str]":
        """Run one command, whatever comes of it."""
        command = ["podman", *map(str, words)]
        return subprocess.run(
            command,
            env=self.environment,
            input=input,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=seconds,
        )

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what `podman inspect` shows of a container or an image."""
        found: dict[str, Any] = json.loads(self("inspect", name))[0]
        return found


@contextmanager
def engine() -> Iterator[Engine]:
    """Yield an engine that has all stand-ins. Only one process uses the store at a time."""
    if sys.platform != "linux":
        pytest.skip("containers are tested on Linux only")
    missing = [name for name in ("podman", "runc", "mmdebstrap") if shutil.which(name) is None]
    if missing:
        pytest.fail(f"{', '.join(missing)} not installed: {INSTALL}")
    if os.geteuid() != 0:
        pytest.fail("the containers of the tests get networks and limits, which need root: sudo")
    store = CACHE / "containers"
    store.mkdir(parents=True, exist_ok=True)
    with (store / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        podman = configured(store)
        for name in stand_ins(podman):
            podman("image", "exists", name)
        yield podman


def configured(store: Path) -> Engine:
    """Return an engine that can start a container here, with the storage driver that works.

    `runc` and `cgroupfs` because there may be no systemd; limits of its own because podman's defaults need a privilege
    (CAP_SYS_RESOURCE) that a container may not have.
    """
    said = []
    for driver in ("overlay", "vfs"):
        place = store / driver
        place.mkdir(exist_ok=True)
        (place / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
            f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{place}/networks"\n',
            encoding="utf-8",
        )
        (place / "storage.conf").write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{place}/store"\nrunroot = "{RUN / driver}"\n',
            encoding="utf-8",
        )
        (place / "registries.conf").write_text('unqualified-search-registries = ["docker.io"]\n', encoding="utf-8")
        files = {f"CONTAINERS_{kind.upper()}": str(place / f"{kind}.conf") for kind in ("storage", "registries")}
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            **{f"{name}_CONF": path for name, path in files.items()},
            "CONTAINERS_CONF": str(place / "containers.conf"),
            "BUILDAH_FORMAT": "docker",  # the OCI format has no HEALTHCHECK
        }
        podman = Engine(environment)
        if not (fault := cannot_start(podman)):
            return podman
        said.append(f"{driver}: {fault}")
    pytest.fail(f"podman is installed and cannot start a container on this machine ({'; '.join(said)})")
    raise AssertionError


def cannot_start(podman: Engine) -> str:
    """Start the smallest container, with the walls that the tests are about; return why it does not run, or ''."""
    name = "localhost/probe:1"
    if podman.run("image", "exists", name).returncode:
        with tempfile.TemporaryDirectory() as directory:
            shutil.copy("/sbin/ldconfig", f"{directory}/probe")  # the one program of Debian that needs no library
            subprocess.run(["tar", "-C", directory, "-cf", f"{directory}/probe.tar", "probe"], check=True)
            done = podman.run("import", f"{directory}/probe.tar", name)
            if done.returncode:
                return done.stderr.strip()
    walls = ("--read-only", "--cap-drop", "ALL", "--user", "10001:10001", "--memory", "64m", "--pids-limit", "16")
    done = podman.run("run", "--rm", *walls, name, "/probe", "--version")
    return "" if done.returncode == 0 else done.stderr.strip()


def stand_ins(podman: Engine) -> list[str]:
    """Make the stand-ins that are missing, and return their names."""
    base = debian(podman)
    with tempfile.TemporaryDirectory() as directory:
        context = Path(directory)
        for name, text in STAND_INS.items():
            start = f"FROM {'scratch' if name.startswith('ghcr') else base}\n"
            key = f"localhost/stand-in:{digest(start, text, PIP, UV)}"
            if podman.run("image", "exists", key).returncode:
                fill(context)
                podman("build", "--layers=false", "--tag", key, "--file", "-", context, input=start + text)
            podman("tag", key, name)
    return list(STAND_INS)


def debian(podman: Engine) -> str:
    """Return the name of the image of Debian 13 with the packages of `IN_BASE`."""
    options = [
        *("--variant=minbase", f"--include={','.join(IN_BASE)}"),
        *("--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"'),
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT),
    ]
    authorities = AUTHORITIES.read_bytes()
    name = f"localhost/debian:{digest(*options, authorities.hex())}"
    if podman.run("image", "exists", name).returncode == 0:
        return name
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory, "base.tar")
        (Path(directory) / AUTHORITIES.name).write_bytes(authorities)
        options.append(f"--customize-hook=copy-in {directory}/{AUTHORITIES.name} {AUTHORITIES.parent}")
        done = subprocess.run(
            ["mmdebstrap", *options, "trixie", base], capture_output=True, encoding="utf-8", check=False, timeout=600
        )
        assert done.returncode == 0, f"mmdebstrap made no base of Debian 13:\n{done.stderr[-2000:]}"
        podman("import", base, name, seconds=300)
    return name


def fill(context: Path) -> None:
    """Put what comes from PyPI into a directory: pip, uv and Caddy."""
    if (context / "pip").exists():
        return
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target"]
    subprocess.run([*pip, context / "pip", PIP], check=True)
    subprocess.run([*pip, context / "uv-package", UV], check=True)
    shutil.copy(context / "uv-package/bin/uv", context / "uv")
    shutil.copy(program("caddy"), context / "caddy")


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def wait_for(condition: "functools.partial[bool]", *, seconds: float = 30) -> None:
    """Wait until a condition of a container holds, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not true after {seconds} s"
        time.sleep(0.1)
