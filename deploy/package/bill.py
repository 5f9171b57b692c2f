"""What a release is made of: a bill of materials, and the licence texts of all that is linked.

python3 bill.py PACKAGE TARGET SBOM.json LICENSES.txt

PACKAGE is the crate, TARGET the compiler's name of the platform. Cargo tells which crates are linked for it; the texts are
those in the crates themselves. A crate without one is an error.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import uuid

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Crates without a text of their own, by another crate of the same repository that has it.
TEXT_IN = {"redis-module-common": "redis-module"}


def linked(package: str, target: str) -> tuple[dict, list[dict], dict[str, list[str]]]:
    """The crate, all that is linked into it, and who needs whom."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    packages = {one["id"]: one for one in told["packages"]}
    nodes = {node["id"]: node for node in told["resolve"]["nodes"]}
    root = next(id for id in told["workspace_members"] if packages[id]["name"] == package)
    needs, found = {}, [root]
    for id in found:
        # Neither what only tests need, nor what only runs while building.
        kinds = [(dep["pkg"], {kind["kind"] for kind in dep["dep_kinds"]}) for dep in nodes[id]["deps"]]
        needs[id] = [dep for dep, kind in kinds if None in kind and not is_macro(packages[dep])]
        found += [dep for dep in needs[id] if dep not in found]
    return packages[root], [packages[id] for id in found[1:]], needs


def is_macro(package: dict) -> bool:
    return any("proc-macro" in target["kind"] for target in package["targets"])


def texts(package: dict) -> dict[str, str]:
    """The licence texts in a crate, by the name of the file. This project's crates share the one at its root."""
    folder = pathlib.Path(package["manifest_path"]).parent if package["source"] else ROOT
    starts = ("licen", "copying", "copyright", "unlicense", "notice")
    files = [file for file in sorted(folder.iterdir()) if file.name.lower().startswith(starts)]
    files = [inner for file in files for inner in (sorted(file.iterdir()) if file.is_dir() else [file])]
    return {file.name: file.read_text(errors="replace").strip() for file in files}


def licenses(packages: list[dict]) -> str:
    """Each text once, under the names of the crates that carry it."""
    by_text: dict[str, list[str]] = {}
    by_name = {package["name"]: package for package in packages}
    for package in packages:
        name = f"{package['name']} {package['version']} ({package['license'] or 'see its text'})"
        for text in texts(by_name[TEXT_IN.get(package["name"], package["name"])]).values() or sys.exit(
            f"there is no licence text in {name}"
        ):
            by_text.setdefault(text, []).append(name)
    parts = ["\n".join(sorted(set(names))) + "\n\n" + text for text, names in by_text.items()]
    return ("\n\n" + "-" * 80 + "\n\n").join(parts) + "\n"


def bill(root: dict, packages: list[dict], needs: dict[str, list[str]]) -> str:
    factory = LicenseFactory()

    def component(package: dict, kind: ComponentType) -> Component:
        source = package["source"] and PackageURL("cargo", None, package["name"], package["version"])
        terms = [factory.make_from_string(package["license"].replace("/", " OR "))] if package["license"] else []
        name = f"{package['name']}@{package['version']}"
        return Component(type=kind, name=package["name"], version=package["version"], purl=source, licenses=terms, bom_ref=name)

    made = Bom()
    made.metadata.component = component(root, ComponentType.LIBRARY)
    by_id = {root["id"]: made.metadata.component} | {one["id"]: component(one, ComponentType.LIBRARY) for one in packages}
    for id, one in by_id.items():
        if id != root["id"]:
            made.components.add(one)
        made.register_dependency(one, [by_id[dep] for dep in needs[id]])
    # The same content has the same number, so that a build can be repeated.
    names = "\n".join(sorted(one.bom_ref.value for one in by_id.values()))
    made.serial_number = uuid.UUID(hashlib.sha256(names.encode()).hexdigest()[:32])
    text = make_outputter(made, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"the bill of materials is not valid: {error}")
    return text + "\n"


def main():
    package, target, sbom, notices = sys.argv[1:]
    root, packages, needs = linked(package, target)
    pathlib.Path(sbom).write_text(bill(root, packages, needs))
    pathlib.Path(notices).write_text(licenses([root, *packages]))


if __name__ == "__main__":
    main()
