"""The cases of Watch."""

import time

from cases import case
from probes import DOWN
from servers import Server

SERVING = "status: SERVING"


def stopped(watch, *words):
    """A watch ends well, and has said these words and nothing else."""
    code, stderr = watch.stop()
    assert code == 0, f"exit code {code}, stderr: {stderr}"
    for word in (*words, "stopped by SIGTERM"):
        assert word in stderr, f"expected {word!r} in {stderr!r}"
    if not words:
        assert stderr == "stopped by SIGTERM\n", f"stderr: {stderr!r}"


def of_changing(cell, address, *flags):
    """A watch of a service that is not serving, and that has said so."""
    cell.server.say("changing=NOT_SERVING")
    watch = cell.watch(cell.address(address), "-service=changing", *flags)
    watch.expect("at first", DOWN)
    return watch


def ends_well_after_a_change(cell, watch):
    cell.server.say("changing=SERVING")
    watch.expect("after the change", SERVING)
    stopped(watch)


@case("Watch: a service that is not there yet")
def registered_late(cell):
    watch = cell.watch(cell.address("plaintext"), "-service=new")
    watch.expect("before it is set", 'service unhealthy (responded with "SERVICE_UNKNOWN")')
    cell.server.say("new=SERVING")
    watch.expect("after it is set", SERVING)
    stopped(watch)


@case("Watch: changes")
def changes(cell):
    watch = of_changing(cell, "plaintext")
    for status, line in (("SERVING", SERVING), ("NOT_SERVING", DOWN), ("SERVING", SERVING)):
        cell.server.say(f"changing={status}")
        watch.expect(status, line)
    stopped(watch)


@case("Watch: over TLS")
def over_tls(cell):
    watch = of_changing(cell, "tls", "-tls", f"-tls-ca-cert={cell.made.ca}")
    ends_well_after_a_change(cell, watch)


@case("Watch: gzip")
def compressed(cell):
    watch = of_changing(cell, "plaintext", "-gzip")
    ends_well_after_a_change(cell, watch)


@case("Watch: a server that pings, and allows no pings")
def keepalive(cell):
    watch = of_changing(cell, "strict")
    # It pings each second, and waits for an answer as long.
    time.sleep(3.5)
    ends_well_after_a_change(cell, watch)


@case("Watch: GOAWAY by age")
def goaway_by_age(cell):
    watch = of_changing(cell, "aged")
    # Long enough for two connections.
    time.sleep(3)
    ends_well_after_a_change(cell, watch)


@case("Watch: the server stops in good order, and starts again")
def graceful_stop(cell):
    # As users run it: with more time to connect, the watch goes on without a word.
    watch = of_changing(cell, "stoppable", "-connect-timeout=1s")
    begin = time.monotonic()
    cell.server.say("stop")
    cell.server.next("stopped")
    took = time.monotonic() - begin
    assert took < 10, f"the watch has held up the server's end for {took:.1f} s"
    watch.await_error("error: ")
    cell.server.say("changing=SERVING")
    cell.server.say("start")
    # A server that ends its watches first, and takes new ones until it is gone, is connected to once more before.
    watch.expect_after("again", SERVING, DOWN)
    stopped(watch, "connected to 127.0.0.1:", "again")


@case("Watch: the server is killed, and starts again")
def restart(cell):
    path = cell.made.folder / f"{cell.library.slug}-restart.sock"

    def start():
        server = Server(cell.library, cell.made.folder, {"unix": f"unix:{path}"})
        cell.made.on_end(server.kill)
        server.wait()
        return server

    first = start()
    watch = cell.watch(first.addresses["unix"], "-service=down")
    watch.expect("at first", DOWN)
    first.kill()
    path.unlink(missing_ok=True)
    second = start()
    watch.expect("again", DOWN)
    second.say("down=SERVING")
    watch.expect("changed", SERVING)
    stopped(watch, "error: watching unix:", f"connected to unix:{path} again")
