"""The files to deploy with: what programs say of them, and what none says.

No container engine and no cluster is needed. What a program can judge, a program judges: hadolint, the schemas of
Compose and Kubernetes, yamllint, nginx, Caddy, systemd. Each `..._faults` function finds what those let pass; it is
tried on the file as it is, and on the same file with every single mistake of a list.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from baking import bake, files
from kubernetes_validate.utils import latest_version
from manifests import Manifest, build, containers, find, read_env
from proxies import needs, nginx_directory, program
from pydantic import SecretStr

from mcp_chassis.settings import all_fields

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the programs are installed on Linux only")

ADDRESS_OF_CADDY = "172.31.250.2"
UID = 10001
# A name in a file must be a setting; SECRETS_DIR says where they are.
NOT_IN_SETTINGS = {"SECRETS_DIR"}
UNREACHABLE = [
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    # Where Azure, Oracle and Alibaba serve metadata.
    *("168.63.129.16/32", "192.0.0.192/32", "100.100.100.200/32"),
]


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "oauth": {"auth": "oauth", "examples": "no"},
    "redis": {"rate_limit": "redis", "port": "9090"},
}
Baker = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Baker:
    """Makes the project of a deployment and a variant, once. Read-only."""

    @functools.cache
    def make(deployment: str, variant: str) -> Path:
        return bake(tmp_path_factory.mktemp(deployment), deployment=deployment, **VARIANTS[variant])

    return make


@pytest.fixture(scope="module", params=VARIANTS)
def docker_project(request: pytest.FixtureRequest, baked: Baker) -> Path:
    return baked("docker", request.param)


@pytest.fixture(scope="module", params=VARIANTS)
def kubernetes_project(request: pytest.FixtureRequest, baked: Baker) -> Path:
    return baked("kubernetes", request.param)


@pytest.fixture(scope="module", params=[f"{one} {two}" for one in ("docker", "kubernetes") for two in VARIANTS])
def project(request: pytest.FixtureRequest, baked: Baker) -> Path:
    deployment, variant = request.param.split()
    return baked(deployment, variant)


@pytest.fixture(scope="module")
def docker(baked: Baker) -> Path:
    """With two servers."""
    return baked("docker", "redis")


@pytest.fixture(scope="module")
def kubernetes(baked: Baker) -> Path:
    """With several replicas."""
    return baked("kubernetes", "redis")


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, encoding="utf-8", env=env, check=False, timeout=120
    )
    assert done.returncode == 0, f"{command[0]}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def follow_kubernetes(objects: list[Manifest], older: int, place: Path) -> None:
    """Read objects with the OpenAPI schemas of a minor version that is so much older than the newest there is."""
    made = place / "objects.yaml"
    made.write_text(yaml.safe_dump_all(objects), encoding="utf-8")
    minor = int(latest_version().split(".")[1]) - older
    said = run(program("kubernetes-validate"), "--kubernetes-version", f"1.{minor}.0", "--strict", made)
    assert said.count("passed") == len(objects)


# --- what programs say ------------------------------------------------------------------------------------------------


@linux_only
def test_hadolint_accepts_the_dockerfile(project: Path) -> None:
    run(program("hadolint"), "--failure-threshold", "style", project / "Dockerfile")


@linux_only
def test_yamllint_accepts_the_yaml(project: Path) -> None:
    rules = "{extends: default, rules: {line-length: {max: 120}, document-start: disable}}"
    places = [place for place in (project / "compose.yaml", project / "deploy") if place.exists()]
    run(program("yamllint"), "--strict", "-d", rules, *places)


@linux_only
def test_compose_yaml_follows_the_schema_of_the_compose_specification(docker_project: Path) -> None:
    compose = docker_project / "compose.yaml"
    run(program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", compose)


@linux_only
@pytest.mark.parametrize("older", [0, 1, 2], ids=["newest", "one-before", "two-before"])
def test_the_schemas_of_kubernetes_accept_what_production_is_made_of(
    older: int, kubernetes_project: Path, tmp_path: Path
) -> None:
    """The OpenAPI schemas of the newest minor version that the package `kubernetes-validate` has, and of two before."""
    follow_kubernetes(build(kubernetes_project / "deploy/kubernetes/production"), older, tmp_path)


@linux_only
def test_caddy_accepts_its_file(docker_project: Path, tmp_path: Path) -> None:
    caddyfile = docker_project / "deploy/caddy/Caddyfile"
    home = {**os.environ, "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    options = ("--config", caddyfile, "--adapter", "caddyfile")
    said = run(program("caddy"), "validate", *options, env=home)
    assert '"warn"' not in said
    run(program("caddy"), "fmt", "--diff", caddyfile)  # exit code 1 if it is not as Caddy would write it


@linux_only
def test_nginx_accepts_its_file(docker_project: Path, tmp_path: Path) -> None:
    needs("nginx")
    text = (docker_project / "deploy/nginx/mcp-server.conf").read_text(encoding="utf-8")
    said = run("nginx", "-t", "-p", nginx_directory(tmp_path, text), "-c", "nginx.conf")
    assert "[warn]" not in said


@linux_only
def test_systemd_accepts_its_unit_and_calls_it_well_protected(docker_project: Path, tmp_path: Path) -> None:
    needs("systemd-analyze", package="systemd")
    text = (docker_project / "deploy/systemd/mcp-server.service").read_text(encoding="utf-8")
    unit = tmp_path / "mcp-server.service"
    # It looks for the program, which is installed nowhere here.
    unit.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text), encoding="utf-8")
    assert run("systemd-analyze", "verify", "--man=no", unit).strip() == ""
    # From 0 (confined) to 10 (unsafe); below 2 is the word OK. The network that it serves costs 0.8.
    run("systemd-analyze", "security", "--offline=yes", "--threshold=15", "--no-pager", unit)


# --- Dockerfile -------------------------------------------------------------------------------------------------------


def dockerfile_faults(text: str) -> list[str]:
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", text))
    lines = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    stages: list[list[list[str]]] = []
    for line in lines:
        if line[0] == "FROM":
            stages.append([])
        stages[-1].append(line)
    images = [stage[0][1].partition(" AS ") for stage in stages]
    names = {name for _, _, name in images if name}
    final, said = stages[-1], []
    if any(not exactly_tagged(image) for image, _, _ in images if image not in names):
        said.append("an image without an exact version")
    if "AS build" not in text or images[-1][0] != next((i for i, _, name in images if name == "build"), None):
        said.append("two stages on different bases")
    users = [rest for word, rest in final if word == "USER"]
    if not users or users[-1] != f"{UID}:{UID}":
        said.append("runs as root")
    given = " ".join(rest for word, rest in final if word in {"RUN", "COPY", "ADD"})
    if re.search(r"\b(apt-get|uv|gcc|pip install|build-essential)\b", given) or "pip uninstall" not in given:
        said.append("build tools in the final image")
    checks = [rest for word, rest in final if word == "HEALTHCHECK"]
    if not checks or not re.search(r'CMD \["python", "-I", "-c", "[^"]+/livez[^"]+"\]$', checks[-1]):
        said.append("no health check in exec form, by the one program that is there")
    if any(not rest.startswith("[") for word, rest in final if word in {"CMD", "ENTRYPOINT"}):
        said.append("a shell between the signal and the server")
    if any(holds_secret(rest) for word, rest in lines if word in {"ENV", "ARG"}):
        said.append("a secret in the image")
    if any(re.match(r"(ADD|COPY) \.", " ".join(line)) for line in lines):
        said.append("everything is copied")
    return said


def exactly_tagged(image: str) -> bool:
    return re.search(r":\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?$", image) is not None


def secret_settings() -> set[str]:
    """The settings whose type is SecretStr, as they are called in the environment."""
    return {
        name for name, field in all_fields().items() if SecretStr in (field.annotation, *get_args(field.annotation))
    }


def holds_secret(text: str) -> bool:
    """Whether a secret setting is given a value here. An address without a password is no secret."""
    names = "|".join(sorted({*map(str.upper, secret_settings()), "STATE_SECRET", r"\w*PASSWORD", r"\w*TOKEN"}))
    found = re.findall(rf"\b({names})\s*[=:]\s*(\S+)", text)
    address = re.compile(r"(?:redis|http)://[\w.-]+:\d+(?:/\d+)?")
    return any(name not in {"REDIS_URL", "OAUTH_PROXY"} or not address.fullmatch(value) for name, value in found)


DOCKERFILE_MISTAKES = {
    "latest": ("FROM python:3.13.15-slim-trixie", "FROM python:latest"),
    "no-tag": ("FROM python:3.13.15-slim-trixie", "FROM python"),
    "moving-tag": ("FROM python:3.13.15-slim-trixie", "FROM python:3.13-slim"),
    "other-base": ("FROM base\n", "FROM python:3.13.15-alpine3.22\n"),
    "root": ("USER 10001:10001\n", ""),
    "root-by-name": ("USER 10001:10001\n", "USER root\n"),
    "shell-check": ('CMD ["python", "-I", "-c",', "CMD python -I -c"),
    "curl-check": ('CMD ["python", "-I", "-c",', 'CMD ["curl",'),
    "no-check": ("HEALTHCHECK", "LABEL"),
    "shell": ('CMD ["serve"]', "CMD serve"),
    "compiler": ("USER 10001:10001", "RUN apt-get install gcc\nUSER 10001:10001"),
    "installer": ("COPY --from=build", "COPY --from=uv /uv /bin/uv\nCOPY --from=build"),
    "pip": ("pip uninstall", "pip list"),
    "key": ("LOG_FORMAT=json", "API_KEY=abc"),
    "everything": ("COPY src ./src", "COPY . ."),
}


def test_the_image_is_small_unprivileged_and_holds_no_secret(project: Path) -> None:
    assert dockerfile_faults((project / "Dockerfile").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(("old", "new"), DOCKERFILE_MISTAKES.values(), ids=DOCKERFILE_MISTAKES)
def test_a_mistake_in_the_dockerfile_is_found(old: str, new: str, docker: Path) -> None:
    assert_found(dockerfile_faults, (docker / "Dockerfile").read_text(encoding="utf-8"), old, new)


def assert_found(faults: Callable[[str], list[str]], text: str, old: str, new: str) -> None:
    assert old in text
    assert faults(text) == []
    assert faults(text.replace(old, new)) != []


def test_nothing_gets_into_the_image_that_is_not_named(project: Path) -> None:
    lines = (project / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == {
        *("pyproject.toml", "uv.lock", "README.md", "LICENSE", "tools.lock.json", "src")
    }
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", (project / "Dockerfile").read_text(encoding="utf-8"))
    assert {name.rstrip("*") for names in copied for name in names.split()} <= {rule[1:] for rule in rules}


# --- compose.yaml -----------------------------------------------------------------------------------------------------


def compose_faults(text: str) -> list[str]:
    document = yaml.safe_load(text)
    services, said = document["services"], []
    servers = {name: service for name, service in services.items() if "build" in service}
    if len(servers) != (2 if "valkey" in services else 1):
        said.append("not as many servers as can share their limits")
    for name, service in services.items():
        if "image" in service and not exactly_tagged(service["image"]):
            said.append(f"{name}: an image without an exact version")
        if not service.get("read_only") or service.get("cap_drop") != ["ALL"] or service.get("privileged"):
            said.append(f"{name}: may change its system")
        if service.get("security_opt") != ["no-new-privileges:true"]:
            said.append(f"{name}: may gain privileges")
        if not {"mem_limit", "cpus", "pids_limit"} <= set(service):
            said.append(f"{name}: no limits")
        if set(service.get("cap_add", [])) > ({"NET_BIND_SERVICE"} if name == "caddy" else set()):
            said.append(f"{name}: a capability too many")
        if "ports" in service and name != "caddy":
            said.append(f"{name}: can be reached past Caddy")
        if service.get("env_file", SETTINGS_FILE) != SETTINGS_FILE or holds_secret(
            yaml.safe_dump(service.get("environment", {}))
        ):
            said.append(f"{name}: a secret in the environment")
        if name != "caddy" and str(service.get("user", "0")).split(":", maxsplit=1)[0] in {"0", "root"}:
            said.append(f"{name}: runs as root")
    for service in servers.values():
        if service["environment"].get("TRUSTED_PROXIES") != services["caddy"]["networks"]["front"]["ipv4_address"]:
            said.append("others than Caddy are believed")
    if "valkey" in services:
        valkey = services["valkey"]
        if not document["networks"]["data"].get("internal") or valkey["networks"] != ["data"]:
            said.append("Valkey can be reached")
        if valkey["command"][1] != "/run/secrets/valkey_conf" or valkey["secrets"] != ["valkey_conf"]:
            said.append("Valkey has no password")
        if any(set(secret) != {"file"} for secret in document["secrets"].values()):
            said.append("a secret that is no file")  # Compose cannot give others to a read-only container
    if any("./secrets/server:/run/secrets:ro" not in service["volumes"] for service in servers.values()):
        said.append("a server without secrets")
    return said


SETTINGS_FILE = [{"path": "settings.env", "required": False}]
"""Without secrets, as the file of the same name that systemd and Kubernetes take."""

COMPOSE_MISTAKES = {
    "key": ("    REPLICAS:", "    API_KEY: ${API_KEY}\n    REPLICAS:"),
    "env-file": ("    - path: settings.env", "    - path: .env"),
    "writable-secrets": ("/run/secrets:ro", "/run/secrets"),
    "redis-password": ("    REPLICAS:", "    REDIS_URL: redis://:abc@valkey\n    REPLICAS:"),
    "open-redis": ("/run/secrets/valkey_conf, ", ""),
    "environment-secret": ("    file: ./secrets/valkey_conf", "    environment: API_KEY"),
    "latest": ("caddy:2.11.4-alpine", "caddy:latest"),
    "no-tag": ("valkey/valkey:8.1.8-alpine", "valkey/valkey"),
    "root": ('user: "10001:10001"', 'user: "0:0"'),
    "root-valkey": ('    user: "999:1000"\n', ""),
    "writable": ("read_only: true\n  tmpfs:\n    - /tmp:", "read_only: false\n  tmpfs:\n    - /tmp:"),
    "capabilities": ("  cap_drop:\n    - ALL\n  security", "  security"),
    "sudo": ("  security_opt:\n    - no-new-privileges:true\n  mem", "  mem"),
    "no-limit": ("  mem_limit: 512m\n", ""),
    "port": ("    <<: *server\n  server-2:", "    <<: *server\n    ports: [8080:8080]\n  server-2:"),
    "one": ("  server-2:\n    <<: *server\n", ""),
    "any-proxy": (f"TRUSTED_PROXIES: {ADDRESS_OF_CADDY}", "TRUSTED_PROXIES: 0.0.0.0/0"),
    "open-data": ("    internal: true", "    internal: false"),
}


def test_the_services_hold_as_little_as_they_can(docker_project: Path) -> None:
    assert compose_faults((docker_project / "compose.yaml").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(("old", "new"), COMPOSE_MISTAKES.values(), ids=COMPOSE_MISTAKES)
def test_a_mistake_in_compose_yaml_is_found(old: str, new: str, docker: Path) -> None:
    assert_found(compose_faults, (docker / "compose.yaml").read_text(encoding="utf-8"), old, new)


# --- Kubernetes -------------------------------------------------------------------------------------------------------


def kubernetes_faults(made: list[Manifest]) -> list[str]:
    (slug,) = (one["metadata"]["name"] for one in made if one["kind"] == "Namespace")
    deployment, account = find(made, "Deployment", slug), find(made, "ServiceAccount", slug)
    said = [fault for one in made if one["kind"] == "Deployment" for fault in pod_faults(one)]
    said += [fault for container in containers(deployment) for fault in probe_faults(container)]
    if account["automountServiceAccountToken"] is not False:
        said.append("a token of the cluster in the pod")
    said += replica_faults(made, deployment, find(made, "ConfigMap", slug)["data"])
    (namespace,) = (one["metadata"] for one in made if one["kind"] == "Namespace")
    if namespace["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
        said.append("pods that are not restricted")
    if any(one["metadata"].get("namespace") != namespace["name"] for one in made if one["kind"] != "Namespace"):
        said.append("an object outside of the namespace")
    if any(one["kind"] == "Secret" for one in made) or holds_secret(yaml.safe_dump(made)):
        said.append("a secret in a manifest")
    return (
        said
        + [fault for one in made if one["kind"] == "NetworkPolicy" for fault in egress_faults(one)]
        + [
            "traffic that no policy names is allowed"
            for _ in range(not any(one["kind"] == "NetworkPolicy" and one["spec"]["podSelector"] == {} for one in made))
        ]
    )


def pod_faults(deployment: Manifest) -> list[str]:
    pod = deployment["spec"]["template"]["spec"]
    said = [fault for container in containers(deployment) for fault in container_faults(container)]
    if pod.get("automountServiceAccountToken") is not False:
        said.append("a token of the cluster in the pod")
    security = pod["securityContext"]
    if not security.get("runAsNonRoot") or {security["runAsUser"], security["runAsGroup"]} != {UID}:
        said.append("runs as root")
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        said.append("every system call")
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")) or "hostPath" in repr(pod["volumes"]):
        said.append("a part of the node")
    return said + restricted_faults(pod)


def restricted_faults(pod: Manifest) -> list[str]:
    """What the restricted profile forbids beside what is looked for above (Pod Security Standards, 1.37)."""
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    said = [f"a volume of the kind {kind}" for one in pod["volumes"] for kind in set(one) - {"name"} - allowed]
    for security in (pod["securityContext"], *(one.get("securityContext", {}) for one in pod["containers"])):
        if found := set(security) & {"sysctls", "procMount", "seLinuxOptions", "appArmorProfile", "windowsOptions"}:
            said.append(f"{found} may loosen what the profile holds")
    if any("hostPort" in port for one in pod["containers"] for port in one.get("ports", [])):
        said.append("a port of the node")
    return said


def replica_faults(made: list[Manifest], deployment: Manifest, settings: dict[str, str]) -> list[str]:
    """Several replicas need what they share; without it there is one."""
    kinds = [one["kind"] for one in made]
    if "REPLICAS" not in settings:
        alone = deployment["spec"].get("replicas") == 1 and "HorizontalPodAutoscaler" not in kinds
        return [] if alone else ["several replicas that share nothing"]
    said = []
    pod = deployment["spec"]["template"]["spec"]
    if {spread["topologyKey"] for spread in pod.get("topologySpreadConstraints", [])} != {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }:
        said.append("all replicas may be on one node")
    if "replicas" in deployment["spec"]:
        said.append("the number of replicas is put back with every apply")
    (scaler,) = (one["spec"] for one in made if one["kind"] == "HorizontalPodAutoscaler")
    (budget,) = (one["spec"] for one in made if one["kind"] == "PodDisruptionBudget")
    if (
        scaler["minReplicas"] < 2
        or budget.get("maxUnavailable") != 1
        or settings["REPLICAS"] != str(scaler["maxReplicas"])
    ):
        said.append("replicas, budget and settings do not fit each other")
    return said


def container_faults(container: Manifest) -> list[str]:
    security, said = container.get("securityContext", {}), []
    if not security.get("readOnlyRootFilesystem") or security.get("allowPrivilegeEscalation") is not False:
        said.append("may change its system or gain privileges")
    if security.get("capabilities") != {"drop": ["ALL"]} or security.get("privileged"):
        said.append("has capabilities")
    for kind in ("requests", "limits"):
        if not {"cpu", "memory"} <= set(container.get("resources", {}).get(kind, {})):
            said.append(f"no {kind}")
    if not exactly_tagged(container["image"]):
        said.append("an image without an exact version")
    if any("value" in variable for variable in container.get("env", [])):
        said.append("settings in two places")
    return said


def probe_faults(container: Manifest) -> list[str]:
    probes = {
        name: container.get(f"{name}Probe", {}).get("httpGet", {}) for name in ("startup", "liveness", "readiness")
    }
    if {name: probe.get("path") for name, probe in probes.items()} != {
        **{"startup": "/livez", "liveness": "/livez"},
        "readiness": "/readyz",
    }:
        return ["probes that are missing"]
    return []


def egress_faults(policy: Manifest) -> list[str]:
    spec, said = policy["spec"], []
    if set(spec["policyTypes"]) != {"Ingress", "Egress"}:
        said.append("a direction is left open")
    rules = spec.get("egress", [])
    for rule in rules:
        if not rule.get("to") or not rule.get("ports"):
            said.append("a rule without an address or a port")
        for block in (to["ipBlock"] for to in rule.get("to", []) if "ipBlock" in to):
            allowed = ipaddress.ip_network(block["cidr"])
            if allowed.version == 6:
                said.append("IPv6 is not thought through")
                continue
            left_out = [ipaddress.IPv4Network(network) for network in block.get("except", [])]
            for hidden in map(ipaddress.IPv4Network, UNREACHABLE):
                if hidden.overlaps(allowed) and not any(hidden.subnet_of(network) for network in left_out):
                    said.append(f"{hidden} can be reached")
    names = [port for rule in rules for port in rule.get("ports", []) if port["port"] == 53]
    if rules and {port["protocol"] for port in names} != {"UDP", "TCP"}:
        said.append("names cannot be resolved")
    if any(not rule.get("from") for rule in spec.get("ingress", [])):
        said.append("everybody may come in")
    return said


def test_production_is_restricted_limited_and_spread(kubernetes_project: Path) -> None:
    assert kubernetes_faults(build(kubernetes_project / "deploy/kubernetes/production")) == []


KUBERNETES_MISTAKES = {
    "token": ("base/deployment.yaml", "      automountServiceAccountToken: false\n", ""),
    "account-token": ("base/service-account.yaml", "ServiceAccountToken: false", "ServiceAccountToken: true"),
    "root": ("base/deployment.yaml", "runAsUser: 10001", "runAsUser: 0"),
    "maybe-root": ("base/deployment.yaml", "        runAsNonRoot: true\n", ""),
    "seccomp": ("base/deployment.yaml", "type: RuntimeDefault", "type: Unconfined"),
    "writable": ("base/deployment.yaml", "            readOnlyRootFilesystem: true\n", ""),
    "escalation": ("base/deployment.yaml", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"),
    "capabilities": ("base/deployment.yaml", "                - ALL", "                - NET_RAW"),
    "no-memory-limit": ("base/deployment.yaml", "              memory: 512Mi\n", ""),
    "no-cpu-request": ("base/deployment.yaml", "              cpu: 250m\n", ""),
    "sidecar": (
        "base/deployment.yaml",
        "      volumes:\n",
        "      initContainers:\n        - name: x\n          image: x:1.0.0\n      volumes:\n",
    ),
    "host-port": ("base/deployment.yaml", "- name: http\n", "- name: http\n              hostPort: 80\n"),
    "node-volume": ("base/deployment.yaml", "          emptyDir:\n", "          nfs: {}\n          emptyDir:\n"),
    "sysctl": ("base/deployment.yaml", "        fsGroup:", "        sysctls: [{name: a, value: b}]\n        fsGroup:"),
    "proc": ("base/deployment.yaml", "            allowPriv", "            procMount: Unmasked\n            allowPriv"),
    "host-network": ("base/deployment.yaml", "      enableServiceLinks: false", "      hostNetwork: true"),
    "one-node": ("base/deployment.yaml", "topologyKey: kubernetes.io/hostname", "topologyKey: example.com/rack"),
    "probe": ("base/deployment.yaml", "path: /readyz", "path: /health"),
    "variable": ("base/deployment.yaml", "          ports:", "          env: [{name: A, value: x}]\n          ports:"),
    "key": ("production/settings.env", "REPLICAS=10", "REPLICAS=10\nAPI_KEY=abc"),
    "redis-password": ("production/settings.env", "REPLICAS=10", "REPLICAS=10\nREDIS_URL=redis://:abc@r:6379/0"),
    "latest": ("production/kustomization.yaml", "newTag: 0.1.0", "newTag: latest"),
    "fixed-replicas": ("production/kustomization.yaml", "path: /spec/replicas", "path: /spec/strategy"),
    "one-replica": ("production/horizontal-pod-autoscaler.yaml", "minReplicas: 2", "minReplicas: 1"),
    "more-replicas": ("production/horizontal-pod-autoscaler.yaml", "maxReplicas: 10", "maxReplicas: 20"),
    "budget": ("production/pod-disruption-budget.yaml", "maxUnavailable: 1", "maxUnavailable: 100%"),
    "baseline": ("production/namespace.yaml", "enforce: restricted", "enforce: baseline"),
    "default-allow": ("production/default-deny.yaml", "podSelector: {}", "podSelector: {matchLabels: {a: b}}"),
    "egress-open": ("production/default-deny.yaml", "    - Egress\n", ""),
    "metadata": ("base/network-policy.yaml", "              - 169.254.0.0/16\n", ""),
    "one-metadata-address": ("base/network-policy.yaml", "169.254.0.0/16", "169.254.169.254/32"),
    "azure": ("base/network-policy.yaml", "              - 168.63.129.16/32\n", ""),
    "private": ("base/network-policy.yaml", "              - 10.0.0.0/8\n", ""),
    "ipv6": ("base/network-policy.yaml", "        - ipBlock:", "        - ipBlock: {cidr: '::/0'}\n        - ipBlock:"),
    "any-port": ("base/network-policy.yaml", "      ports:\n        - port: 443\n", ""),
    "no-names": ("base/network-policy.yaml", "          protocol: TCP", "          protocol: UDP"),
    "everybody": ("base/network-policy.yaml", "    - from:\n", "    - {}\n    - from:\n"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new"), KUBERNETES_MISTAKES.values(), ids=KUBERNETES_MISTAKES)
def test_a_mistake_in_a_manifest_is_found(name: str, old: str, new: str, kubernetes: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(kubernetes / "deploy/kubernetes", tmp_path / "kubernetes")
    text = (copied / name).read_text(encoding="utf-8")
    assert old in text
    (copied / name).write_text(text.replace(old, new), encoding="utf-8")
    assert kubernetes_faults(build(copied / "production")) != []


def test_the_stand_in_for_kustomize_does_not_guess(kubernetes: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(kubernetes / "deploy/kubernetes", tmp_path / "kubernetes")
    file = copied / "production/kustomization.yaml"
    text = file.read_text(encoding="utf-8")
    for wrong in (text + "namePrefix: x-\n", text.replace("op: remove", "op: add")):
        file.write_text(wrong, encoding="utf-8")
        with pytest.raises(ValueError, match="not understood"):
            build(copied / "production")


def test_every_manifest_is_part_of_production(kubernetes_project: Path) -> None:
    root = kubernetes_project / "deploy/kubernetes"
    for directory in (root / "base", root / "production"):
        kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text(encoding="utf-8"))
        used = {
            *kustomization["resources"],
            *(env for one in kustomization["configMapGenerator"] for env in one["envs"]),
        }
        assert used - {"../base"} == {path.name for path in directory.iterdir()} - {"kustomization.yaml"}


# --- proxies ----------------------------------------------------------------------------------------------------------


def without_comments(text: str) -> str:
    return re.sub(r"(?m)^\s*#.*\n|\s+#.*$", "", text)


def nginx_faults(text: str) -> list[str]:
    text, said = without_comments(text), []
    directives: dict[str, list[str]] = {}
    for name, value in re.findall(r"(?m)^\s*([a-z_0-9]+)\s+([^{}]*?);", text):
        directives.setdefault(name, []).append(value)
    headers = dict(value.split(None, 1) for value in directives.get("proxy_set_header", []))
    if headers.get("X-Forwarded-For") != "$remote_addr" or {"Forwarded", "X-Real-IP"} - set(headers):
        said.append("a forged address is passed on")
    if headers.get("Host") != "$http_host":
        said.append("Host loses its port")
    if directives.get("proxy_buffering") != ["off"] or directives.get("gzip") != ["off"]:
        said.append("streams are held back")
    (again,) = directives.get("proxy_next_upstream", [""])
    if not again or set(again.split()) - {"error", "timeout"}:
        said.append("a call may be repeated")
    if directives.get("client_max_body_size") != ["1m"]:
        said.append("another size of bodies than MAX_BODY_BYTES")
    if directives.get("ssl_protocols") != ["TLSv1.2 TLSv1.3"] or "ssl_reject_handshake" not in directives:
        said.append("old TLS, or an answer for every name")
    if directives.get("proxy_ignore_client_abort", ["off"]) != ["off"]:
        said.append("a tool runs on after its caller has left")
    return said


NGINX_MISTAKES = {
    "appended": ("X-Forwarded-For $remote_addr", "X-Forwarded-For $proxy_add_x_forwarded_for"),
    "passed-on": ('        proxy_set_header Forwarded "";\n', ""),
    "no-port": ("Host $http_host", "Host $host"),
    "buffered": ("proxy_buffering off", "proxy_buffering on"),
    "repeated": ("proxy_next_upstream error timeout;", "proxy_next_upstream error timeout non_idempotent;"),
    "repeated-after-503": ("proxy_next_upstream error timeout;", "proxy_next_upstream error timeout http_503;"),
    "body": ("client_max_body_size 1m", "client_max_body_size 100m"),
    "tls": ("TLSv1.2 TLSv1.3", "TLSv1 TLSv1.2 TLSv1.3"),
    "no disconnects": ("proxy_cache off;", "proxy_cache off; \n proxy_ignore_client_abort on;"),
}


def test_nginx_replaces_keeps_and_never_repeats(docker_project: Path) -> None:
    assert nginx_faults((docker_project / "deploy/nginx/mcp-server.conf").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(("old", "new"), NGINX_MISTAKES.values(), ids=NGINX_MISTAKES)
def test_a_mistake_in_the_nginx_file_is_found(old: str, new: str, docker: Path) -> None:
    assert_found(nginx_faults, (docker / "deploy/nginx/mcp-server.conf").read_text(encoding="utf-8"), old, new)


def caddy_faults(text: str) -> list[str]:
    text, said = without_comments(text), []
    if "trusted_proxies" in text or re.search(r"header_up\s+\S*(X-Forwarded-For|Host)", text):
        said.append("a forged address is passed on, or Host is changed")
    if "lb_retry_match" in text or "lb_try_duration" in text or not re.search(r"lb_retries 1\b", text):
        said.append("a call may be repeated")
    if re.search(r"_buffers|\bencode\b", text):
        said.append("streams are held back")
    if not re.search(r"max_size 1MiB", text):
        said.append("another size of bodies than MAX_BODY_BYTES")
    if "admin off" not in text or "skip_install_trust" not in text:
        said.append("Caddy can be changed, or changes the machine")
    return said


CADDY_MISTAKES = {
    "believed": ("\tservers {\n", "\tservers {\n\t\ttrusted_proxies static private_ranges\n"),
    "passed-on": ("\t\tlb_policy", "\t\theader_up X-Forwarded-For {header.X-Forwarded-For}\n\t\tlb_policy"),
    "no-port": ("\t\tlb_policy", "\t\theader_up Host {host}\n\t\tlb_policy"),
    "repeated": ("\t\tlb_retries 1\n", "\t\tlb_retries 1\n\t\tlb_retry_match method POST\n"),
    "buffered": ("\t\tlb_policy", "\t\tresponse_buffers 1MiB\n\t\tlb_policy"),
    "body": ("max_size 1MiB", "max_size 1GiB"),
    "admin": ("\tadmin off\n", ""),
}


def test_caddy_replaces_keeps_and_never_repeats(docker_project: Path) -> None:
    assert caddy_faults((docker_project / "deploy/caddy/Caddyfile").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(("old", "new"), CADDY_MISTAKES.values(), ids=CADDY_MISTAKES)
def test_a_mistake_in_the_caddyfile_is_found(old: str, new: str, docker: Path) -> None:
    assert_found(caddy_faults, (docker / "deploy/caddy/Caddyfile").read_text(encoding="utf-8"), old, new)


def test_the_body_that_the_proxies_let_through_is_the_default_of_the_server() -> None:
    assert field_default("max_body_bytes") == 1024 * 1024


def test_the_times_fit_those_of_the_server(docker: Path, kubernetes: Path) -> None:
    """A proxy lets go of an idle connection before the server does; a stop of the server waits long enough."""
    keep_alive, stop = field_default("keep_alive_timeout"), field_default("shutdown_timeout")
    nginx = (docker / "deploy/nginx/mcp-server.conf").read_text(encoding="utf-8")
    caddy = (docker / "deploy/caddy/Caddyfile").read_text(encoding="utf-8")
    unit = (docker / "deploy/systemd/mcp-server.service").read_text(encoding="utf-8")
    compose = yaml.safe_load((docker / "compose.yaml").read_text(encoding="utf-8"))["services"]["server-1"]
    for text, pattern in ((nginx, r"keepalive_timeout (\d+)s;"), (caddy, r"keepalive (\d+)s")):
        assert [int(seconds) for seconds in re.findall(pattern, text)] == [keep_alive - 1]
    pod = find(build(kubernetes / "deploy/kubernetes/base"), "Deployment", kubernetes.name)["spec"]["template"]["spec"]
    pause = containers({"spec": {"template": {"spec": pod}}})[0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause + stop
    assert int(compose["stop_grace_period"].rstrip("s")) > stop
    assert int(re.findall(r"TimeoutStopSec=(\d+)", unit)[0]) > stop


# --- settings ---------------------------------------------------------------------------------------------------------


def field_default(name: str) -> int:
    return int(all_fields()[name].default)


def interpolated(value: str) -> str:
    """What Compose makes of a value, in a shell without variables."""
    return re.sub(r"\$\{\w+(?::-([^}]*)|:\?[^}]*)?\}", lambda found: found[1] or "", str(value))


def image_environment(project: Path) -> dict[str, str]:
    text = re.sub(r"\\\n", " ", (project / "Dockerfile").read_text(encoding="utf-8")).rpartition("FROM ")[2]
    return dict(pair.split("=", 1) for line in re.findall(r"(?m)^ENV (.*)", text) for pair in line.split())


def unit_environment(project: Path) -> dict[str, str]:
    text = (project / "deploy/systemd/mcp-server.service").read_text(encoding="utf-8")
    return dict(pair.split("=", 1) for line in re.findall(r"(?m)^Environment=(.*)", text) for pair in line.split())


def environments(project: Path) -> dict[str, dict[str, str]]:
    """The environment of the server in every way it can be run."""
    if (project / "deploy/kubernetes").exists():
        made = build(project / "deploy/kubernetes/production")
        return {"kubernetes": image_environment(project) | find(made, "ConfigMap", project.name)["data"]}
    compose = yaml.safe_load((project / "compose.yaml").read_text(encoding="utf-8"))["services"]["server-1"]
    given = {name: interpolated(value) for name, value in compose["environment"].items()}
    return {"compose": image_environment(project) | given, "systemd": unit_environment(project)}


def test_a_setting_of_the_team_reaches_the_server_without_a_second_list_of_names(project: Path, tmp_path: Path) -> None:
    """Each way takes a whole file of settings and a whole directory of secrets: no name stands in a deployment file."""
    if (project / "compose.yaml").exists():
        server = yaml.safe_load((project / "compose.yaml").read_text(encoding="utf-8"))["services"]["server-1"]
        assert server["env_file"] == SETTINGS_FILE
        assert "./secrets/server:/run/secrets:ro" in server["volumes"]
        unit = (project / "deploy/systemd/mcp-server.service").read_text(encoding="utf-8")
        assert re.search(r"^EnvironmentFile=-/etc/\S+/settings.env$", unit, re.MULTILINE)
    else:
        shutil.copytree(project / "deploy/kubernetes", tmp_path / "kubernetes")
        with (tmp_path / "kubernetes/production/settings.env").open("a", encoding="utf-8") as file:
            file.write("MAX_ORDERS=7\n")
        made = build(tmp_path / "kubernetes/production")
        assert find(made, "ConfigMap", project.name)["data"]["MAX_ORDERS"] == "7"
        pod = find(made, "Deployment", project.name)
        names = {one["configMapRef"]["name"] for one in containers(pod)[0]["envFrom"]}
        assert find(made, "ConfigMap", project.name)["metadata"]["name"] in names
        (volume,) = [one for one in pod["spec"]["template"]["spec"]["volumes"] if one["name"] == "secrets"]
        assert "items" not in volume["secret"]


NOT_OURS = {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}


def test_every_setting_in_a_file_exists(project: Path) -> None:
    known = {name.upper() for name in all_fields()} | NOT_OURS | NOT_IN_SETTINGS
    for environment in environments(project).values():
        assert set(environment) <= known


def test_every_secret_that_is_given_as_a_file_is_a_setting(project: Path) -> None:
    known = set(all_fields())
    if (project / "compose.yaml").exists():
        compose = yaml.safe_load((project / "compose.yaml").read_text(encoding="utf-8"))
        unit = (project / "deploy/systemd/mcp-server.service").read_text(encoding="utf-8")
        text = (project / "compose.yaml").read_text(encoding="utf-8")
        names = {
            *re.findall(r"> secrets/server/(\w+)$", text, re.MULTILINE),
            *re.findall(r"LoadCredential=(\w+):", unit),
        }
        assert set(compose.get("secrets", ())) == ({"valkey_conf"} if "valkey" in compose["services"] else set())
    else:
        text = (project / "deploy/kubernetes/production/kustomization.yaml").read_text(encoding="utf-8")
        names = set(re.findall(r"--from-file=(\w+)", text))
        environment = read_env(project / "deploy/kubernetes/base/settings.env")
        deployment = find(build(project / "deploy/kubernetes/base"), "Deployment", project.name)
        mounts = {mount["name"]: mount for mount in containers(deployment)[0]["volumeMounts"]}
        assert mounts["secrets"] == {"name": "secrets", "mountPath": environment["SECRETS_DIR"], "readOnly": True}
    replicas = (project / "src/mcp_chassis/replicas").is_dir()
    assert {"api_key"} | ({"state_secret"} if replicas else set()) <= names <= known
    assert replicas or not names & {"state_secret", "redis_url"}


@pytest.mark.slow
def test_the_server_accepts_its_environment_with_secrets_in_files(project: Path, tmp_path: Path) -> None:
    """As it would be started, but for the paths. Without the file of the key it refuses to start."""
    for place, environment in environments(project).items():
        secrets = tmp_path / place
        secrets.mkdir()
        given = {
            **{name: value for name, value in os.environ.items() if name.lower() not in all_fields()},
            **{name: value for name, value in environment.items() if name not in NOT_OURS},
            **{"SECRETS_DIR": str(secrets), "PYTHONPATH": str(project / "src")},
            "TOOLS_LOCK": str(project / "tools.lock.json"),
            **({"OAUTH_ISSUER": "https://login.example.com"} if environment.get("AUTH_MODE") == "oauth" else {}),
        }
        command = [sys.executable, "-m", project.name.replace("-", "_"), "check"]

        def check() -> subprocess.CompletedProcess[str]:
            return subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, encoding="utf-8", check=False)  # noqa: B023

        if environment.get("AUTH_MODE") != "oauth":
            refused = check()
            assert (refused.returncode, "API_KEY: is missing" in refused.stdout) == (78, True)
        (secrets / "api_key").write_text("k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO\n", encoding="utf-8")
        if (project / "src/mcp_chassis/replicas").is_dir():
            (secrets / "state_secret").write_text("sYb1q8Vr5nEw2kTz7mXc4jLp9dGf6hAu3oQi\n", encoding="utf-8")
        if "REPLICAS" in environment:
            (secrets / "redis_url").write_text("redis://127.0.0.1:1/0\n", encoding="utf-8")
        done = check()
        assert done.returncode == 0, done.stdout + done.stderr
        assert "development" not in done.stdout
        assert re.search(r"^OK +authentication +on", done.stdout, re.MULTILINE)


def test_no_file_holds_a_secret(project: Path) -> None:
    names = {name for name in files(project) if name.startswith(("Dockerfile", "compose", "deploy/"))}
    assert len(names) > 4
    for name in names:
        text = without_comments((project / name).read_text(encoding="utf-8"))
        assert not holds_secret(text), name
        assert not re.search(r"\b(?![a-z_]+\b)[A-Za-z0-9_-]{40,}\b", text), f"{name}: this looks like a key"


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs Redis: apt install redis-server")
def test_the_redis_of_compose_needs_the_password(docker: Path, tmp_path: Path) -> None:
    compose = (docker / "compose.yaml").read_text(encoding="utf-8")
    lines = re.findall(r"^#   ((?:install|python|password|echo)\b.*)$", compose, re.MULTILINE)
    subprocess.run(["sh", "-ec", "\n".join(lines)], cwd=tmp_path, check=True)
    assert "`compose.yaml`" in (docker / "README.md").read_text(encoding="utf-8"), "which has these commands at its top"
    assert re.fullmatch(r"mcp_[\w-]{43}\n", (tmp_path / "secrets/server/api_key").read_text())
    made = {path.relative_to(tmp_path / "secrets").as_posix() for path in (tmp_path / "secrets").rglob("*")}
    assert made == {"valkey_conf", "server", "server/api_key", "server/state_secret", "server/redis_url"}

    socket, conf = str(tmp_path / "socket"), str(tmp_path / "secrets" / "valkey_conf")
    command = [
        conf if word.startswith("/run") else word for word in yaml.safe_load(compose)["services"]["valkey"]["command"]
    ]
    redis = subprocess.Popen(
        ["redis-server", *command[1:], "--port", "0", "--unixsocket", socket], stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            if Path(socket).exists():
                break
            time.sleep(0.1)
        (password,) = re.findall(
            r"^redis://:([\w-]{43})@valkey:6379/0$", (tmp_path / "secrets/server/redis_url").read_text()
        )
        answers = [
            subprocess.run(
                ["redis-cli", "-s", socket, *words], capture_output=True, encoding="utf-8", check=True
            ).stdout
            for words in (["ping"], ["--pass", password, "--no-auth-warning", "config", "get", "maxmemory"])
        ]
    finally:
        redis.kill()
        redis.wait()
    assert "NOAUTH" in answers[0]  # and the exit code is 0: good enough for the health check
    assert answers[1].split() == ["maxmemory", "134217728"]


def test_the_files_of_secrets_are_ignored_by_git(docker: Path) -> None:
    text = (docker / "compose.yaml").read_text(encoding="utf-8")
    assert "./secrets/" in text
    assert "/secrets/" in (docker / ".gitignore").read_text(encoding="utf-8").splitlines()
