"""What linters do not know of the workflows: who may sign or publish runs nothing that others wrote, nothing
is published unchecked, and every feature of Cargo.toml is where features are named.

  lint-workflows.py REPOSITORY
"""

import sys
import tomllib
from pathlib import Path

import yaml

# Of tests and within Cargo.toml.
NOT_OFFERED = {"default", "object", "crash-points", "test-clients", "test-browser", "test-services"}
RIGHTS_TO_PUBLISH = {"contents", "id-token", "attestations"}


def check_rights(file, jobs):
    for name, job in jobs.items():
        said = "\n".join(step.get("run", "") for step in job["steps"])
        may_publish = {right for right, kind in job.get("permissions", {}).items() if kind == "write"}
        if may_publish & RIGHTS_TO_PUBLISH:
            assert "cargo" not in said and "docker buildx build" not in said, f"{file}: {name} may publish, and builds"
            assert job.get("environment") == "release", f"{file}: {name} publishes outside of its environment"
        if may_publish:
            before, todo = set(), [name]
            while todo:
                needs = jobs[todo.pop()].get("needs", [])
                todo += [needs] if isinstance(needs, str) else needs
                before |= set(todo)
            assert "check" in before, f"{file}: {name} publishes what was not checked"


def check_features(root):
    manifest = tomllib.loads((root / "Cargo.toml").read_text())
    features = set(manifest["features"]) - NOT_OFFERED
    ci = yaml.safe_load((root / ".github/workflows/ci.yml").read_text())
    alone = set(ci["jobs"]["features"]["strategy"]["matrix"]["feature"])
    assert alone == features, f"ci.yml: {alone ^ features} alone"
    everything = features - set(manifest["features"]["default"])
    named = ",".join(feature for feature in manifest["features"] if feature in everything)
    for file in [".github/workflows/ci.yml", ".github/workflows/release.yml", ".github/workflows/docker-publish.yml", "justfile"]:
        assert named in (root / file).read_text(), f"{file} does not have {named}"


def main(root):
    for path in sorted(root.glob(".github/workflows/*.yml")):
        check_rights(path.name, yaml.safe_load(path.read_text())["jobs"])
    check_features(root)


main(Path(sys.argv[1]))
