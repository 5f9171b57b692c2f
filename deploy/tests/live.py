"""The dashboards over real figures: a server and its replica under traffic, the companion, and a Prometheus with the rules. No
query may be empty."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

import pytest
import yaml
from common import OBSERVE, ROOT, await_until, free_port, prometheus_program


class Programs:
    """Programs that run for the time of a test, each with a log in the folder."""

    def __init__(self, folder):
        self.folder, self.running = folder, []

    def start(self, name: str, *words):
        log = (self.folder / f"{name}.log").open("w")
        self.running.append(subprocess.Popen([str(word) for word in words], stdout=log, stderr=log, cwd=self.folder))

    def check(self):
        """Fails with the logs if one has ended by itself."""
        if any(program.poll() is not None for program in self.running):
            raise AssertionError("\n".join(f"== {log.name}\n{log.read_text()[-1500:]}" for log in self.folder.glob("*.log")))

    def stop(self):
        for program in reversed(self.running):
            program.terminate()
        for program in self.running:
            try:
                program.wait(20)
            except subprocess.TimeoutExpired:
                program.kill()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """The address of a Prometheus that scrapes all of it."""
    folder = tmp_path_factory.mktemp("live")
    programs = Programs(folder)
    server, replica, http, listen = (free_port() for _ in range(4))
    try:
        for name, port, more in (("server", server, []), ("replica", replica, ["--replicaof", "127.0.0.1", server])):
            (folder / name).mkdir()
            programs.start(
                name, os.environ["GW_SERVER_PATH"], "--port", port, "--dir", folder / name, "--appendonly", "yes",
                "--maxmemory", "500mb", "--repl-diskless-sync-delay", "0", "--loadmodule", os.environ["GW_MODULE"], *more,
            )  # fmt: skip
        (folder / "gw.toml").write_text(
            f'[server]\nurl = "redis://127.0.0.1:{server}"\n[http]\nlisten = "127.0.0.1:{http}"\n'
            '[metrics]\nqueues = ["log:requests"]\naccounts = ["{demo}:customer-1", "{demo}:customer-2"]\nfeed = true\n'
            'top_keys = ["rpm:*", "spend:team:*", "{demo}*"]\n'
            f'[[ship]]\nqueues = ["log:requests"]\nto = "{folder / "shipped"}"\n'
            f'[sync]\nto = "sqlite:{folder / "spend.sqlite"}"\n'
        )
        (folder / "shipped").mkdir()
        programs.start("companion", os.environ["GW_COMPANION"], "run", "--config", folder / "gw.toml")
        # Several clients at once, so that some find the fill lease of another.
        for number in range(3):
            programs.start(
                f"traffic-{number}", sys.executable, ROOT / "deploy/traffic/traffic.py", f"redis://127.0.0.1:{server}", 60
            )
        config = yaml.safe_load((OBSERVE / "prometheus/prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(OBSERVE / "prometheus" / name) for name in config["rule_files"]]
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{http}"]
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        address = f"127.0.0.1:{listen}"
        programs.start(
            "prometheus", prometheus_program("prometheus"), f"--config.file={folder}/prometheus.yaml",
            f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}",
        )  # fmt: skip

        def has_traffic():
            programs.check()
            return query(address, "count(gw_up == 1) == 2 and sum(rate(gw_log_pushed_total[30s])) > 0")

        await_until("both nodes and the traffic", has_traffic)
        yield address
        programs.check()
    finally:
        programs.stop()


def ask(address: str, path: str):
    try:
        with urllib.request.urlopen(f"http://{address}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        # While it starts, it says that it is not ready.
        assert error.code == 503, f"{path}: {error.read().decode()}"
    except urllib.error.URLError:
        pass
    return None


def query(address: str, expression: str) -> list:
    found = ask(address, "query?" + urllib.parse.urlencode({"query": expression}))
    return found["result"] if found else []


@pytest.mark.parametrize("file", sorted((OBSERVE / "grafana").glob("*.json")), ids=lambda file: file.stem)
def test_no_query_of_a_dashboard_is_empty(file, prometheus):
    board = json.loads(file.read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "30s").replace("$job", ".*").replace("$node", ".*")
            await_until(f"{panel['title']}: {expression}", lambda expression=expression: query(prometheus, expression))


def test_the_rules_are_evaluated_and_nothing_critical_is_wrong(prometheus):
    def evaluated():
        groups = (ask(prometheus, "rules") or {"groups": []})["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if rules and all(rule["health"] == "ok" for rule in rules) else None

    rules = await_until("all rules to be evaluated", evaluated)
    assert len(rules) > 30
    firing = {rule["name"] for rule in rules if rule.get("state") == "firing" and rule["labels"]["severity"] == "critical"}
    assert not firing


def test_the_recorded_rates_are_of_the_traffic(prometheus):
    admitted, refused = (
        await_until(name, lambda name=name: query(prometheus, f"job:gw_{name}:rate5m > 0")) for name in ("admitted", "refused")
    )
    assert admitted[0]["metric"] == refused[0]["metric"] | {"__name__": "job:gw_admitted:rate5m"}
    assert admitted[0]["metric"]["job"] == "redis-gateway"
