"""The settle stage's patience. What it writes is tested in test_settle.py."""

from typing import Any

from sending.deliver.settling import BUSY_SECONDS, Settler


async def test_results_wait_longer_for_company_while_much_comes() -> None:
    """A batch has its price, whatever is in it: 25 results a batch made settling cost more than twice as much."""
    settler: Settler = Settler(seconds=0.05, most=200)
    anything: Any = object()
    batches = settler.batches()
    assert settler.patience == 0.05
    for _ in range(150):
        settler.put(anything, lambda job: None)
    assert len((await anext(batches)).items) == 150
    assert settler.patience == BUSY_SECONDS
    settler.put(anything, lambda job: None)
    assert len((await anext(batches)).items) == 1
    assert settler.patience == 0.05
