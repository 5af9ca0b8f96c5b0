from __future__ import annotations

from besom.workers.memory import Memory, used


def test_what_trials_leave_in_cycles_is_collected_once_a_worker_has_grown_by_a_share():
    sizes = iter([1000, 1090, 1101, 1000, 1099])  # after the first trial's collection, and from then on
    collected: list[int] = []
    memory = Memory(used=lambda: next(sizes), collect=lambda: collected.append(1))
    found = []
    for _ in range(4):
        memory.trial_over()
        found.append(len(collected))
    assert found == [1, 1, 2, 2]


def test_memory_that_stays_in_use_is_not_collected_for_again():
    sizes = iter([1000, 2000, 2000, 2100])
    collected: list[int] = []
    memory = Memory(used=lambda: next(sizes), collect=lambda: collected.append(1))
    for _ in range(3):
        memory.trial_over()
    assert collected == [1, 1]


def test_what_a_job_of_another_app_leaves_in_cycles_is_collected_at_once():
    collected: list[int] = []
    memory = Memory(always=True, used=lambda: 1000, collect=lambda: collected.append(1))
    for _ in range(3):
        memory.trial_over()
    assert collected == [1, 1, 1]


def test_what_a_process_holds_is_seen():
    before = used()
    held = b"x" * 2**26
    assert used() - before > 0.9 * len(held)
