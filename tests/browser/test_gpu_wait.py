"""Waiting for a GPU: both ways are tried and the faster one stays. The device is one that the test makes up."""

from __future__ import annotations

from typing import Any

from nnjit.runtime.gpu_plan import WAIT

RUNS = """async ([asked, left, count, policy]) => {
  const { Waiter } = await import('/engine/webgpu/wait.js');
  const waiter = new Waiter(true, policy);
  const submissions = [];
  for (let i = 0; i < count; i++) {
    let seen = 0;
    let finish = () => {};
    const done = new Promise((resolve) => { finish = resolve; });
    const slow = setTimeout(() => finish(), left);
    // the first submission decides how long this run takes
    const submit = () => {
      if (seen++) return;
      clearTimeout(slow);
      setTimeout(() => finish(), asked);
    };
    await waiter.until({ queue: { submit } }, done);
    submissions.push(seen);
  }
  return submissions;
}"""


# Asked from the start: a millisecond that a busy machine makes fifty is over before what would be slept through first.
AT_ONCE = {**WAIT, "earlyMs": 1000}


def test_asking_stays_where_it_helps(page: Any) -> None:
    submissions = page.evaluate(RUNS, [1, 60, 12, AT_ONCE])
    assert submissions[:7].count(0) == 4 and all(submissions[7:])


def test_asking_ends_where_it_does_not(page: Any) -> None:
    submissions = page.evaluate(RUNS, [60, 1, 12, AT_ONCE])
    assert sum(n > 0 for n in submissions[:7]) == 3 and not any(submissions[7:])


def test_what_fails_is_told(page: Any) -> None:
    found = page.evaluate(
        """async (policy) => {
      const { Waiter } = await import('/engine/webgpu/wait.js');
      const device = { queue: { submit() {} } };
      const lost = Promise.reject(new Error('lost'));
      const waiter = new Waiter(true, policy);
      await waiter.until(device, Promise.resolve());
      return waiter.until(device, lost).then(() => 'nothing', (error) => error.message);
    }""",
        WAIT,
    )
    assert found == "lost"


def test_asking_ends_after_some_time(page: Any) -> None:
    """A device that takes long is left alone: submissions come for some milliseconds only."""
    found = page.evaluate(
        """async (policy) => {
      const { Waiter } = await import('/engine/webgpu/wait.js');
      let seen = 0;
      const done = new Promise((resolve) => setTimeout(resolve, 400));
      const waiter = new Waiter(true, policy);
      const device = { queue: { submit: () => seen++ } };
      await waiter.until(device, Promise.resolve());
      await waiter.until(device, done);
      return seen;
    }""",
        WAIT,
    )
    assert 0 < found <= 30
