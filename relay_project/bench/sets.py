"""What `make bench` and `make bench-full` run: the name of each result file, and its plan."""

from relay_project.bench.plan import Plan

QUICK = {
    "drain": Plan("drain"),
    "accept": Plan("accept"),
    "end_to_end": Plan("end_to_end", messages=10_000),
    "end_to_end-100-a-second": Plan("end_to_end", messages=1_000, pace=100, batch=1),
}
FULL = {
    **QUICK,
    "drain-100000": Plan("drain", messages=100_000),
    "drain-1-process": Plan("drain", processes=1),
    "drain-1-signature": Plan("drain", signatures=1),
    "drain-20-kb": Plan("drain", body_bytes=20_480),
    "drain-100-kb": Plan("drain", messages=5_000, body_bytes=102_400),
    "accept-1-connection": Plan("accept", connections=1),
    "end_to_end-100000": Plan("end_to_end", messages=100_000),
    "end_to_end-500-a-second": Plan("end_to_end", messages=10_000, pace=500, batch=10),
}
SETS = {"quick": QUICK, "full": FULL}
