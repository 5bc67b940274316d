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
    """Make a ConfigMap out of `NAME=value` lines and of whole files, or put them into the one of the base."""
    data = {name: value for env in generator.get("envs", []) for name, value in read_env(directory / env).items()}
    data |= {name: value for name, _, value in (text.partition("=") for text in generator.get("literals", []))}
    data |= {name: (directory / name).read_text(encoding="utf-8") for name in generator.get("files", [])}
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
    """Apply a patch of tests, removals and replacements of fields (RFC 6902).

    Raises:
        ValueError: it does not fit, as `kubectl` would say, or has a step of another kind.
    """
    target = find(made, patch["target"]["kind"], patch["target"]["name"])
    for step in yaml.safe_load(patch["patch"]):
        place: Any = target
        *way, last = (int(name) if name.isdigit() else name for name in step["path"].strip("/").split("/"))
        try:
            for name in way:
                place = place[name]
            before = place[last]
        except LookupError:
            raise ValueError(f"{step['path']} is not there") from None
        if step["op"] == "remove":
            del place[last]
        elif step["op"] == "replace":
            place[last] = step["value"]
        elif step["op"] != "test":
            raise ValueError(f"the patch {step['op']} is not understood here")
        elif before != step["value"]:
            raise ValueError(f"{step['path']} is not what the patch expects")


def find(made: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the one object of this kind and name."""
    (found,) = (one for one in made if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def containers(manifest: Manifest) -> list[Manifest]:
    """Return the containers of an object that has pods, of whatever sort they are."""
    pod = manifest.get("spec", {}).get("template", {}).get("spec", {})
    return [container for name, found in pod.items() if name.lower().endswith("containers") for container in found]
