"""Inputs that nobody meant, for everything that reads what comes from outside: a real collector, and the decoders in this process.

`make fuzz` gives a hundred thousand of them and prints what came of it; the default tests give a share (test_security_fuzz.py).

===========  =====================================================================================================
part         inputs
===========  =====================================================================================================
api          requests by the collector's own OpenAPI description, right ones and wrong ones (schemathesis), answers held to it
wire         requests as bytes on the socket, broken: cut, doubled, flipped, spliced, with other lengths
batches      batches of an enrolled agent, of lines that are broken or only strange, packed and half packed
lines        the same lines to the reader of batches in this process, made by hypothesis and by breaking good ones
gzip         bodies to the unpacker
signed       signed configurations to the agent's verifier
pushed       configurations that are signed, to the agent's reader, on top of a PoP's own file
tokens       token files
===========  =====================================================================================================

What must not happen: a status of 5xx, an answer that the description does not have, an exception that is no refusal, the collector's
end or a traceback in its log, an input that is slow by itself (one that has no answer within a minute is given once more, alone), memory
that grows (of ten rounds, over the last seven: a line through them by least squares may rise by MOST_GROWTH of their mean).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "warehouse"), str(Path(__file__).parent)]

import fuzz_collector  # noqa: E402
import fuzz_decoders  # noqa: E402
from collector_process import is_ready  # noqa: E402
from fuzz_inputs import Part  # noqa: E402
from guarded import GuardedCollector  # noqa: E402

#: Of a hundred inputs, how many go to each part.
SHARES = {"api": 3, "wire": 13, "batches": 4, "lines": 25, "gzip": 25, "signed": 15, "pushed": 8, "tokens": 7}
#: Of so many inputs on they come in ten rounds, and memory is looked at after each; fewer come in two, a tenth first.
JUDGED_FROM = 10_000
MOST_GROWTH = 0.2


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[GuardedCollector, str]]:
    """A collector of its own process on a socket and on loopback, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = GuardedCollector(folder)
    made.fill()
    argv = made.argv(port=port)
    argv[2] = argv[2].replace("host=None", 'host="127.0.0.1"')
    with (folder / "log").open("w") as log:
        made.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True)
        assert is_ready(made.process), made.log
        try:
            yield made, f"http://127.0.0.1:{port}"
        finally:
            if made.process.poll() is not None:
                sys.stderr.write(f"the collector ended with status {made.process.returncode}:\n{made.log[-4000:]}\n")
            made.process.terminate()
            made.process.wait(60)


def own_rss_bytes() -> int:
    """Memory of this process, once what is not used was given back."""
    gc.collect()
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


def growth(sizes: Sequence[int]) -> float | None:
    """By how much of their mean sizes grow over the last seven of ten rounds; None: there were too few rounds."""
    last = sizes[3:]
    if len(last) < 7:
        return None
    slope, _ = statistics.linear_regression(range(len(last)), last)
    return slope * (len(last) - 1) / statistics.fmean(last)


def _give(name: str, part: Part, count: int, collector: GuardedCollector, url: str, rng: random.Random, folder: Path) -> None:
    """So many inputs to one part."""
    if name == "api":
        fuzz_collector.api(part, count, url, rng)
    elif name in {"wire", "batches"}:
        {"wire": fuzz_collector.wire, "batches": fuzz_collector.batches}[name](part, count, collector, rng)
    elif name in {"pushed", "tokens"}:
        {"pushed": fuzz_decoders.pushed, "tokens": fuzz_decoders.tokens}[name](part, count, rng, folder)
    else:
        {"lines": fuzz_decoders.lines, "gzip": fuzz_decoders.unpack, "signed": fuzz_decoders.signed}[name](part, count, rng)


def fuzz(inputs: int, folder: Path, say: Callable[[str], object], *, only: Sequence[str] | None = None) -> dict[str, Any]:
    """Give so many inputs in all, round by round."""
    found = {name: Part() for name in SHARES if only is None or name in only}
    memory: dict[str, list[int]] = {"collector": [], "decoders": []}
    (folder / "decoders").mkdir()
    rounds = [n / 10 for n in range(11)] if inputs >= JUDGED_FROM else [0.0, 0.1, 1.0]
    with running(folder) as (collector, url):
        planned = 0
        for number, (before, upto) in enumerate(itertools.pairwise(rounds)):
            for name, part in found.items():
                whole = inputs * SHARES[name] / 100
                count = max(1, round(whole * upto) - round(whole * before))
                if name == "gzip":  # of some operations there are fewer requests than asked for
                    count += planned - sum(part.inputs for part in found.values())
                planned += count
                began, made = time.monotonic(), Part()
                _give(name, made, count, collector, url, random.Random(f"{name} {number}"), folder / "decoders")
                made.settle()
                made.seconds = time.monotonic() - began
                part.add(made)
                for fault in made.faults:
                    say(f"FAULT {name}: {fault}")
                if upto == 1.0:
                    say(f"{name}: {part.inputs} inputs in {part.seconds:.0f} s, {len(part.faults)} faults, {dict(part.outcomes)}")
            memory["collector"].append(collector.rss_bytes())
            memory["decoders"].append(own_rss_bytes())
            if len(rounds) > 3:
                sizes = ", ".join(f"{name} {all_sizes[-1] / 1e6:.0f} MB" for name, all_sizes in memory.items())
                say(f"round {number + 1} of {len(rounds) - 1}: {sum(part.inputs for part in found.values())} inputs; {sizes}")
        assert collector.process is not None
        is_alive = collector.process.poll() is None
        tracebacks = collector.log.count("Traceback")
    grown = {name: growth(sizes) for name, sizes in memory.items()}
    faults = [fault for part in found.values() for fault in part.faults]
    faults += [f"memory of the {name} grew by {by:.0%} over the last two thirds" for name, by in grown.items() if by and by > MOST_GROWTH]
    return {
        "inputs": sum(part.inputs for part in found.values()),
        "seconds": round(sum(part.seconds for part in found.values()), 1),
        "faults": faults,
        "parts": {
            name: {"inputs": part.inputs, "outcomes": dict(part.outcomes), "seconds": round(part.seconds, 1), "alone_s": part.alone_s}
            for name, part in found.items()
        },
        "is_alive": is_alive,
        "tracebacks": tracebacks,
        "log": collector.log[-2000:] if tracebacks else "",
        "rss_mb": {name: [round(size / 1e6, 1) for size in sizes] for name, sizes in memory.items()},
        "growth": {name: None if by is None else round(by, 3) for name, by in grown.items()},
    }


def main() -> int:
    """Print what came of it; 1 when something came that must not."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--inputs", type=int, default=100_000)
    options.add_argument("--only", choices=list(SHARES), action="append", help="these parts of them; may be repeated")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(chosen.inputs, Path(folder), lambda line: sys.stderr.write(f"{line}\n"), only=chosen.only)
    if chosen.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        sys.stdout.write(
            f"{found['inputs']} inputs in {found['seconds']} s: {len(found['faults'])} faults, {found['tracebacks']} tracebacks\n"
        )
        for name, sizes in found["rss_mb"].items():
            by = found["growth"][name]
            trend = "" if by is None else f", {by:+.1%} over the last two thirds"
            sys.stdout.write(f"memory of the {name}: {sizes[0]} MB after a tenth, {sizes[-1]} MB at the end{trend}\n")
        sys.stdout.writelines(f"FAULT {fault}\n" for fault in found["faults"])
    return 1 if found["faults"] or found["tracebacks"] or not found["is_alive"] else 0


if __name__ == "__main__":
    sys.exit(main())
