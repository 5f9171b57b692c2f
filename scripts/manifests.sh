#!/usr/bin/env bash
# Writes the plain manifests in deploy/kubernetes from the chart in deploy/helm, for those who do not use Helm. The first argument is
# the folder to write to. The password is that of a secret that is made by hand: see docs/src/operating/kubernetes.md.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

folder=${1:-deploy/kubernetes}
use_helm || fail "there is no helm, and it could not be built: that takes Go"
for mode in single replicated; do
  mkdir -p "$folder/$mode"
  {
    echo "# Written by scripts/manifests.sh from the chart in deploy/helm: change that, or lay a kustomization over this."
    # What says that Helm has made it would not be true.
    "$helm" template gw deploy/helm/redis-gateway --kube-version 1.31.0 --namespace default --set "mode=$mode" \
      --set auth.existingSecret=redis-gateway 2>/dev/null | grep -Ev '^ +(app.kubernetes.io/managed-by|helm.sh/chart): '
  } >"$folder/$mode/redis-gateway.yaml"
  printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [redis-gateway.yaml]\n' >"$folder/$mode/kustomization.yaml"
done
