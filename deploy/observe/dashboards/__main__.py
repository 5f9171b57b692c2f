"""Writes the dashboards into the folder that is named, one JSON file each: what Grafana imports and provisions.

python3 deploy/observe/dashboards deploy/observe/grafana
"""

import pathlib
import sys

import cache
import nodes
import overview
import queues
import tenants
from grafana_foundation_sdk.cog.encoder import JSONEncoder

folder = pathlib.Path(sys.argv[1])
for module in (overview, tenants, cache, queues, nodes):
    (folder / f"{module.__name__}.json").write_text(JSONEncoder(sort_keys=True, indent=1).encode(module.BOARD.build()) + "\n")
