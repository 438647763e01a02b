"""What the devices of a compiled program send each other."""

import math
import re
from collections import Counter

KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"


def collectives(program):
    """How often a compiled program, given as text, has each (loops around it, kind, shapes, bytes).

    It is a list of computations that call each other. An operation within two loops is done in
    every step of `train`: one loop is over the observation times, one over steps."""
    found, calls, name = [], [], ""
    for line in re.sub(r"/\*.*?\*/", "", program).splitlines():
        if re.match(r"\S.*\{$", line):
            name = line.removeprefix("ENTRY ").split()[0]
            entry = name if line.startswith("ENTRY") else ""
            calls += [("", name, 0)] if entry else []
        for word, called in re.findall(r"(body|condition|to_apply|calls)=(%[\w.\-]+)", line):
            calls.append((name, called, int(word == "body")))
        for branches in re.findall(r"branch_computations=\{(.*?)\}", line):
            calls += [(name, called, 0) for called in branches.split(", ")]
        operation = re.search(rf"= (.*?) ({KINDS})(?:-start)?\(", line)
        if operation:
            shapes = re.findall(r"([a-z]+)(\d*)\[([\d,]*)\]", operation[1])
            size = sum(
                max(int(bits or 8) // 8, 1) * math.prod(int(n) for n in shape.split(",") if n)
                for _, bits, shape in shapes
            )
            what = ", ".join(f"{kind}{bits}[{shape}]" for kind, bits, shape in shapes)
            found.append((name, operation[2], what, size))
    loops = {"": 0}
    for _ in calls:  # callers come after what they call
        for caller, called, more in calls:
            if caller in loops:
                loops[called] = max(loops.get(called, 0), loops[caller] + more)
    return Counter((loops.get(name, 0), *rest) for name, *rest in found)


def step_bytes(found, loops=2):
    """The bytes of all operations within so many loops."""
    return sum(count * size for (around, *_, size), count in found.items() if around >= loops)
