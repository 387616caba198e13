#!/usr/bin/env bash
# Breaks the code on purpose, one line at a time, and expects a test to fail: proof that the tests can.
#   scripts/mutants.sh [WORD]   only the mutants whose block contains WORD
# Blocks in tests/mutants/*.txt: file:, find: (one line as it stands), replace:, test: (a ctest regular expression).
# Works on a copy of the checkout in build-mutants/.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
exec python3 - "$root" "${1:-}" <<'PYTHON'
import pathlib, shutil, subprocess, sys
root, word = pathlib.Path(sys.argv[1]), sys.argv[2]
copy, build = root / "build-mutants" / "source", root / "build-mutants" / "build"
blocks = []
for path in sorted((root / "tests/mutants").glob("*.txt")):
    for text in path.read_text().split("\n\n"):
        lines = [l for l in text.splitlines() if l.strip() and not l.startswith("#")]
        block = dict(l.split(": ", 1) if ": " in l else (l.rstrip(":"), "") for l in lines)
        if {"file", "find", "replace", "test"} <= block.keys() and word in text:
            blocks.append(block)
if not blocks:
    sys.exit(f"mutants: none match '{word}'")
files = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True, check=True).stdout
shutil.rmtree(copy, ignore_errors=True)
for name in filter(None, files.decode().split("\0")):
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(root / name, copy / name)
subprocess.run([copy / "scripts/build.sh", build], check=True)
survived = 0
for number, block in enumerate(blocks, 1):
    target = copy / block["file"]
    text = target.read_text()
    if text.count(block["find"]) < 1:
        print(f"STALE     {block['file']}: '{block['find']}' is not there"); survived += 1; continue
    target.write_text(text.replace(block["find"], block["replace"], 1))
    built = subprocess.run([copy / "scripts/build.sh", build], capture_output=True, text=True)
    verdict = "NO BUILD"  # proves nothing about the tests
    if built.returncode == 0:
        test = subprocess.run(["ctest", "--test-dir", build, "-R", block["test"], "--no-tests=error", "--timeout", "120"], capture_output=True, text=True)
        verdict = "caught" if test.returncode != 0 and "No tests were found" not in test.stdout + test.stderr else "SURVIVED"
    survived += verdict != "caught"
    print(f"{verdict:9} {number}/{len(blocks)} {block['file']}: {block['replace'].strip()[:90]}", flush=True)
    target.write_text(text)
print(f"{len(blocks) - survived} of {len(blocks)} mutants caught")
sys.exit(1 if survived else 0)
PYTHON
