"""What `kustomize build` makes of a directory, as far as the template's manifests use it; anything else is an error.

`kustomize` is in no package that can be installed with the other tools. This gives the same objects, but for the hash
that it adds to the name of a ConfigMap.
"""

import copy
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
KNOWN = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator", "patches", "images"}
CLUSTER_WIDE = {"Namespace"}


def build(directory: Path) -> list[Manifest]:
    """Return the objects that `kubectl apply --kustomize <directory>` would send.

    Raises:
        ValueError: the kustomization uses what this function does not know.
    """
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text(encoding="utf-8"))
    if unknown := set(kustomization) - KNOWN:
        raise ValueError(f"{directory}: {unknown} is not understood here")
    made: list[Manifest] = []
    for name in kustomization["resources"]:
        path = directory / name
        text = "" if path.is_dir() else path.read_text(encoding="utf-8")
        # Anchors make one object of two; a patch would change both.
        made += build(path) if path.is_dir() else [copy.deepcopy(found) for found in yaml.safe_load_all(text)]
    for generator in kustomization.get("configMapGenerator", []):
        generate(generator, directory, made)
    for patch in kustomization.get("patches", []):
        apply_patch(patch, made)
    for manifest in made:
        if "namespace" in kustomization and manifest["kind"] not in CLUSTER_WIDE:
            manifest["metadata"]["namespace"] = kustomization["namespace"]
        for container in containers(manifest):
            for image in kustomization.get("images", []):
                if container["image"] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    return made


def generate(generator: Manifest, directory: Path, made: list[Manifest]) -> None:
    """Make a ConfigMap out of files of `NAME=value` lines, or put them into the one of the base."""
    data = {name: value for env in generator["envs"] for name, value in read_env(directory / env).items()}
    if generator.get("behavior") == "merge":
        find(made, "ConfigMap", generator["name"])["data"].update(data)
    else:
        metadata = {"name": generator["name"]}
        made.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def read_env(path: Path) -> dict[str, str]:
    """Return the settings of a file of `NAME=value` lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def apply_patch(patch: Manifest, made: list[Manifest]) -> None:
    """Apply the one kind of patch that is used: the removal of a field (RFC 6902)."""
    target = find(made, patch["target"]["kind"], patch["target"]["name"])
    for step in yaml.safe_load(patch["patch"]):
        if step["op"] != "remove":
            raise ValueError(f"the patch {step['op']} is not understood here")
        *way, last = step["path"].strip("/").split("/")
        place = target
        for name in way:
            place = place[name]
        del place[last]


def find(made: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the one object of this kind and name."""
    (found,) = (one for one in made if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def containers(manifest: Manifest) -> list[Manifest]:
    """Return the containers of an object that has pods, of whatever sort they are."""
    pod = manifest.get("spec", {}).get("template", {}).get("spec", {})
    return [container for name, found in pod.items() if name.lower().endswith("containers") for container in found]
