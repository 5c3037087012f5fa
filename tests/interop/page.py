"""docs/interop.md: what the cases and the Go tool have shown."""

import go_tool
from servers import HERE

PAGE = HERE.parent.parent / "docs" / "interop.md"
# Not a case as the others, as ALTS needs a network that looks like Google's: alts/run fails the whole run if it fails.
ALTS = ["c-core", "grpc-go"]
WITH_ALTS = "`tests/interop/alts/run` tries it, on a network of its own, beside the Go tool."
WITHOUT_ALTS = "Of these libraries, C core, grpc-go and grpc-java have ALTS; it is tried with the first two."

HEAD = """# What the probe works with

`tests/interop/run` runs the probe against the servers that people run, each in a process of its own, and writes down what it
sees. Every line stands for one or more command lines, with their exit codes, output and JSON, and for what the server has
seen of them.

✓: as it should be. ✓ with a number: the server is an exception, and the probe does there what the note says. – with a number:
it cannot be tried with that server, and the note says why.
"""

GO_HEAD = """
## The Go tool

`grpc-health-probe` {version} runs on the same servers with each command line above that it has the flags for, and with those of
`tests/interop/command_lines.txt`. The exit codes (the probe's are those of `-exit-codes=detailed`) and the words of an answer
are the same, but for these differences:

| | probe | Go tool | when |
|---|---|---|---|
"""


def text(tested, ended):
    """The page, from the libraries and how the cases with each have ended."""
    notes = []
    rows = [
        ["", *(library.name for library in tested)],
        ["---"] * (len(tested) + 1),
        ["version", *(library.version for library in tested)],
    ]
    for title in ended[0]:
        exceptions = [cases[title][1] for cases in ended]
        cells = [noted(notes, *exception) if exception else "✓" for exception in exceptions]
        rows.append([title, *cells])
    alts = [library.slug in ALTS for library in tested]
    rows.append(["ALTS", *(noted(notes, has, WITH_ALTS if has else WITHOUT_ALTS) for has in alts)])
    table = "".join("| " + " | ".join(row) + " |\n" for row in rows)
    page = HEAD + "\n" + table + "\n" + "".join(f"{i + 1}. {note}\n" for i, note in enumerate(notes))
    page += GO_HEAD.format(version=go_tool.version())
    for word, reason, entries in go_tool.sections():
        codes = sorted({tuple(side.split()[0] for side in entry[:2]) for entry in entries})
        page += "".join(f"| {word} | {ours} | {theirs} | {reason} |\n" for ours, theirs in codes)
    return page


def noted(notes, is_checked, note):
    if note not in notes:
        notes.append(note)
    return f"{'✓' if is_checked else '–'} {notes.index(note) + 1}"


def check(page, write):
    """Renews the committed page, or says that it is not what it should be."""
    if write:
        PAGE.write_text(page)
    if PAGE.exists() and PAGE.read_text() == page:
        return []
    return ["docs/interop.md is not what this run has seen; --write renews it"]
