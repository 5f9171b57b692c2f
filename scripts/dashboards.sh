#!/usr/bin/env bash
# Writes the dashboards in deploy/observe/grafana anew from their source in deploy/observe/dashboards.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

use_python deploy deploy/tests/requirements.txt
.tools/deploy/bin/python deploy/observe/dashboards deploy/observe/grafana
