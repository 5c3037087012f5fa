"""What the suites in Python share: how they compare, how they wait, and how they run their cases."""

import time
import traceback

# How long anything may take; what takes longer hangs.
PATIENCE = 120


def expect(got, wanted):
    assert got == wanted, f"expected {wanted!r}\n     got {got!r}"


def until(look, patience=PATIENCE):
    """Looks until there is nothing wrong, for changes that nobody tells; returns what it saw."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return look()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def chosen(cases, words):
    """The cases that have all words in their names."""
    return [case for case in cases if all(word in case.__name__ for word in words)]


def title(case):
    return case.__name__.replace("_", " ")


def outcome(case, *arguments):
    """Runs a case: whether it passed, and the lines that say so."""
    began = time.monotonic()
    try:
        case(*arguments)
    except Exception:
        why = ["      " + line for line in traceback.format_exc().splitlines()]
        return False, [f"FAIL  {title(case)}", *why]
    return True, [f"ok    {title(case)} ({time.monotonic() - began:.0f} s)"]


def run_cases(cases, words, *arguments):
    """Runs the cases that have all words in their names, one after another: the exit code of this run."""
    passed = []
    for case in chosen(cases, words):
        print(f"...   {title(case)}", flush=True)
        has_passed, lines = outcome(case, *arguments)
        passed.append(has_passed)
        print("\n".join(lines), flush=True)
    return summary(passed)


def summary(passed):
    """Prints how many have passed: the exit code of this run."""
    print(f"{passed.count(True)} passed, {passed.count(False)} failed")
    return 0 if passed and all(passed) else 1
