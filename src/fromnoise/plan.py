"""The plan of a run in force: where sheets, saves and checks fall, and how the clock revises it.

Everything but the measured rate is a function of the stored revisions and images_seen, so that a resumed run makes the
sheets and saves that an uninterrupted one makes.
"""

from collections.abc import Callable, Sequence

from fromnoise.recipe import Recipe, plan_positions, revised_total
from fromnoise.run_folder import Revision, RunFolder

RATED = 5  # steps at least that a rate is measured over
APART = 1.2  # images seen at a sheet over those at the one before it, at least


class Clock:
    """Seconds used by the run over all its starts, and the rate since it was last asked for."""

    def __init__(self, elapsed: Callable[[], float], seconds_before: float, images_seen: int) -> None:
        self.elapsed, self.before, self.mark = elapsed, seconds_before, (elapsed(), images_seen)

    def seconds(self) -> float:
        """Used so far."""
        return self.before + self.elapsed()

    def images(self, images_seen: int) -> int:
        """Seen since the rate was last asked for."""
        return images_seen - self.mark[1]

    def rate(self, images_seen: int) -> float:
        """Images a second since it was last asked for."""
        (then, seen), now = self.mark, self.elapsed()
        self.mark = (now, images_seen)
        return (images_seen - seen) / max(now - then, 1e-9)


class Plan:
    """The revision in force and the positions that follow from it."""

    def __init__(self, recipe: Recipe, folder: RunFolder, images_seen: int) -> None:
        self.recipe, self.folder, self.stored, self.last_sheet = recipe, folder, folder.revisions(), 0
        newest = self._due(images_seen)
        for number in range(newest + 1):
            self._apply(number)
            self._replay_sheets(self.stored[number + 1].images_seen if number < newest else images_seen)

    def _apply(self, number: int) -> None:
        self.number, self.in_force = number, self.stored[number]
        self.positions = plan_positions(self.in_force.images_total, self.in_force.minutes)

    def _replay_sheets(self, images_seen: int) -> None:
        """Those made under the plan in force up to here, known from the plan alone."""
        batch, first = self.recipe.batch, self.in_force.images_seen + self.recipe.batch
        for position in self.positions.sheets:
            step = max(-(-position // batch) * batch, first)
            if step <= images_seen:
                self.sheet_due(step)

    def sheet_due(self, images_seen: int) -> bool:
        """Whether the step that ends here makes one: at a position of the plan, late where a revision moved it behind.

        Not where a revision brings back a position that has its sheet already.
        """
        due = [p for p in self.positions.sheets if APART * self.last_sheet < p <= images_seen]
        if not due and images_seen < self.positions.end:
            return False
        self.last_sheet = images_seen
        return True

    def revise(self, clock: Clock, before: int, now: int) -> bool:
        """Take the stored revision that holds from here on, or, at a check, make one from the clock and commit it."""
        newest = self.number + 1 == len(self.stored)
        since = min(clock.images(now), now - self.in_force.images_seen)  # a replayed revision sets no mark
        measurable = now < self.positions.end and since >= RATED * self.recipe.batch
        if newest and measurable and passed(self.positions.checks, before, now):
            self.stored.append(self._measured(clock, now))
            self.folder.revise(self.number + 1, self.stored[-1])
        if self._due(now) == self.number:
            return False
        self._apply(self._due(now))
        return True

    def _due(self, images_seen: int) -> int:
        return sum(revision.images_seen <= images_seen for revision in self.stored) - 1

    def _measured(self, clock: Clock, now: int) -> Revision:
        minutes, seconds = self.in_force.minutes, clock.seconds()
        assert minutes is not None, "only a plan made from minutes has checks"
        total = revised_total(minutes, now, seconds, clock.rate(now), self.recipe.batch)
        return Revision(images_seen=now, images_total=total, minutes=minutes, seconds=seconds)


def passed(positions: Sequence[int], before: int, now: int) -> bool:
    """Whether a step from ``before`` to ``now`` reaches or passes one of them."""
    return any(before < position <= now for position in positions)
