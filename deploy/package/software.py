"""The package of a module for Redis Software: a zip of the library and of module.json, which says what it is.

python3 software.py VERSION ARCHITECTURE LIBRARY FILE.zip

The commands are those of clients/spec/commands.json, which the built module tells.
"""

import hashlib
import json
import os
import pathlib
import sys
import time
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def command(name: str, told: dict) -> dict:
    """A command as Redis Software lists it: 1, 1, 1 is one key, the first argument; 0, 0, 0 none."""
    first = last = step = 0
    if told["keys"]:
        place = told["keys"][0]
        first = last = place["begin_search"]["index"]
        step = place["find_keys"].get("keystep", 0) or 1
    return {
        "command_name": name.lower(),
        "command_arity": told["arity"],
        "first_key": first,
        "last_key": last,
        "step": step,
        "flags": told["flags"],
        "summary": told["summary"],
    }


def about(version: str, architecture: str, library: bytes) -> dict:
    major, minor, patch = (int(part) for part in version.split("-")[0].split("."))
    commands = json.loads((ROOT / "clients/spec/commands.json").read_text())["commands"]
    return {
        "module_name": "gw",
        "display_name": "redis-gateway",
        "description": "State that LLM gateways share: rate limits, budgets, log queues, response caches",
        "license": "BSD-3-Clause",
        "version": major * 10_000 + minor * 100 + patch,
        "semantic_version": version,
        "min_redis_version": "7.0.0",
        "architecture": architecture,
        "os": "Linux",
        "command_line_args": "",
        "capabilities": [
            "types", "failover_migrate", "persistence_aof", "persistence_rdb", "clustering", "backup_restore",
            "reshard_rebalance", "eviction_expiry",
        ],
        "commands": [command(name, told) for name, told in sorted(commands.items())],
        "sha256": hashlib.sha256(library).hexdigest(),
    }  # fmt: skip


def main():
    version, architecture, library, target = sys.argv[1:]
    content = pathlib.Path(library).read_bytes()
    # Not before 1980, which is the first year of the format.
    when = time.gmtime(max(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), 315_532_800))[:6]
    files = {
        "module.json": (json.dumps(about(version, architecture, content), indent=1) + "\n").encode(),
        "libredis_gateway.so": content,
        "LICENSE": (ROOT / "LICENSE").read_bytes(),
    }
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, when)
            info.external_attr, info.compress_type = (0o755 if name.endswith(".so") else 0o644) << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, data)


if __name__ == "__main__":
    main()
