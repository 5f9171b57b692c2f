"""The chart and the plain manifests: linted, rendered, held against the schemas of Kubernetes, and not stale."""

import os
import re
import subprocess
import tomllib

import pytest
import yaml
from common import ROOT

CHART = ROOT / "deploy/helm/redis-gateway"
OPTIONS = [
    "serviceMonitor.enabled=true",
    "prometheusRule.enabled=true",
    "dashboards.enabled=true",
    "prometheusRule.runbooks=https://x/",
]
# Those of the operator of Prometheus, which Kubernetes itself does not know.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}


def helm(*words) -> subprocess.CompletedProcess:
    return subprocess.run([os.environ["HELM"], *map(str, words)], capture_output=True, text=True)


def render(*settings, upgrade: bool = False) -> dict[tuple[str, str], dict]:
    words = [word for setting in settings for word in ("--set", setting)] + ["--is-upgrade"] * upgrade
    told = helm("template", "gw", CHART, "--kube-version", "1.31.0", *words)
    assert told.returncode == 0, told.stderr
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(told.stdout) if one}


def validate(tmp_path, manifests):
    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump_all([one for one in manifests if one["kind"] not in FOREIGN]))
    for version in ("1.31.0", "1.34.0"):
        told = subprocess.run(["kubernetes-validate", "-k", version, "--strict", file], capture_output=True, text=True)
        assert told.returncode == 0, told.stdout + told.stderr


def test_the_chart_has_the_version_of_cargo():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)


@pytest.mark.parametrize("mode", ["single", "replicated"])
def test_the_chart_is_valid(mode, tmp_path):
    told = helm("lint", CHART, "--strict", "--kube-version", "1.31.0", "--set", f"mode={mode}")
    assert told.returncode == 0, told.stdout
    validate(tmp_path, render(f"mode={mode}", *OPTIONS, upgrade=True).values())
    validate(
        tmp_path,
        render(f"mode={mode}", "persistence.enabled=false", "antiAffinity=preferred", "companion.enabled=false").values(),
    )


@pytest.mark.parametrize(
    "setting", ["mode=cluster", "replicas=2", "antiAffinity=no", "persistence.size=lots", "companion.replicas=0"]
)
def test_a_bad_value_is_refused_by_name(setting):
    told = helm("template", "gw", CHART, "--kube-version", "1.31.0", "--set", setting)
    assert told.returncode != 0 and setting.split("=")[0].split(".")[-1] in told.stderr


def test_what_is_rendered_belongs_together():
    made = render("mode=replicated", *OPTIONS, upgrade=True)
    server = made["StatefulSet", "gw-redis-gateway"]["spec"]
    pod = server["template"]["spec"]
    labels = server["template"]["metadata"]["labels"]
    for selector in (
        server["selector"]["matchLabels"],
        made["Service", "gw-redis-gateway-nodes"]["spec"]["selector"],
        made["PodDisruptionBudget", "gw-redis-gateway"]["spec"]["selector"]["matchLabels"],
        made["NetworkPolicy", "gw-redis-gateway"]["spec"]["podSelector"]["matchLabels"],
        pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    for container in pod["containers"]:
        assert {"name": "run" if container["name"] == "server" else "run-sentinel", "mountPath": "/run/gw"} in container[
            "volumeMounts"
        ]
        assert container["securityContext"]["readOnlyRootFilesystem"] and pod["securityContext"]["runAsNonRoot"]
    main = pod["containers"][0]
    assert main["lifecycle"]["preStop"] and main["startupProbe"] and main["livenessProbe"] != main["readinessProbe"]
    # Every script that is called is there, and is one.
    scripts = made["ConfigMap", "gw-redis-gateway"]["data"]
    called = set(re.findall(r"/config/([a-z]+\.sh)", yaml.safe_dump_all(made.values())))
    assert called == {name for name in scripts if name.endswith(".sh")}
    for name in called:
        subprocess.run(["sh", "-n"], input=scripts[name], text=True, check=True)
    # Hooks run by helm only; one server is preferred as the primary, and is upgraded last.
    job = made["Job", "gw-redis-gateway-before-upgrade"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade"
    rules = made["PrometheusRule", "gw-redis-gateway"]["spec"]["groups"]
    links = [rule["annotations"]["runbook_url"] for group in rules for rule in group["rules"] if "alert" in rule]
    assert len(links) > 30 and all(link.startswith("https://x/operating/alerts.html#gw") for link in links)
    dashboards = made["ConfigMap", "gw-redis-gateway-dashboards"]["data"]
    assert len(dashboards) == 5 and max(map(len, dashboards.values())) < 900_000
    single = render()
    assert ("Job", "gw-redis-gateway-before-upgrade") not in single
    assert single["StatefulSet", "gw-redis-gateway"]["spec"]["replicas"] == 1


@pytest.mark.parametrize("mode", ["single", "replicated"])
def test_the_companion_accepts_its_configuration(mode, tmp_path):
    made = render(f"mode={mode}")
    file = tmp_path / "gw.toml"
    file.write_text(made["ConfigMap", "gw-redis-gateway-companion"]["data"]["gw.toml"])
    [container] = made["Deployment", "gw-redis-gateway-companion"]["spec"]["template"]["spec"]["containers"]
    env = {one["name"]: one.get("value", "secret").replace("$(GW_PASSWORD)", "secret") for one in container["env"]}
    told = subprocess.run(
        [os.environ["GW_COMPANION"], "run", "--check", "--config", file], env=env, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr


def test_the_plain_manifests_are_those_of_the_chart(tmp_path):
    subprocess.run([ROOT / "scripts/manifests.sh", tmp_path], check=True)
    for mode in ("single", "replicated"):
        for name in ("redis-gateway.yaml", "kustomization.yaml"):
            made, kept = (tmp_path / mode / name).read_text(), (ROOT / "deploy/kubernetes" / mode / name).read_text()
            assert made == kept, "run scripts/manifests.sh"
        kept = (ROOT / "deploy/kubernetes" / mode / "redis-gateway.yaml").read_text()
        validate(tmp_path, [one for one in yaml.safe_load_all(kept) if one])
