"""abi.py HEADERS CC - the layout that plugins see, one fact a line: structs with their sizes, members with their offsets,
constants with their values, functions with their types. The compiler computes it; what there is comes from the headers' text.

    abi.py core/include gcc > tests/plugins/abi_1_N.txt     when the headers say minor N for the first time
    abi.py core/include gcc tests/plugins/abi_1_*.txt       compares: what was promised must still hold
"""
import os
import re
import subprocess
import sys
import tempfile

folder, compiler, frozen = sys.argv[1], sys.argv[2], sys.argv[3:]
# Rows and what carries its own size, and what only depotd allocates. All else is allocated by plugins and keeps its size.
GROWING = {"depot_plugin", "depot_field", "depot_section", "depot_metric", "depot_event_row", "depot_task_row", "depot_route",
           "depot_service", "depot_need", "depot_subscription", "depot_lua_fn", "depot_queue_v1", "depot_storage_v1",
           "depot_script_result", "depot_range_result", "depot_job", "depot_reply_view"}


def text_of(name):
    with open(os.path.join(folder, "depot", name), encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", " ", file.read(), flags=re.S)
    return re.sub(r"\\\n", " ", text)


def block_end(text, start):
    depth = 0
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return i
    raise SystemExit("abi.py: a brace has no end")


def members(body):
    """Names that a struct's body declares; of `const char *a, *b;` both."""
    names = []
    while "{" in body:  # what is inside an inner struct, union or enum
        body = re.sub(r"\{[^{}]*\}", "", body)
    for line in body.split(";"):
        pointer = re.search(r"\(\s*\*\s*(?:const\s+)?(\w+)\s*\)\s*\(", line)
        if pointer:
            names.append(pointer.group(1))
            continue
        line = re.sub(r"\w+\([^()]*\)", "TABLE", line)
        names += [m.group(1) for part in line.split(",") if (m := re.search(r"(\w+)\s*(?:\[[^]]*\])*\s*$", part.strip()))]
    return names


def facts():
    for header in sorted(n for n in os.listdir(os.path.join(folder, "depot")) if n.endswith(".h")):
        text = text_of(header)
        for match in re.finditer(r"^typedef struct (\w+) \{", text, re.M):
            end = block_end(text, match.end() - 1)
            name = match.group(1)
            yield header, '"struct %s %%zu\\n", sizeof(%s)' % (name, name)
            for member in members(text[match.end():end]):
                yield header, '"%s.%s %%zu\\n", offsetof(%s, %s)' % (name, member, name, member)
        for match in re.finditer(r"\benum(?: \w+)? \{", text):
            end = block_end(text, match.end() - 1)
            for constant in re.findall(r"(?:^|,)\s*(DEPOT_\w+)\s*(?:=[^,]*)?(?=,|$)", re.sub(r"#.*", "", text[match.end():end]).strip()):
                yield header, '"%s %%lld\\n", (long long)%s' % (constant, constant)


def functions():
    for header in sorted(n for n in os.listdir(os.path.join(folder, "depot")) if n.endswith(".h")):
        text = "\n".join(line for line in text_of(header).splitlines() if not line.startswith("#"))
        for declaration in re.findall(r"^DEPOT_API\s+([^;{=]+);", text, re.M):
            declaration = re.sub(r"__attribute__\s*\(\(.*?\)\)(?=\s|$)|DEPOT_MUST_USE|DEPOT_PRINTF\(.*?\)", "", declaration)
            yield "function " + re.sub(r"\s*\*\s*", " *", " ".join(declaration.split()))


def listing():
    lines = ["#include <stdio.h>", '#include "depot/plugin.h"']
    listed = list(facts())
    lines += ['#include "depot/%s"' % header for header in sorted({header for header, _ in listed})]
    lines += ["int main(void)", "{", 'printf("ABI %u.%u\\n", DEPOT_ABI_MAJOR, DEPOT_ABI_MINOR);']
    lines += ["printf(%s);" % fact for _, fact in listed]
    lines += ["#define DEPOT_ERROR(symbol, number, id, http, exit, retry, meaning) "
              'printf("error %s %d %s %d\\n", #symbol, number, id, http);', '#include "depot/errors.def"', "return 0;", "}"]
    with tempfile.TemporaryDirectory() as work:
        source, program = os.path.join(work, "abi.c"), os.path.join(work, "abi")
        with open(source, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
        subprocess.run([compiler, "-std=gnu11", "-I", folder, "-o", program, source], check=True)
        text = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout
    return text.splitlines() + sorted(functions())


def grown(old, now):
    """A struct that may grow and did."""
    kind, name, size = old.split(" ", 2) if old.startswith("struct ") else ("", "", "0")
    return kind and name in GROWING and any(line.startswith("struct %s " % name) and int(line.split()[2]) > int(size) for line in now)


def broken(old, now):
    """Facts of a frozen listing that do not hold any more."""
    return [line for line in old[1:] if line not in now and not grown(line, now)]


def main():
    now = listing()
    if not frozen:
        print("\n".join(now))
    faults, known = [], False
    for name in frozen:
        with open(name, encoding="utf-8") as file:
            old = file.read().splitlines()
        faults += ["%s: no longer true: %s" % (name, line) for line in broken(old, now)]
        if old[0] == now[0]:
            known = True
            faults += ["%s: %s is not in it: raise DEPOT_ABI_MINOR, and list it" % (name, line) for line in now if line not in old]
    if frozen and not known:
        faults.append("no listing of %s: abi.py core/include gcc > tests/plugins/abi_%s.txt" % (now[0], now[0].split()[1].replace(".", "_")))
    print("\n".join(faults), end="\n" if faults else "")
    sys.exit(1 if faults else 0)


main()
