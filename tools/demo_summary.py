"""demo_summary.py - the table at the end of `make demo`, from what depotctl said. Fails when the figures do not add up."""
import json
import sys

top, began, ended = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])


def load(name):
    with open(f"{top}/{name}.json", encoding="utf-8") as f:
        return json.load(f)


def items(doc):
    return doc["items"] if isinstance(doc, dict) else doc


report = load("report")["result"]
scrub = load("scrub")["result"]
dlq = items(load("dlq"))
jobs = sum(q["succeeded"] + q["dlq"] for q in items(load("queues")))
seconds = ended - began
rows = [
    ("files recorded", f"{report['files']:,}"),
    ("bytes in", f"{report['bytes']:,}"),
    ("bytes stored", f"{scrub['stored_bytes']:,} in {scrub['objects']:,} objects, all verified"),
    ("duplicates found", f"{report['duplicates']:,}"),
    ("jobs", f"{jobs:,} in {seconds:.1f} s: {jobs / seconds:,.0f} a second, from first event to last result"),
    ("retries", f"{report['retried']:,} (every hundredth file fails once on purpose)"),
    ("dead letters", f"{len(dlq)} (three files that are not there); see: depotctl queue dlq, depotctl job timeline ID"),
]
width = max(len(name) for name, _ in rows)
print("\n== summary")
for name, value in rows:
    print(f"  {name:<{width}}  {value}")
for job in dlq[:5]:
    print(f"  {'':<{width}}  {job['id']}  {job['dlq_reason_code']}  {job['last_error_code']}")
faults = []
if report["files"] < 500:
    faults.append(f"only {report['files']} files: give a larger folder with DEMO_INPUT")
if scrub["corrupt"] != 0:
    faults.append(f"{scrub['corrupt']} damaged objects")
if report["files"] != jobs - len(dlq):
    faults.append(f"{jobs - len(dlq)} jobs succeeded, but {report['files']} files are recorded")
if len(dlq) != 3:
    faults.append(f"{len(dlq)} dead letters, expected the 3 made on purpose")
for fault in faults:
    print(f"demo: {fault}", file=sys.stderr)
sys.exit(1 if faults else 0)
