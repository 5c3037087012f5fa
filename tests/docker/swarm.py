"""A swarm of this one engine runs docker/stack.yaml: an update, and one that is rolled back."""

import contextlib
import json

from commands import command, docker, say
from suite import PATIENCE, expect, until

SERVICE = "shop_cart"
# Updates go in steps of seconds.
STEPS = 3 * PATIENCE


def a_rolling_update_that_rolls_back():
    docker("tag", "health_server", "health_server:1")
    for version, servers in [("2", "0.0.0.0:50051"), ("3", "0.0.0.0:50052")]:
        docker("build", "--quiet", f"--tag=health_server:{version}", "-",
               stdin=f'FROM health_server\nCMD ["--addr={servers}"]\n')
    # No address is told to others, and none is listened on but this one.
    docker("swarm", "init", "--advertise-addr=127.0.0.1", "--listen-addr=127.0.0.1")
    try:
        deploy("1")
        until(lambda: expect(running(), ["health_server:1"] * 2), STEPS)
        expect(answers(), ["status: SERVING"] * 2)

        deploy("2")
        becomes("completed")
        expect(running(), ["health_server:2"] * 2)
        expect(answers(), ["status: SERVING"] * 2)

        # Its health check finds nobody.
        deploy("3")
        until(lambda: expect("health_server:3" in running("running", "starting"), True), STEPS)
        # While a task is not healthy, its name does not lead to it.
        expect(answers(), ["status: SERVING"] * 2)
        becomes("rollback_completed")
        expect(running(), ["health_server:2"] * 2)
        expect(answers(), ["status: SERVING"] * 2)
        why_it_was_rolled_back()

        docker("service", "create", "--detach", "--quiet", "--no-resolve-image", "--name=shop_direct", "--replicas=2",
               "--network=shop_default", "--endpoint-mode=dnsrr", "health_server")
        until(lambda: expect(answers("shop_direct"), ["status: SERVING"] * 2))
    finally:
        remove()


def deploy(version):
    """The line of docs/swarm.md."""
    command("env", f"CART_IMAGE=health_server:{version}",
            "docker", "stack", "deploy", "--resolve-image=never", "--compose-file=docker/stack.yaml", "shop")


def running(*states):
    """The images of the tasks that are in these states."""
    lines = docker("service", "ps", "--format={{json .}}", SERVICE).splitlines()
    tasks = [json.loads(line) for line in lines]
    wanted = [state.capitalize() for state in states or ["running"]]
    return sorted(task["Image"] for task in tasks if task["CurrentState"].split()[0] in wanted)


def becomes(state):
    """Waits for this state of the update."""
    look = lambda: docker("service", "inspect", "--format={{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}", SERVICE)
    until(lambda: expect(look(), state), STEPS)
    say("UpdateStatus.State:", state)


def answers(name="tasks.cart"):
    """What each task answers, by the name for all of them."""
    ran = docker("run", "--rm", "--network=shop_default", "grpc_health_probe", f"-addr={name}:50051", "-all-addresses",
                 "-output=json")
    for line in ran.splitlines():
        say(line)
    return ["status: " + json.loads(line)["status"] for line in ran.splitlines()]


def why_it_was_rolled_back():
    """Docker keeps what the probe said in the containers of the tasks that failed."""
    filters = [f"--filter=label=com.docker.swarm.service.name={SERVICE}", "--filter=ancestor=health_server:3"]
    container = docker("ps", "--all", "--quiet", *filters).splitlines()[-1]
    runs = json.loads(docker("inspect", "--format={{json .State.Health.Log}}", container))
    # When Swarm stops a task, it may kill a run of the check.
    last = [run for run in runs if run["ExitCode"] == 1][-1]
    say(json.dumps(last, ensure_ascii=False))
    assert last["Output"].startswith("error: cannot connect to :50051: connection refused"), last


def remove():
    for what in [["service", "rm", "shop_direct"], ["stack", "rm", "shop"]]:
        with contextlib.suppress(AssertionError):
            docker(*what)
    # The engine takes down what it has of them by and by.
    until(lambda: expect(docker("ps", "--all", "--quiet", "--filter=label=com.docker.swarm.service.name"), ""))
    until(lambda: expect(docker("network", "ls", "--quiet", "--filter=name=shop_default"), ""))


def leave():
    """Not while other cases run: an engine that leaves forgets the names of all its containers."""
    if docker("info", "--format={{.Swarm.LocalNodeState}}") != "inactive":
        docker("swarm", "leave", "--force")
