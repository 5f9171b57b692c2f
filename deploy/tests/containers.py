"""The images, built and run by a container engine of the test's own. No registry is asked: what is tagged as an official image
is a fresh Debian with a server of the test matrix. Alpine images and the compilers' stages are linted only."""

import os
import shutil
import subprocess

import pytest
from common import ROOT, await_until

# What is built on what, and the server in it.
BASES = {
    "redis:8": ("redis-8.2/redis-server", "redis-server", "redis-cli"),
    "valkey/valkey:9": ("valkey-9.1/valkey-server", "valkey-server", "valkey-cli"),
    "debian:bookworm-slim": None,
}


@pytest.fixture(scope="module")
def docker(tmp_path_factory, debian_base):
    """Calls docker, with a daemon that has the base images."""
    # The client that comes with the daemon: a newer one needs a plugin to build.
    client = "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else shutil.which("docker")
    folder = tmp_path_factory.mktemp("docker")
    words = [f"--{name}={folder / value}" for name, value in (("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid"))]
    words += [f"--host=unix://{folder}/sock", "--iptables=false", "--bridge=none", "--storage-driver=vfs"]
    daemon = subprocess.Popen(["dockerd", *words], stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"))

    def docker(*words, **more) -> str:
        command = [client, "--host", f"unix://{folder}/sock", *map(str, words)]
        env = os.environ | {"DOCKER_BUILDKIT": "1"}
        told = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, **more)
        assert told.returncode == 0, f"{words}\n{told.stdout}{told.stderr}"
        return told.stdout.strip()

    def is_up():
        assert daemon.poll() is None, (folder / "log").read_text()[-2000:]
        return (folder / "sock").exists()

    try:
        await_until("dockerd", is_up)
        for tag, content in BASES.items():
            root = folder / "root"
            subprocess.run(["cp", "-a", "--reflink=auto", debian_base, root], check=True)
            if content:
                server, name, cli = content
                shutil.copy(ROOT / ".servers" / server, root / "usr/local/bin" / name)
                shutil.copy(root / "usr/bin/redis-cli", root / "usr/local/bin" / cli)
                (root / "data").mkdir()
                os.chown(root / "data", 999, 999)
            with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
                docker("import", "-", tag, stdin=tar.stdout)
            shutil.rmtree(root)
        yield docker
    finally:
        daemon.terminate()
        daemon.wait(60)


@pytest.fixture(scope="module")
def binaries(dist):
    """Puts the release's files where the images take them from."""
    folder = ROOT / "target/images"
    folder.mkdir(parents=True, exist_ok=True)
    [content] = (dist / "unpacked").iterdir()
    for name in ("libredis_gateway.so", "gw"):
        shutil.copy(content / name, folder / name)


def build(docker, name: str) -> str:
    recipe = f"deploy/images/Dockerfile.{name}"
    docker("build", "--network=host", "--build-arg", "BINARIES=prebuilt", "--file", recipe, "--tag", f"test-{name}", ".")
    return f"test-{name}"


def await_health(docker, container: str):
    shown = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}"

    def is_healthy():
        state = docker("inspect", "--format", shown, container)
        assert "exited" not in state, docker("logs", container)
        return state == "running healthy"

    await_until(f"{container} to be healthy", is_healthy)


@pytest.mark.parametrize("name", ["redis", "valkey"])
def test_a_server_runs_in_its_image_with_the_companion_beside_it(docker, binaries, name):
    server = docker("run", "--detach", "--network=none", "--read-only", build(docker, name))
    config = f"{ROOT}/deploy/package/gw.toml:/etc/gw/gw.toml:ro"
    image = build(docker, "companion")
    companion = None
    try:
        await_health(docker, server)
        assert docker("exec", server, "redis-cli", "GW.ALLOW", "user:1", "10").splitlines()[0] == "1"
        assert docker("exec", server, "id", "-u") == "999"
        network = f"--network=container:{server}"
        companion = docker("run", "--detach", network, "--read-only", "--volume", config, image)
        await_health(docker, companion)
        assert docker("exec", companion, "id", "-u") == "999"
        url = "http://127.0.0.1:9464/metrics"
        up = 'gw_up{node="127.0.0.1:6379",role="primary"} 1'
        await_until("the server's figures", lambda: up in docker("exec", companion, "curl", "--silent", url))
    finally:
        docker("rm", "--force", *filter(None, (companion, server)))
