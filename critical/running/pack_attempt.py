"""One attempt at the members of a pack, and how each of them is settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from critical.running.search import Assignment, Search
from critical.trials.watch import Watched


@dataclass(slots=True)
class _Member:
    assignment: Assignment
    last: Watched | None = None
    dropped: str | None = None
    """Why it was told to end, if it was."""

    def measured(self) -> float:
        """Its device-seconds up to its last measurement, by the worker's clock."""
        return self.last.device_seconds if self.last is not None else 0.0


class PackAttempt:
    """The members of a pack that are going, until each is settled with the search.

    A member that ends while others go on is settled at once, the last ones with the pack: what
    runs them may still have to be closed. Where the pack ends early, what has passed since its
    last measurement is divided among those that were going.
    """

    def __init__(self, search: Search, assignments: Sequence[Assignment]) -> None:
        self._search = search
        self._going = {number: _Member(one) for number, one in enumerate(assignments)}

    @property
    def going(self) -> list[Assignment]:
        """What has not been settled."""
        return [member.assignment for member in self._going.values()]

    @property
    def longest_wait(self) -> float | None:
        """The longest wait for a measurement to be expected, seconds; None where none is known.

        What is known of an arm are its trials' own shares of it.
        """
        known = [one.longest_wait for one in self.going if one.longest_wait is not None]
        return max(known) * len(self._going) if known else None

    def record(self, row: Sequence[Watched | None]) -> None:
        """Store the measurements of all members, and settle those that have ended.

        Args:
            row: As ``critical.trials.watch_pack.watch_members`` yields it.
        """
        ended = []
        for place, member in self._going.items():
            watched = row[place]
            if watched is not None:
                member.last = watched
                self._search.record(member.assignment.number, watched)
            if watched is None or watched.diverged:
                ended.append(place)
        if len(ended) < len(self._going):
            for place in ended:
                self._finish(self._going.pop(place))

    def finish(self) -> None:
        """Settle what is left of a pack that ran to its end."""
        while self._going:
            self._finish(self._next())

    def fail(self, waited: float, reason: str, kind: str) -> None:
        """Settle a pack that ended by an exception.

        Args:
            waited: Device-seconds since the last measurement.
            reason: The exception, in a line.
            kind: ``memory`` or ``error``.

        Raises:
            RunError: One trial after another has failed; all are settled.
        """
        for number, seconds, last in self._ending(waited):
            self._search.fail(number, seconds, reason, kind, counts=last)

    def retry(self, waited: float, reason: str) -> None:
        """Settle a pack that was lost with its worker; each member goes on, alone.

        Args:
            waited: Device-seconds since the last measurement.
            reason: What the worker died of.

        Raises:
            RunError: One trial after another has failed; all are settled.
        """
        for number, seconds, last in self._ending(waited):
            self._search.retry(number, seconds, reason, counts=last)

    def interrupt(self, waited: float, reason: str) -> None:
        """Settle a pack that was told to stop; its members go on with the next driver.

        Args:
            waited: Device-seconds since the last measurement.
            reason: Why it stopped.
        """
        for number, seconds, _ in self._ending(waited):
            self._search.interrupt(number, seconds, reason)

    def drop(self, number: int, reason: str) -> bool:
        """Tell a trial to end before its time and leave its neighbours; it is settled when it has.

        Args:
            number: The trial's number in the study.
            reason: Why, for the store.

        Returns:
            Whether the trial is one that is going here.
        """
        for member in self._going.values():
            if member.assignment.number == number:
                member.dropped = reason
                self._search.folder.drop(number)
                return True
        return False

    def _next(self) -> _Member:
        """Take a member out before it is settled, so that no error settles it twice."""
        return self._going.pop(next(iter(self._going)))

    def _ending(self, waited: float) -> Iterator[tuple[int, float, bool]]:
        """Take out what is going, one by one: number, device-seconds, and whether it is the last.

        What has passed since the last measurement is divided among them.
        """
        share = waited / max(1, len(self._going))
        while self._going:
            member = self._next()
            yield member.assignment.number, member.measured() + share, not self._going

    def _finish(self, member: _Member) -> None:
        number, seconds = member.assignment.number, member.measured()
        diverged = member.last is not None and member.last.diverged
        if member.dropped is not None and not diverged:
            self._search.drop(number, seconds, member.dropped)
        else:
            self._search.finish(number, seconds, diverged=diverged)
